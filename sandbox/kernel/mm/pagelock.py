"""The page lock and the queues of those who wait for one: a page that is being read in or written out sleeps them.

Queues are few and shared by hash (2.4's page_waitqueue): who is woken looks at its own page again.
"""

from __future__ import annotations

from sandbox.kernel.base.wait import Waiting, WaitQueue, might_sleep
from sandbox.kernel.mm.page import PG_LOCKED, BadPage, MemMap

QUEUES = 64


class PageLocks:
    """PG_LOCKED of every frame, by frame number."""

    __slots__ = ("_memmap", "_queues", "_sched", "held")

    def __init__(self, memmap: MemMap, sched: Waiting) -> None:
        self._memmap, self._sched = memmap, sched
        self._queues = [WaitQueue("a page that is locked") for _ in range(QUEUES)]
        self.held = 0
        """Pages that are locked now: nobody need look for a lock while there are none."""

    def locked(self, pfn: int) -> bool:
        """Somebody works on the page."""
        return bool(self.held and self._memmap.flags(pfn) & PG_LOCKED)

    def lock_page(self, pfn: int) -> None:
        """Have the page for oneself.  Sleeps; raises WrongContext where nobody may."""
        self.wait_on_page(pfn)
        self._memmap.set_flags(pfn, self._memmap.flags(pfn) | PG_LOCKED)
        self.held += 1

    def unlock_page(self, pfn: int) -> None:
        """Let the others go on.  Raises BadPage for a page that is not locked."""
        flags = self._memmap.flags(pfn)
        if not flags & PG_LOCKED:
            raise BadPage(f"frame {pfn:#x} is unlocked and was not locked")
        self._memmap.set_flags(pfn, flags & ~PG_LOCKED)
        self.held -= 1
        self._sched.wake_up(self.queue(pfn))

    def wait_on_page(self, pfn: int) -> None:
        """Sleep until nobody works on the page; whether it is still the same page is for the caller to look."""
        while self.locked(pfn):
            might_sleep(self._sched, f"waiting for frame {pfn:#x}")
            queue = self.queue(pfn)
            self._sched.schedule((queue,), queue.what)

    def queue(self, pfn: int) -> WaitQueue:
        """Where those sleep who wait for the page, and for others with the same hash."""
        return self._queues[(pfn ^ pfn >> 6) % QUEUES]
