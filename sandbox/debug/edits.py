"""What a person has set, as a journal: at which moment, and what was asked for, so that it can be done once more.

Who goes to a moment behind one begins at a checkpoint before it, and does on the way what was done there
(``Traveller``).  An edit is a request and a stop, not memory: thousands of them are no more than their words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.stops import Moment, Stop
from sandbox.debug.target import Refused
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError


class NotTheSame(SandboxError):
    """The run did not come to a moment that it came to before: something from outside has changed."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class Edit:
    """What was done at a stop: ``function(debugger, *arguments)``, with which CPU and which task looked at."""

    stop: Stop
    cpu: int
    pid: int | None
    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    @property
    def moment(self) -> Moment:
        return self.stop.moment

    def again(self, debugger: Debugger) -> None:
        """Do it once more: the guest stands where it stood.  Raises NotTheSame where that cannot be."""
        debugger.stop = self.stop
        _look(debugger, self.stop, self.cpu, self.pid)
        answer = self.function(debugger, *self.arguments)
        if answer.error:
            raise NotTheSame(f"what was set at {self.moment.text()} cannot be set again: {answer.error}")
        debugger.target.control.stands_nowhere()


def edit_of(debugger: Debugger, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Edit:
    """One that is done here and now."""
    assert debugger.stop is not None
    target = debugger.target
    task = target.task if isinstance(target, KernelTarget) else None
    return Edit(debugger.stop, target.viewed_cpu, None if task is None else task.pid, function, arguments)


def _look(debugger: Debugger, stop: Stop, cpu: int, pid: int | None) -> None:
    """At the same CPU and task as then."""
    target = debugger.target
    target.look_again(stop)
    if target.viewed_cpu != cpu:
        target.view_cpu(cpu)
    if isinstance(target, KernelTarget) and pid is not None and (target.task is None or target.task.pid != pid):
        try:
            target.view_task(pid)
        except Refused as error:
            raise NotTheSame(f"at {stop.moment.text()}: {error.summary}") from error
