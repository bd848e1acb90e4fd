"""Why and where a target stands: plain data, which goes over a pipe and into JSON as it is."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from sandbox.records import asdict, dataclass, field

DEATH, WAITING, HELD = "death", "input", "held"
"""Events of moments at which a target stops by itself: a task or the kernel is about to end, the host is waited for,
all sleep who are not held back."""


class StopKind(StrEnum):
    """What has stopped a target."""

    START = "start"
    STEP = "step"
    BREAKPOINT = "breakpoint"
    WATCHPOINT = "watchpoint"
    CATCH = "catch"
    MOMENT = "moment"
    """A place in time that was asked for."""
    INTERRUPT = "interrupt"
    """Ctrl-C."""
    END = "end"
    """The guest is at its end; the machine stays."""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A place in a run: the machine's clock in blocks, and the instruction that comes next.

    ``eip`` is linear.  Between two transfers of control the clock stands still and the instructions follow each other,
    so that the two together name one place.  ``event`` tells what was reported there where the stop lies between two
    instructions: a fault before its answer, a system call.
    """

    time: int
    cpu: int
    eip: int
    event: str = ""

    def __reduce__(self) -> tuple[type[Moment], tuple[Any, ...]]:
        """Smaller and quicker on its way through a pipe."""
        return Moment, (self.time, self.cpu, self.eip, self.event)

    def text(self) -> str:
        """As every stop prints it and ``goto`` takes it: ``21217:080480b4``, on another CPU ``21217:080480b4@1``."""
        return f"{self.time}:{self.eip:08x}" + (f"@{self.cpu}" if self.cpu else "")


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop.  ``pid`` is the task's, 0 for none; ``points`` are the numbers of what was hit.

    ``headline`` is one line; ``details`` are what a program wants to know of this kind of stop.
    """

    kind: StopKind
    moment: Moment
    pid: int
    headline: str
    points: tuple[int, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Callable[..., Stop], tuple[Any, ...]]:
        """The same."""
        return _stop, (self.kind.value, self.moment, self.pid, self.headline, self.points, self.details)

    def plain(self) -> tuple[Any, ...]:
        """Nothing but tuples, words and numbers, as far as the details are; ``Stop.of`` makes it a stop again."""
        at = self.moment
        where = at.time, at.cpu, at.eip, at.event
        return self.kind.value, where, self.pid, self.headline, self.points, self.details

    @staticmethod
    def of(kind: str, where: tuple[Any, ...], *rest: Any) -> Stop:
        """What ``plain`` gave."""
        return Stop(StopKind(kind), Moment(*where), *rest)

    @property
    def ended(self) -> bool:
        """Nothing will run any more."""
        return self.kind is StopKind.END

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "kind": self.kind.value, "moment": {**asdict(self.moment), "text": self.moment.text()}}


def _stop(kind: str, *rest: Any) -> Stop:
    """A stop that came through a pipe."""
    return Stop(StopKind(kind), *rest)
