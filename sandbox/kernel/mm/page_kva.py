"""page_kva(): kernel addresses for pages of highmem, kept as long as nobody else needs the address (post 001).

The pool has a slot of 4 KB for each page of its region.  A page that was mapped once stays where it is, also without
users, and is found again without a store or a flush; when no slot is free the one that was without users for longest
gets another page.  A slot stays while it has users or while its page is locked for IO.

The entries lie in 4 KB tables, made when the first slot of each is used, and are never global: a CR3 load must drop
them (``kva_seq.py``).  page -> kva is the word ``virtual`` of struct page, kva -> page is the entry itself: guest code
can read both.  Addresses are linear, pages are named by frame number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import PAGE_OFFSET, Layout
from sandbox.kernel.base.wait import Waiting, WaitQueue, might_sleep
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.kva_flush import KvaFlush
from sandbox.kernel.mm.kva_seq import Mapped
from sandbox.kernel.mm.mm import MmList
from sandbox.kernel.mm.page import VIRTUAL, MemMap
from sandbox.kernel.mm.pagelock import PageLocks
from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE, RW, A, D, P

NO_PAGE = -1
NO_TASK = 0
"""Stands for who maps without being a task: boot."""


class BadKva(SandboxError):
    """An address is given back that nobody uses, or a page is freed in use or under IO."""

    exit_status = 1


class NoKva(SandboxError):
    """All slots have users, and the one who asks is no task, which could sleep until one has none."""

    exit_status = 1


class KvaDeadlock(SandboxError):
    """Each slot is held by a task that waits for a slot itself, so that none will ever be free."""

    exit_status = 1


@dataclass(slots=True, eq=False)
class Slot(Mapped):
    """One address of the pool; ``place`` is its entry's, ``pfn`` the page behind it."""

    linear: int = 0
    place: int = 0
    pfn: int = NO_PAGE
    users: list[int] = field(default_factory=list)
    """Numbers of the tasks that asked for it, one for each time."""


