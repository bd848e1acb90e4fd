"""POSIX timers (timer_create(2)): of one process, on any clock, with an overrun count.

As in Linux a periodic timer waits for its signal to be taken before it is started again; the periods that went by
meanwhile are its overrun.  Times are nanoseconds since the machine started, or of a task's time in ring 3.
"""

from __future__ import annotations

from struct import pack

from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_TIMER
from sandbox.kernel.base.time import BLOCK_NANOSECONDS, Clock, Timer
from sandbox.kernel.task.cred import User
from sandbox.kernel.task.itimer import Timers
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.sigpending import is_ignored
from sandbox.kernel.task.task import Task, ThreadGroup
from sandbox.records import dataclass, replace

SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4
MOST_OVERRUNS = 0x7FFFFFFF


@dataclass(slots=True, eq=False)
class PosixTimer:
    """One timer; ``signo`` 0 tells nobody (SIGEV_NONE), ``counted`` is whose time in ring 3 it counts, if it does."""

    number: int
    clock: int
    signo: int
    value: int
    counted: Task | ThreadGroup | None
    thread: Task | None = None
    """Who alone gets the signal (SIGEV_THREAD_ID), None for the process."""
    user: User | None = None
    """In whose count of queued signals it has its place."""
    due: int = 0
    """When it ends or has ended, 0 when it was never set or is disarmed."""
    period: int = 0
    overrun: int = 0
    last_overrun: int = 0
    """Of the signal that was taken last (timer_getoverrun(2))."""
    armed: Timer | None = None
    settings: int = 0
    """How often it was set: a signal of an earlier time is dropped when it would be delivered (Linux 6.13)."""


class PosixTimers:
    """Sets, rings and forgets the timers of all tasks."""

    __slots__ = ("_clock", "_cpu_timers", "_sched", "_signals")

    def __init__(self, sched: Scheduler, signals: Signals, cpu_timers: Timers, clock: Clock) -> None:
        self._sched, self._signals, self._cpu_timers, self._clock = sched, signals, cpu_timers, clock

    def set(self, task: Task, timer: PosixTimer, due: int, period: int) -> None:
        """Arm it for a time on its clock, and every ``period`` after; a ``due`` of 0 disarms it.

        A signal that still waits will not be delivered (POSIX leaves it open).
        """
        self._disarm(timer)
        timer.settings += 1
        timer.due, timer.period = due, period if due else 0
        timer.overrun = timer.last_overrun = 0
        self._arm(task, timer)

    def left(self, timer: PosixTimer) -> tuple[int, int]:
        """Until it ends next, 0 when it does not, and its period."""
        now = self.now(timer)
        if timer.period and timer.armed is None:
            timer.overrun += self._forward(timer, now)
        if not timer.due or (not timer.period and timer.armed is None and timer.signo):
            return 0, timer.period
        return max(1 if timer.signo else 0, timer.due - now), timer.period

    def now(self, timer: PosixTimer) -> int:
        """What a timer's clock shows."""
        blocks = self._clock.now if timer.counted is None else timer.counted.utime
        return blocks * BLOCK_NANOSECONDS

    def add(self, task: Task, timer: PosixTimer) -> None:
        """A process has one more, with a place for its signal (``sigqueue_alloc``)."""
        timer.user = self._signals.user_of(task)
        timer.user.sigpending += 1
        task.group.posix_timers[timer.number] = timer

    def delete(self, task: Task, timer: PosixTimer) -> None:
        """It is gone, and so is its signal if that was not taken."""
        self._disarm(timer)
        timer.settings += 1
        del task.group.posix_timers[timer.number]
        if timer.user is not None:
            timer.user.sigpending -= 1

    def delete_all(self, task: Task) -> None:
        """exec and exit: a process's timers are its program's."""
        for timer in list(task.group.posix_timers.values()):
            self.delete(task, timer)

    def _arm(self, task: Task, timer: PosixTimer) -> None:
        if not timer.due or not timer.signo:
            return
        at = -(-timer.due // BLOCK_NANOSECONDS)
        if timer.counted is None:
            timer.armed = self._sched.add_timer(max(at, self._clock.now), lambda: self._ring(task, timer))
        else:
            group = process_of(timer.counted)
            at += group.utime - timer.counted.utime  # of a thread: not before its process has run as long
            timer.armed = self._cpu_timers.add_cpu_timer(group, at, lambda: self._ring(task, timer))

    def _disarm(self, timer: PosixTimer) -> None:
        if timer.armed is not None:
            if timer.counted is None:
                self._sched.remove_timer(timer.armed)
            else:
                self._cpu_timers.remove_cpu_timer(process_of(timer.counted), timer.armed)
            timer.armed = None

    def _forward(self, timer: PosixTimer, now: int) -> int:
        """Move a periodic timer's end behind ``now``; the periods that this took."""
        passed = max(0, now - timer.due) // timer.period + 1 if now >= timer.due else 0
        timer.due += passed * timer.period
        return passed

    def _ring(self, task: Task, timer: PosixTimer) -> None:
        """The signal, unless nobody wants it: then the next period begins at once."""
        timer.armed = None
        task = timer.thread or task.group.leader
        if timer.counted is not None and self.now(timer) < timer.due:
            self._arm(task, timer)
            return
        if is_ignored(task, timer.signo):
            if timer.period:
                timer.overrun += self._forward(timer, self.now(timer))
                self._arm(task, timer)
            return
        union, settings = pack("<4I", timer.number, 0, timer.value & 0xFFFFFFFF, 0), timer.settings

        def taken(info: SigInfo) -> SigInfo | None:
            return self._taken(task, timer, info) if timer.settings == settings else None

        info = SigInfo(timer.signo, SI_TIMER, union, taken=taken)
        self._signals.send_signal(task, timer.signo, info, thread=timer.thread is not None)

    def _taken(self, task: Task, timer: PosixTimer, info: SigInfo) -> SigInfo:
        """The signal is delivered, or thrown away: it says how many ends it stands for, and the timer goes on."""
        if timer.period:
            timer.overrun += self._forward(timer, self.now(timer)) - 1
            self._arm(task, timer)
        timer.last_overrun, timer.overrun = min(max(0, timer.overrun), MOST_OVERRUNS), 0
        return replace(info, union=pack("<4I", timer.number, timer.last_overrun, timer.value & 0xFFFFFFFF, 0))


def process_of(counted: Task | ThreadGroup) -> ThreadGroup:
    """The process whose time is counted, or one thread's time."""
    return counted.group if isinstance(counted, Task) else counted
