"""kmap(): kernel addresses for pages of highmem out of one page table, which are kept across sleeps (MM 13).

The pool has 1024 slots, 512 under PAE, or fewer by the boot option ``pkmap=``.  ``pkmap_count`` of a slot is what
mm/highmem.c of 2.4 and 2.6 has: 0 is unmapped and flushed; 1 has no user, is mapped, and may be in any TLB; n has
n - 1 users.  Slots are taken in the order of their numbers, and each time that the search begins at 0 again
``flush_all_zero_pkmaps`` unmaps all at 1 and flushes once for all of them, or not at all when there were none (2.6).
Who finds no slot sleeps until a count falls to 1.

page -> slot is a table of our own, as 2.6's hash is: a page can be in the kva pool at the same time, and the word
``virtual`` of struct page is one.  The pool comes first there; a page that it has no address for shows the one of here.
Addresses are linear, pages are named by frame number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import PAGE_OFFSET, PKMAP_BASE, Layout
from sandbox.kernel.base.wait import Waiting, WaitQueue, WrongContext, might_sleep
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.page import VIRTUAL, MemMap
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE, RW, A, D, G, P

FEW = 8
"""Holders that a sleeper names."""
NO_TASK = 0
"""Stands for who maps without being a task: boot, and the loading of a module."""


class BadKunmap(SandboxError):
    """A page is given back that is not mapped, has no user, or has another address; or is freed with users."""

    exit_status = 1


class NoPkmap(SandboxError):
    """All slots have users, and the one who asks is no task, which could sleep until one has none."""

    exit_status = 1


class KmapDeadlock(SandboxError):
    """Each slot is held by a task that waits for a slot itself, so that none will ever be free."""

    exit_status = 1


@dataclass(slots=True)
class KmapCounters:
    """What the pool did."""

    hits: int = 0
    misses: int = 0
    pte_stores: int = 0
    laps: int = 0
    """Searches that began at slot 0."""
    global_flushes: int = 0
    ipis: int = 0
    recycles: int = 0
    """Slots that a flush made usable again."""
    sleeps: int = 0


class Kmap:
    """The pool of one kernel: a ``highmem.PageMapper`` whose addresses are good on every CPU and across sleeps."""

    def __init__(
        self,
        entries: KernelEntries,
        layout: Layout,
        slots: int | None,
        smp: Smp,
        sched: Waiting,
        memmap: MemMap,
        broken: Breakage,
    ) -> None:
        self._entries, self._smp, self._sched, self._memmap = entries, smp, sched, memmap
        self._low = layout.direct_frames
        size = entries.tables.large_page // PAGE_SIZE
        self.capacity = size if slots is None else min(slots, size)
        """LAST_PKMAP."""
        self._first_place = entries.place(PKMAP_BASE)
        self._place_size = entries.place(PKMAP_BASE + PAGE_SIZE) - self._first_place
        self._broken_flush, self._broken_global = broken("no-pkmap-flush"), broken("pkmap-global")
        self._broken_wake, self._broken_check = broken("no-pkmap-wake"), broken("no-pkmap-recheck")
        self._broken_deadlock = broken("no-pkmap-deadlock")
        self._flags = P | RW | A | D | entries.tables.nx | (G if self._broken_global else 0)
        self.counts = [0] * self.capacity
        """pkmap_count."""
        self.pages: dict[int, int] = {}
        """Slot by frame number: page_address."""
        self._frames = [0] * self.capacity
        self._users: defaultdict[int, list[int]] = defaultdict(list)
        """By slot: numbers of the tasks that hold it, one for each time."""
        self._busy: set[int] = set()
        """At count 1, and between two steps of somebody: neither flushed nor taken."""
        self._last = 0
        self._waiting: dict[int, int] = {}
        """Frame that a task, by number, waits for a slot for."""
        self._wait = WaitQueue("a free slot of the kmap pool")
        self.counters = KmapCounters()

    # -- mapping (highmem.PageMapper) ----------------------------------------------------------------------------

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        """The address of a page, which must be given back (``unmap``).  Sleeps when all slots have users.

        Raises WrongContext in an interrupt and WindowsHeld with a window open, also for lowmem and with slots free,
        KmapDeadlock, and NoPkmap.
        """
        might_sleep(self._sched, f"kmap of frame {pfn:#x}")
        if pfn < self._low:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        if pfn in self.pages:
            self.counters.hits += 1
        else:
            self.counters.misses += 1
        while (slot := self.pages.get(pfn)) is None:
            self._map_new(cpu, pfn)
        self.counts[slot] += 1
        self._users[slot].append(self._me())
        return self.address(slot)

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        """Give an address back; its entry stays until the next lap.

        Raises BadKunmap, and WrongContext in an interrupt (BUG_ON of arch/i386/mm/highmem.c): it never sleeps, but
        who holds kmap's lock does not turn interrupts off.
        """
        if self._sched.in_atomic():
            raise WrongContext(f"kunmap of frame {pfn:#x} in an interrupt: one may come while kmap's lock is held")
        if pfn < self._low:
            return
        slot = self.pages.get(pfn)
        if slot is None or self.address(slot) != linear & -PAGE_SIZE:
            raise BadKunmap(f"kunmap of frame {pfn:#x} at {linear:#010x}: it is not mapped there")
        if self.counts[slot] < 2:
            raise BadKunmap(f"kunmap of frame {pfn:#x} at {linear:#010x}: the slot has no user")
        users, me = self._users[slot], self._me()
        users.remove(me if me in users else users[0])
        self.counts[slot] -= 1
        if self.counts[slot] == 1:
            self._wake()

    # -- looking -------------------------------------------------------------------------------------------------

    def address(self, slot: int) -> int:
        """Linear address of a slot."""
        return PKMAP_BASE + slot * PAGE_SIZE

    def page_address(self, pfn: int) -> int:
        """The address that a page has now, with or without users; 0 for none."""
        if pfn < self._low:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        slot = self.pages.get(pfn)
        return 0 if slot is None else self.address(slot)

    def kmap_to_page(self, linear: int) -> int | None:
        """The frame behind an address of the pool, None where there is none."""
        slot = linear - PKMAP_BASE >> PAGE_SHIFT
        mapped = 0 <= slot < self.capacity and self.pages.get(self._frames[slot]) == slot
        return self._frames[slot] if mapped else None

    def check_free(self, pfn: int) -> None:
        """A page is about to be freed; without users its entry stays until the next lap (2.4).  Raises BadKunmap."""
        slot = self.pages[pfn]
        if self.counts[slot] > 1:
            where = f"its kmap address {self.address(slot):#010x}"
            raise BadKunmap(f"frame {pfn:#x} is freed while {where} is in use", f"users: {self.counts[slot] - 1}")

    def may_be_stale(self, linear: int) -> bool:
        """The address is of a slot at count 1: nobody uses it, and a flush comes before somebody does."""
        slot = linear - PKMAP_BASE >> PAGE_SHIFT
        return 0 <= slot < self.capacity and self.counts[slot] == 1

    def held(self, tasks: Collection[int]) -> list[str]:
        """A line for each slot that tasks, by number, hold: a leak when they have ended."""
        return [
            f"{self.address(slot):#010x} frame {self._frames[slot]:#x} is held by task {pid}"
            for slot, users in sorted(self._users.items())
            for pid in users
            if pid in tasks
        ]

    # -- what a Pool tells (page_mapper) -------------------------------------------------------------------------

    def would_wait(self, pfn: int) -> bool:
        """All slots have users, and none is this frame's."""
        return pfn >= self._low and pfn not in self.pages and all(count > 1 for count in self.counts)

    def holding(self) -> bool:
        """The present task has an address of the pool."""
        return any(self._me() in users for users in self._users.values())

    def covers(self, linear: int) -> bool:
        """The address is one of the pool's."""
        return 0 <= linear - PKMAP_BASE < self.capacity * PAGE_SIZE

    # -- the life of a slot --------------------------------------------------------------------------------------

    def _map_new(self, cpu: KernelCpu, pfn: int) -> None:
        """A slot at count 1 for a page without one, unless it got one while this flow was not looking."""
        slot = self._find(cpu, pfn)
        if slot is None:
            return
        self.counts[slot] = 1
        self._busy.add(slot)
        self._entries.map_at(self._place(slot), self._entries.mk_pte(pfn, self._flags))
        self.counters.pte_stores += 1
        if pfn in self.pages and not self._broken_check:
            self._clear(slot)
        else:
            self._frames[slot], self.pages[pfn] = pfn, slot
            self._show(pfn, 0, self.address(slot))
        self._busy.discard(slot)
        self._wake()

    def _find(self, cpu: KernelCpu, pfn: int) -> int | None:
        """A slot at count 0 (map_new_virtual's loop); None when the page has one by now."""
        left = self.capacity
        while True:
            self._last = (self._last + 1) % self.capacity
            if not self._last:
                self.counters.laps += 1
                self.flush_all_zero_pkmaps(cpu)
                left = self.capacity
            if not self.counts[self._last]:
                found = self._last
                return None if pfn in self.pages and not self._broken_check else found
            left -= 1
            if not left:
                self._sleep(pfn)
                if pfn in self.pages and not self._broken_check:
                    return None
                left = self.capacity

    def flush_all_zero_pkmaps(self, cpu: KernelCpu) -> None:
        """Unmap all slots at count 1, flush once on every CPU, and only then let them be taken."""
        freed = [slot for slot, count in enumerate(self.counts) if count == 1 and slot not in self._busy]
        self._busy.update(freed)
        for slot in freed:
            if self.pages.get(self._frames[slot]) == slot:
                del self.pages[self._frames[slot]]
                self._show(self._frames[slot], self.address(slot), 0)
        for slot in freed:
            self._clear(slot)
        if freed and not self._broken_flush:
            self._flush(cpu)
        for slot in freed:
            self.counts[slot] = 0
            self._busy.discard(slot)
        self.counters.recycles += len(freed)
        if freed:
            self._wake()

    def _flush(self, cpu: KernelCpu) -> None:
        self.counters.global_flushes += 1
        tlb = self._entries.tlb
        assert tlb is not None
        before = tlb.counters.interrupts
        if self._broken_global:
            tlb.reload_all(cpu)
        else:
            tlb.flush_tlb_all(cpu)
        self.counters.ipis += tlb.counters.interrupts - before

    def _clear(self, slot: int) -> None:
        self._entries.clear_pkmap(self._place(slot))
        self.counters.pte_stores += 1

    def _show(self, pfn: int, before: int, linear: int) -> None:
        """The word ``virtual``, unless it is the kva pool's."""
        at = self._memmap.at(pfn) + VIRTUAL
        if self._memmap.words[at] == before:
            self._memmap.words[at] = linear

    def _place(self, slot: int) -> int:
        return self._first_place + slot * self._place_size

    def _me(self) -> int:
        task = self._sched.current
        return NO_TASK if task is None else task.pid

    # -- sleeping ------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._wait.tasks and not self._broken_wake:
            self._sched.wake_up(self._wait)

    def _sleep(self, pfn: int) -> None:
        """Sleep until a count has fallen to 1.  Raises KmapDeadlock where none ever will."""
        if any(count < 2 for count in self.counts):
            if self._busy:
                self._sched.schedule((self._wait,), self._wait.what)
            return
        me = self._me()
        if me == NO_TASK:
            raise NoPkmap(f"kmap: all {self.capacity} slots have users, and no task is there that could sleep")
        self._waiting[me] = pfn
        try:
            self._tell_deadlock()
            self.counters.sleeps += 1
            self._sched.schedule((self._wait,), f"{self._wait.what}, held by {self._holders()}")
        finally:
            del self._waiting[me]

    def _holders(self) -> str:
        """Numbers of the tasks that hold slots; some may have ended, and nobody gives back what they left."""
        pids = sorted({pid for users in self._users.values() for pid in users})
        return f"task{'s' * (len(pids) > 1)} {', '.join(map(str, pids[:FEW]))}{', …' * (len(pids) > FEW)}"

    def _tell_deadlock(self) -> None:
        """A slot with one user that waits stays for ever: when each has one, nobody goes on."""
        users = [self._users[slot] for slot in range(self.capacity)]
        if not self._broken_deadlock and all(any(pid in self._waiting for pid in each) for each in users):
            waits = "\n".join(f"task {pid} waits for a slot for frame {pfn:#x}" for pid, pfn in self._waiting.items())
            raise KmapDeadlock(
                f"kmap: all {self.capacity} slots are held by those who wait for one",
                waits + "\n" + "\n".join(self.held(list(self._waiting))),
            )
