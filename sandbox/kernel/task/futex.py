"""Futexes: tasks that sleep on a word of memory, which user code changes by itself and calls us about.

A word has one name (its key) in all address spaces that share it:

    private mapping, or FUTEX_PRIVATE_FLAG     address space, address
    shared mapping                             inode, offset in it
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from sandbox.kernel.abi.errno import EAGAIN, EFAULT, EINVAL, ERESTART_RESTARTBLOCK, ERESTARTSYS, ETIMEDOUT, KernelError
from sandbox.kernel.base.time import Clock
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.mm.vma import PROT_WRITE
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import SCHED_DEADLINE, SCHED_RESET_ON_FORK, Task
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE

Key = tuple[object, int]
ANY = 0xFFFFFFFF
"""The bits of those who wait for every wake."""
FUTEX_WAITERS, FUTEX_OWNER_DIED, FUTEX_TID_MASK = 0x80000000, 0x40000000, 0x3FFFFFFF
"""What the word of a mutex says: somebody waits, its owner ended, its owner's number."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A task on a futex; ``woken`` tells a wake from a signal or the end of its time."""

    task: Task
    key: Key
    bits: int
    woken: bool = False
    target: Key | None = None
    """The mutex to which it wants to be moved (FUTEX_WAIT_REQUEUE_PI)."""
    state: object = None
    """The mutex that it waits for, a ``futex_pi.PiState``."""

    @property
    def inherits(self) -> bool:
        """No plain wake or move is for it."""
        return self.target is not None or self.state is not None


def rank_of(task: Task) -> int:
    """What orders waiters: the real-time priority, 0 for those that have none, 100 for SCHED_DEADLINE."""
    return 100 if task.policy & ~SCHED_RESET_ON_FORK == SCHED_DEADLINE else task.rt_priority


class Futexes:
    """Who waits for what.  Waiters of one word are woken by real-time priority, among equals as they came."""

    def __init__(self, uaccess: UserAccess, sched: Scheduler, clock: Clock) -> None:
        self._uaccess, self._sched, self._clock = uaccess, sched, clock
        self._waiters: dict[Key, list[Waiter]] = {}

    def key(self, task: Task, address: int, private: bool) -> Key:
        """Raises KernelError(EFAULT) for a word that may be shared and is not mapped, or that nobody can change."""
        mm = task.mm
        assert mm is not None
        if not private:
            vma = mm.vmas.find_exact(address)
            if vma is None or not vma.prot or (not vma.prot & PROT_WRITE and vma.inode is None and not vma.shared):
                raise KernelError(EFAULT)
            if vma.shared and vma.inode is not None:
                return vma.inode, vma.page_of(address) * PAGE_SIZE + address % PAGE_SIZE
        return mm, address

    def wait(self, task: Task, key: Key, address: int, value: int, bits: int = ANY, until: int | None = None) -> int:
        """Sleep until woken, as long as the word is ``value``; at most until a time in blocks.

        Raises KernelError: EAGAIN (it is another value), ETIMEDOUT, EFAULT, and those that restart the call after a
        signal.
        """
        waiter = Waiter(task, key, bits)
        self.add(waiter)  # before the look at the word: a wake that comes between must not be lost
        try:
            if self._uaccess.get_word(task, address) != value and not waiter.woken:
                raise KernelError(EAGAIN)
            while not waiter.woken:
                if until is not None and self._clock.now >= until:
                    raise KernelError(ETIMEDOUT)
                if task.pending:
                    if until is None:
                        raise KernelError(ERESTARTSYS)
                    task.signals.restart = lambda again: self.wait(again, key, address, value, bits, until)
                    raise KernelError(ERESTART_RESTARTBLOCK)
                self._sched.sleep(task, "a futex", -1 if until is None else until)
        finally:
            if not waiter.woken:
                self.remove(waiter)
        return 0

    def wake(self, key: Key, most: int, bits: int = ANY) -> int:
        """Wake up to ``most`` waiters that share a bit; how many it were.  As Linux, at least one if there is one.

        Raises KernelError(EINVAL) at one that waits for a mutex with priority inheritance.
        """
        woken = 0
        for waiter in self.waiters(key):
            if waiter.inherits:
                raise KernelError(EINVAL)
            if waiter.bits & bits:
                self.remove(waiter)
                waiter.woken = True
                self._sched.wake(waiter.task)
                woken += 1
                if woken >= most:
                    break
        return woken

    def requeue(self, source: Key, target: Key, wakes: int, moves: int) -> int:
        """Wake up to ``wakes`` waiters and let up to ``moves`` more wait for another word; how many both were.

        Raises KernelError(EINVAL) at one that waits for a mutex with priority inheritance.
        """
        waiters = self.waiters(source)[: wakes + moves]
        for number, waiter in enumerate(waiters):
            if waiter.inherits:
                raise KernelError(EINVAL)
            if number < wakes:
                self.remove(waiter)
                waiter.woken = True
                self._sched.wake(waiter.task)
            elif target != source:
                self.remove(waiter)
                waiter.key = target
                self.add(waiter)
        return len(waiters)

    def load(self, task: Task, address: int) -> int:
        """The word of a futex.  Raises KernelError(EFAULT), also where none can be: unaligned."""
        if address % 4:
            raise KernelError(EFAULT)
        return self._uaccess.get_word(task, address)

    def change(self, task: Task, address: int, how: Callable[[int], int]) -> int:
        """Replace a word by what ``how`` makes of it, as one step for all CPUs; the word before.  Raises EFAULT."""
        value = self._uaccess.get_word(task, address)
        while True:
            seen = self._uaccess.cmpxchg_user(task, address, value, how(value) & 0xFFFFFFFF)
            if seen == value:
                return value
            value = seen

    def waiters(self, key: Key) -> list[Waiter]:
        """Who waits for a word, the next one first."""
        return list(self._waiters.get(key, ()))

    def first(self, key: Key) -> Waiter | None:
        """The next one."""
        queue = self._waiters.get(key)
        return queue[0] if queue else None

    def add(self, waiter: Waiter) -> None:
        """Behind those of its priority."""
        queue = self._waiters.setdefault(waiter.key, [])
        insort(queue, waiter, key=lambda each: -rank_of(each.task))

    def remove(self, waiter: Waiter) -> None:
        """It waits no more."""
        queue = self._waiters[waiter.key]
        queue.remove(waiter)
        if not queue:
            del self._waiters[waiter.key]
