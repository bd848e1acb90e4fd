"""Wait queues of modules: any word of memory is one."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, ERESTARTSYS
from sandbox.kernel.base.wait import WaitQueue, might_sleep
from sandbox.kernel.task.sched import Scheduler


class WaitQueues:
    """What modules call to sleep and to wake."""

    def __init__(self, sched: Scheduler) -> None:
        self._sched = sched
        self._queues: dict[int, WaitQueue] = {}
        """By the linear address of the word that names one."""

    def _queue(self, word: int) -> WaitQueue:
        return self._queues.setdefault(word, WaitQueue("a module"))

    def sleep_on(self, word: int) -> int:
        """Sleep until ``wake_up`` of the same address; signals wait."""
        might_sleep(self._sched, "sleep_on")
        if self._sched.current is None:
            return -EINVAL
        queue = self._queue(word)
        before = queue.wakes
        while queue.wakes == before:
            self._sched.schedule((queue,), queue.what)
        return 0

    def interruptible_sleep_on(self, word: int) -> int:
        """The same; a signal ends it."""
        might_sleep(self._sched, "interruptible_sleep_on")
        if self._sched.current is None:
            return -EINVAL
        if not self._sched.signal_pending():
            self._sched.schedule((self._queue(word),), "a module")
        return -ERESTARTSYS if self._sched.signal_pending() else 0

    def wake_up(self, word: int) -> None:
        """Everybody who sleeps on the word goes on."""
        self._sched.wake_up(self._queue(word))
