"""Interval timers of a process: one in the machine's time, two in the time that it runs in ring 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_KERNEL, SIGALRM, SIGPROF, SIGVTALRM
from sandbox.kernel.task.signal import send_signal

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.sched import Timer
    from sandbox.kernel.task.task import Task

ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF = range(3)
_SIGNALS = {ITIMER_REAL: SIGALRM, ITIMER_VIRTUAL: SIGVTALRM, ITIMER_PROF: SIGPROF}


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


def get_timer(kernel: Kernel, task: Task, which: int) -> tuple[int, int]:
    """Blocks until a timer ends, 0 when it is not set, and its period."""
    if task.timers is None:
        return 0, 0
    interval = task.timers.intervals[which]
    return max(1, interval.due - _now(kernel, task, which)) if interval.due else 0, interval.period


def set_timer(kernel: Kernel, task: Task, which: int, left: int, period: int) -> None:
    """Set a timer to end after ``left`` blocks and then every ``period``; 0 clears it."""
    if kernel.broken("no-itimer"):
        return
    timers = task.timers = task.timers or IntervalTimers()
    interval = timers.intervals[which]
    interval.due, interval.period = (_now(kernel, task, which) + left, period) if left else (0, 0)
    _arm(kernel, task, which)


def clear_timers(kernel: Kernel, task: Task) -> None:
    """The task ends."""
    if task.timers is not None:
        for which in _SIGNALS:
            set_timer(kernel, task, which, 0, 0)


def tick(kernel: Kernel, task: Task, blocks: int) -> None:
    """A task ran in ring 3 while a timer counts that."""
    task.cpu_timer_left = max(0, task.cpu_timer_left - blocks)
    if not task.cpu_timer_left and task.timers is not None:
        for which in (ITIMER_VIRTUAL, ITIMER_PROF):
            if 0 < task.timers.intervals[which].due <= task.utime:
                _expire(kernel, task, which)
        _arm(kernel, task, ITIMER_VIRTUAL)


def _now(kernel: Kernel, task: Task, which: int) -> int:
    return kernel.sched.now if which == ITIMER_REAL else task.utime


def _arm(kernel: Kernel, task: Task, which: int) -> None:
    timers = task.timers
    assert timers is not None
    if which == ITIMER_REAL:
        if timers.real is not None:
            kernel.sched.remove_timer(timers.real)
            timers.real = None
        if timers.intervals[which].due:
            timers.real = kernel.sched.add_timer(timers.intervals[which].due, lambda: _ring(kernel, task))
        return
    due = [timers.intervals[each].due for each in (ITIMER_VIRTUAL, ITIMER_PROF) if timers.intervals[each].due]
    task.cpu_timer_left = max(1, min(due) - task.utime) if due else 0


def _ring(kernel: Kernel, task: Task) -> None:
    assert task.timers is not None
    task.timers.real = None
    _expire(kernel, task, ITIMER_REAL)
    _arm(kernel, task, ITIMER_REAL)


def _expire(kernel: Kernel, task: Task, which: int) -> None:
    """Send the signal; a period begins where the last one ended, and periods that nobody saw are skipped."""
    assert task.timers is not None
    interval = task.timers.intervals[which]
    now = _now(kernel, task, which)
    if interval.period:
        interval.due += (max(0, now - interval.due) // interval.period + 1) * interval.period
    else:
        interval.due = 0
    number = _SIGNALS[which]
    send_signal(kernel, task, number, SigInfo.sent(number, SI_KERNEL, 0))
