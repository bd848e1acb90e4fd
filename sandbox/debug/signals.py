"""What becomes of a signal at which the guest has stopped, before it is delivered: ptrace(2), signal-delivery-stop.

Who goes on says: as it was (nothing said), none (0), or another; as PTRACE_CONT's ``data`` does.
"""

from __future__ import annotations

from sandbox.debug.run_control import RunControl, Steps
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_USER
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import Task


class SignalJudge:
    """``Signals.judge`` of a kernel under a debugger."""

    def __init__(self, signals: Signals, control: RunControl) -> None:
        self._signals, self._control = signals, control
        self.verdict: int | None = None
        """The number that the signal shall have; 0 for no signal, None for what it is."""
        self.info: SigInfo | None = None
        """What shall be known of it, where that was changed."""

    def __call__(self, task: Task, info: SigInfo) -> SigInfo | None:
        """What is left of a signal.  One that is blocked waits, as another one that a tracer gives does."""
        verdict, changed = self.verdict, self.info
        self.verdict = self.info = None
        self._count_step(task)
        number = info.signo if verdict is None else verdict
        if number != info.signo:
            task.report = ""
        if not number:
            return None
        if number != info.signo:
            info = SigInfo.sent(number, SI_USER, 0)
        elif changed is not None and changed.signo == number:
            info = changed
        if bit_of(number) & task.signals.blocked:
            self._signals.send_signal(task, number, info, thread=True)
            return None
        return info

    def _count_step(self, task: Task) -> None:
        """A step that leads into a handler ends before its first instruction."""
        goal = self._control.goal
        if isinstance(goal, Steps) and goal.flow == ("task", task.pid):
            goal.faulted_at = task.context.eip

    def inject(self, task: Task, number: int) -> None:
        """A signal of the debugger's own, delivered before the task's next instruction."""
        self._signals.send_signal(task, number, SigInfo.sent(number, SI_USER, 0), thread=True)
        self._control.yields = True
