"""What a process keeps about its interval timers."""

from __future__ import annotations

from sandbox.kernel.base.time import Deadlines, Timer
from sandbox.records import dataclass, field


@dataclass(slots=True)
class Interval:
    """``due`` is a time in blocks (the machine's, or ``utime``), 0 when not set; ``period`` 0 is once."""

    due: int = 0
    period: int = 0


@dataclass(slots=True)
class IntervalTimers:
    """A task's three, by ITIMER_ number."""

    intervals: tuple[Interval, Interval, Interval] = field(default_factory=lambda: (Interval(), Interval(), Interval()))
    real: Timer | None = None
    cpu: Deadlines[Timer] = field(default_factory=Deadlines)
    """Others that count its time in ring 3."""
