"""Interval timers of a process: one in the machine's time, two in the time that it runs in ring 3."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_KERNEL, SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.time import SECOND, Clock, Deadlines, Timer
from sandbox.kernel.mm.rlimit import RLIM_INFINITY, RLIMIT_CPU
from sandbox.kernel.task.interval import IntervalTimers
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.task import Task, ThreadGroup

ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF = range(3)
_SIGNALS = {ITIMER_REAL: SIGALRM, ITIMER_VIRTUAL: SIGVTALRM, ITIMER_PROF: SIGPROF}


def arm_cpu_limit(task: Task) -> None:
    """RLIMIT_CPU is new: when it is to be looked at.  0 seconds are one, as in Linux."""
    soft = min(task.limits[RLIMIT_CPU])
    group = task.group
    group.cpu_limit = 0 if soft == RLIM_INFINITY else max(1, soft) * SECOND
    group.cpu_limit_left = group.cpu_limit - group.utime - group.stime


class Timers:
    """Sets and rings the timers of all processes; the scheduler tells of time in ring 3 by ``tick``."""

    __slots__ = ("_broken", "_clock", "_sched", "_signals")

    def __init__(self, sched: Scheduler, signals: Signals, clock: Clock, broken: Breakage) -> None:
        self._sched, self._signals, self._clock = sched, signals, clock
        self._broken = broken("no-itimer")

    def get_timer(self, task: Task, which: int) -> tuple[int, int]:
        """Blocks until a timer ends, 0 when it is not set, and its period."""
        timers = task.group.timers
        if timers is None:
            return 0, 0
        interval = timers.intervals[which]
        return max(1, interval.due - self._now(task, which)) if interval.due else 0, interval.period

    def set_timer(self, task: Task, which: int, left: int, period: int) -> None:
        """Set a timer to end after ``left`` blocks and then every ``period``; 0 clears it."""
        if self._broken:
            return
        group = task.group
        timers = group.timers = group.timers or IntervalTimers()
        interval = timers.intervals[which]
        interval.due, interval.period = (self._now(task, which) + left, period) if left else (0, 0)
        self._arm(task, which)

    def clear_timers(self, task: Task) -> None:
        """The process ends."""
        if task.group.timers is not None:
            for which in _SIGNALS:
                self.set_timer(task, which, 0, 0)
            task.group.timers.cpu = Deadlines()

    def add_cpu_timer(self, group: ThreadGroup, at: int, action: Callable[[], None]) -> Timer:
        """Let something happen when a process has run so many blocks in ring 3."""
        timers = group.timers = group.timers or IntervalTimers()
        timer = Timer(at, action)
        timers.cpu.add(at, timer)
        self._arm_cpu(group, timers)
        return timer

    def remove_cpu_timer(self, group: ThreadGroup, timer: Timer) -> None:
        """It will not happen; no effect when it has."""
        if group.timers is not None and timer in group.timers.cpu:
            group.timers.cpu.remove(timer)
            self._arm_cpu(group, group.timers)

    def tick(self, task: Task, blocks: int) -> None:
        """A task ran in ring 3 while a timer counts that."""
        group = task.group
        group.cpu_timer_left = max(0, group.cpu_timer_left - blocks)
        if not group.cpu_timer_left and group.timers is not None:
            for which in (ITIMER_VIRTUAL, ITIMER_PROF):
                if 0 < group.timers.intervals[which].due <= group.utime:
                    self._expire(task, which)
            self._ring_cpu(group, group.timers)
            self._arm_cpu(group, group.timers)

    def cpu_limit_reached(self, task: Task) -> None:
        """SIGXCPU for every second past the soft RLIMIT_CPU, SIGKILL at the hard one (setrlimit(2))."""
        soft, hard = task.limits[RLIMIT_CPU]
        used = task.group.utime + task.group.stime
        if used >= hard * SECOND:
            self._signals.force_signal(task, SIGKILL, f"RLIMIT_CPU: it has run for {hard} s")
        elif used >= soft * SECOND:
            self._signals.send_signal(task, SIGXCPU)
            task.limits[RLIMIT_CPU] = soft + 1, hard
        arm_cpu_limit(task)

    def _now(self, task: Task, which: int) -> int:
        return self._clock.now if which == ITIMER_REAL else task.group.utime

    def _arm(self, task: Task, which: int) -> None:
        group = task.group
        timers = group.timers
        assert timers is not None
        if which == ITIMER_REAL:
            if timers.real is not None:
                self._sched.remove_timer(timers.real)
                timers.real = None
            if timers.intervals[which].due:
                timers.real = self._sched.add_timer(timers.intervals[which].due, lambda: self._ring(group.leader))
            return
        self._arm_cpu(group, timers)

    def _arm_cpu(self, group: ThreadGroup, timers: IntervalTimers) -> None:
        due = [timers.intervals[each].due for each in (ITIMER_VIRTUAL, ITIMER_PROF) if timers.intervals[each].due]
        due += [] if timers.cpu.first is None else [timers.cpu.first]
        group.cpu_timer_left = max(1, min(due) - group.utime) if due else 0

    def _ring_cpu(self, group: ThreadGroup, timers: IntervalTimers) -> None:
        for timer in timers.cpu.due(group.utime):
            timer.action()

    def _ring(self, task: Task) -> None:
        assert task.group.timers is not None
        task.group.timers.real = None
        self._expire(task, ITIMER_REAL)
        self._arm(task, ITIMER_REAL)

    def _expire(self, task: Task, which: int) -> None:
        """Send the signal; a period begins where the last one ended, and periods that nobody saw are skipped."""
        timers = task.group.timers
        assert timers is not None
        interval = timers.intervals[which]
        now = self._now(task, which)
        if interval.period:
            interval.due += (max(0, now - interval.due) // interval.period + 1) * interval.period
        else:
            interval.due = 0
        number = _SIGNALS[which]
        self._signals.send_signal(task, number, SigInfo.sent(number, SI_KERNEL, 0))