class PageKva:
    """The pool over the layout's region, or over its first ``size`` bytes."""

    def __init__(
        self,
        entries: KernelEntries,
        layout: Layout,
        size: int | None,
        smp: Smp,
        sched: Waiting,
        memmap: MemMap,
        locks: PageLocks,
        mmlist: MmList,
        flush: KvaFlush,
        broken: Breakage,
    ) -> None:
        assert entries.tlb is not None
        self._entries, self._smp, self._sched, self._mmlist = entries, smp, sched, mmlist
        self._memmap, self._locks, self._flush, self._sequence = memmap, locks, flush, entries.tlb.sequence
        self._low = layout.direct_frames
        self._flags = P | RW | A | D | entries.tables.nx
        self._start = layout.kva.start
        self.capacity = (layout.kva.size if size is None else min(size, layout.kva.size)) // PAGE_SIZE
        """Slots that there may be."""
        self.slots: list[Slot] = []
        """Those that were used so far, by number."""
        self.mapped: dict[int, Slot] = {}
        """By frame number of the page."""
        self._idle: dict[Slot, None] = {}
        """With a page and without users, the one for longest first."""
        self._empty: deque[Slot] = deque()
        """Without a page, those of freed pages."""
        self._freed = WaitQueue("a free slot of the kva pool")
        self._waiting: dict[int, int] = {}
        """Frame that a task, by number, waits for a slot for."""
        self._sequence.mapped = self.slots
        self._broken_users, self._broken_io = broken("kva-recycle-used"), broken("kva-recycle-io")
        self._broken_free, self._broken_wake = broken("kva-keep-freed"), broken("no-kva-wake")
        self.counters = flush.counters
        self.other_address: Callable[[int], int] = lambda pfn: 0
        """The address that a page has from somebody else (kmap), which its structure shows when it has none of here."""

    # -- mapping (highmem.PageMapper) ----------------------------------------------------------------------------

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        """The address of a page for one CPU, which must be given back (``unmap``).  Sleeps when all slots have users.

        Raises NoKva, and WrongContext, where nobody may sleep, KvaDeadlock, and OutOfMemory for a table.
        """
        if pfn < self._low:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        slot = self._get(cpu, pfn)
        self._flush.used_here(cpu, slot.linear, slot)
        return slot.linear

    def kva_get(self, cpu: KernelCpu, pfn: int) -> int:
        """The same, good on every CPU and across sleeps until ``unmap``."""
        if pfn < self._low:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        slot = self._get(cpu, pfn)
        self._flush.used_anywhere(cpu, slot.linear, slot)
        return slot.linear

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        """Give an address back; the page keeps it.  Raises BadKva."""
        if pfn < self._low:
            return
        slot = self.mapped.get(pfn)
        if slot is None or slot.linear != linear & -PAGE_SIZE:
            raise BadKva(f"{linear:#010x} is given back as the kva of frame {pfn:#x}, which it is not")
        if not slot.users:
            raise BadKva(f"kva {linear:#010x} is given back and has no user")
        me = self._me()
        slot.users.remove(me if me in slot.users else slot.users[0])
        if not slot.users:
            self._idle[slot] = None
            self._wake()

    # -- looking -------------------------------------------------------------------------------------------------

    def page_kva(self, cpu: KernelCpu, pfn: int) -> int:
        """The address that a page has now, fit for use on this CPU; 0 for none."""
        if pfn < self._low:
            return PAGE_OFFSET + (pfn << PAGE_SHIFT)
        slot = self.mapped.get(pfn)
        if slot is None:
            return 0
        self._flush.used_here(cpu, slot.linear, slot)
        return slot.linear

    def page_of(self, linear: int) -> int | None:
        """The frame behind an address of the pool, None for none."""
        slot = self._slot_at(linear)
        return None if slot is None or slot.pfn == NO_PAGE else slot.pfn

    def covers(self, linear: int) -> bool:
        """The address is one of the pool's."""
        return 0 <= linear - self._start < self.capacity * PAGE_SIZE

    def may_be_stale(self, cpu: int, linear: int) -> bool:
        """The address is one of the pool's for which a CPU is not current: it invalidates before it goes there.

        Or one without a page, as it is also while its entry is gone and the change is not counted yet: nobody has it.
        """
        slot = self._slot_at(linear)
        return slot is not None and (slot.pfn == NO_PAGE or not self._sequence.current(cpu, slot))

    def _slot_at(self, linear: int) -> Slot | None:
        number = linear - self._start >> PAGE_SHIFT
        return self.slots[number] if 0 <= number < len(self.slots) else None

    def would_wait(self, pfn: int) -> bool:
        """All slots are in use or under IO, and none of them has the page."""
        return not (pfn < self._low or pfn in self.mapped or self._empty or len(self.slots) < self.capacity) and all(
            self._locks.locked(slot.pfn) for slot in self._idle
        )

    def holding(self) -> bool:
        """The present task has an address of the pool."""
        me = self._me()
        return any(me in slot.users for slot in self.slots if slot.users)

    # -- the life of a slot --------------------------------------------------------------------------------------

    def forget(self, pfn: int) -> None:
        """A page is about to be freed: its slot is empty.  Raises BadKva where somebody uses it or does IO."""
        slot = self.mapped[pfn]
        if slot.users:
            raise BadKva(
                f"frame {pfn:#x} is freed while its kva {slot.linear:#010x} is in use", f"users: {len(slot.users)}"
            )
        if self._locks.locked(pfn):
            raise BadKva(f"frame {pfn:#x}, whose kva is {slot.linear:#010x}, is freed while it is locked for IO")
        if self._broken_free:
            return
        del self._idle[slot]
        self.counters.given_back += 1
        self._take_away(slot)
        self._give(slot)

    def _get(self, cpu: KernelCpu, pfn: int) -> Slot:
        """The page's slot, with a user more."""
        slot = self.mapped.get(pfn)
        if slot is None:
            slot = self._map(cpu, pfn)
        else:
            self.counters.hits += 1
            self._idle.pop(slot, None)
        slot.users.append(self._me())
        return slot

    def _map(self, cpu: KernelCpu, pfn: int) -> Slot:
        """A slot for a page that had none, or that which it got while this flow was waiting."""
        self.counters.misses += 1
        while pfn not in self.mapped:
            slot = self._take(pfn)
            if slot is not None:
                self._enter(cpu, slot, pfn)
        slot = self.mapped[pfn]
        self._idle.pop(slot, None)
        return slot

    def _enter(self, cpu: KernelCpu, slot: Slot, pfn: int) -> None:
        """A page behind an address that had none; the slot is empty again where the page got another meanwhile."""
        self._flush.taken(cpu, slot)
        if pfn in self.mapped:
            self._give(slot)
            return
        self._entries.map_at(slot.place, self._entries.mk_pte(pfn, self._flags))
        self.counters.pte_stores += 1
        if pfn in self.mapped:
            self._clear(slot)
            self._give(slot)
            return
        slot.pfn, self.mapped[pfn] = pfn, slot
        self._memmap.words[self._memmap.at(pfn) + VIRTUAL] = slot.linear
        self._wake()

    def _take(self, pfn: int) -> Slot | None:
        """A slot with nothing behind it, nobody else's.  Sleeps; None when the page has one by then."""
        while pfn not in self.mapped:
            if self._empty:
                return self._empty.popleft()
            slot = self._open() if len(self.slots) < self.capacity else self._recycle(pfn)
            if slot is not None:
                return slot
        return None

    def _recycle(self, pfn: int) -> Slot | None:
        """The slot of another page; None after a sleep, when everything may have changed."""
        slot = self._oldest()
        if slot is None:
            self._wait(pfn)
            return None
        self.counters.recycles += 1
        self._idle.pop(slot, None)
        self._take_away(slot)
        return slot

    def _open(self) -> Slot | None:
        """The next slot that was never used; None when another flow was faster while its table was made."""
        linear = self._start + len(self.slots) * PAGE_SIZE
        place = self._entries.place(linear)
        if linear != self._start + len(self.slots) * PAGE_SIZE:
            return None
        if not linear % self._entries.tables.large_page:
            self._tell_directories(linear)
        self.slots.append(Slot(linear=linear, place=place))
        return self.slots[-1]

    def _tell_directories(self, linear: int) -> None:
        """A new table: every directory gets to know it at once, so that nobody faults over the pool."""
        self.counters.tables += 1
        for mm in list(self._mmlist):
            self._entries.sync(mm.pgd, linear)

    def _oldest(self) -> Slot | None:
        """The slot without users for longest whose page nobody has locked."""
        if self._broken_users:
            return self.slots[0]
        for slot in self._idle:
            if self._broken_io or not self._locks.locked(slot.pfn):
                return slot
            self.counters.refused += 1
        return None

    def _take_away(self, slot: Slot) -> None:
        """Nothing is behind the address from now on."""
        del self.mapped[slot.pfn]
        self._memmap.words[self._memmap.at(slot.pfn) + VIRTUAL] = self.other_address(slot.pfn)
        slot.pfn = NO_PAGE
        self._clear(slot)

    def _clear(self, slot: Slot) -> None:
        """Only when the entry is gone does the change count: a CPU that flushes before may walk the old one again."""
        self._entries.clear_at(slot.place)
        self.counters.pte_stores += 1
        self._sequence.change(slot)

    def _give(self, slot: Slot) -> None:
        self._empty.append(slot)
        self._wake()

    # -- sleeping ------------------------------------------------------------------------------------------------

    def _me(self) -> int:
        task = self._sched.current
        return NO_TASK if task is None else task.pid

    def _wake(self) -> None:
        if self._freed.tasks and not self._broken_wake:
            self._sched.wake_up(self._freed)

    def _wait(self, pfn: int) -> None:
        """Sleep until a slot has no users, or a page is unlocked.  Raises KvaDeadlock where neither ever will be."""
        what = f"all {self.capacity} slots of the kva pool are in use"
        might_sleep(self._sched, f"page_kva, while {what},")
        me = self._me()
        if me == NO_TASK:
            raise NoKva(f"{what}, and no task is there that could sleep")
        self._waiting[me] = pfn
        try:
            self._tell_deadlock()
            self.counters.sleeps += 1
            locked = [self._locks.queue(slot.pfn) for slot in self._idle]
            self._sched.schedule((self._freed, *dict.fromkeys(locked)), self._freed.what)
        finally:
            del self._waiting[me]

    def _tell_deadlock(self) -> None:
        """A slot with a user that waits stays: when each has one, nobody goes on."""
        if self._idle or not all(any(pid in self._waiting for pid in slot.users) for slot in self.slots):
            return
        waits = [f"task {pid} waits for a slot for frame {pfn:#x}" for pid, pfn in self._waiting.items()]
        holds = [f"{s.linear:#010x} frame {s.pfn:#x} is held by task {pid}" for s in self.slots for pid in s.users]
        raise KvaDeadlock(
            f"page_kva: all {self.capacity} slots are held by those who wait for one", "\n".join(waits + holds)
        )
