"""timerfd: a timer whose expirations are read from a descriptor."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import EAGAIN, EINVAL, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLIN
from sandbox.kernel.abi.poll import POLLRDNORM
from sandbox.kernel.base.time import BLOCK_NANOSECONDS, Clock, Timer
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.eventfd import AnonStream
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import Ready


class TimerFd(AnonStream):
    """Disarmed at first.  Times are nanoseconds; ``now`` shows those of the timer's clock."""

    def __init__(self, now: Callable[[], int], uaccess: UserAccess, sched: Scheduler, clock: Clock) -> None:
        super().__init__("[timerfd]")
        self._now, self._uaccess, self._sched, self._clock = now, uaccess, sched, clock
        self._due = self._period = self._ticks = 0
        self._timer: Timer | None = None
        self.expired = WaitQueue("a timerfd")

    def set(self, value: int, period: int, absolute: bool) -> None:
        """Arm it for a time or after one, and again each period if that is not 0; a value of 0 disarms it."""
        self._due = 0 if not value else value if absolute else self._now() + value
        self._period, self._ticks = period, 0
        self._arm()

    def left(self) -> tuple[int, int]:
        """Until the next expiration, 0 when disarmed, and the period."""
        self._settle()
        return max(0, self._due - self._now()) if self._due else 0, self._period

    def _settle(self) -> None:
        """Count what has expired."""
        late = self._now() - self._due
        if not self._due or late < 0:
            return
        passed = late // self._period + 1 if self._period else 1
        self._ticks += passed
        self._due = self._due + passed * self._period if self._period else 0

    def _arm(self) -> None:
        self._disarm()
        if self._due:
            blocks = -(-max(0, self._due - self._now()) // BLOCK_NANOSECONDS)
            self._timer = self._sched.add_timer(self._clock.now + blocks, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._sched.remove_timer(self._timer)
            self._timer = None

    def _ring(self) -> None:
        """Who waits comes to see; the next period is waited for when this one was read."""
        self._timer = None
        self._settle()
        self._sched.wake_up(self.expired)

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        if count < 8:
            raise KernelError(EINVAL)
        self._settle()
        while not self._ticks:
            if file.flags & O_NONBLOCK:
                raise KernelError(EAGAIN)
            self._sched.interruptible_sleep_on(self.expired)
            self._settle()
        ticks, self._ticks = self._ticks, 0
        self._arm()
        self._uaccess.put_user(task, address, ticks.to_bytes(8, "little"))
        return 8

    def released(self, file: File) -> None:
        self._disarm()

    def poll(self, file: File, task: Task) -> Ready:
        self._settle()
        return Ready(POLLIN | POLLRDNORM if self._ticks else 0, (self.expired,))
