"""The one door for entries of the user half: install, replace, change, share, remove, protect, move, migrate.

Whoever changes what a program has mapped goes through here.  The door keeps together what belongs together: the entry,
in the order of words that hardware needs; the reference that it holds on its frame; the address space's ``rss``; the
flush; and, behind the flush, the release of the frame (MM 11, MM 18).  What was decided by an entry that was read
before a sleep is decided again: every store names the entry that it replaces, and says so when there is another.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial

from sandbox.engine.context import EAX, EBP, EDX
from sandbox.kernel.arch.cpu import CLEAR_PAGE_BLOCKS, COPY_PAGE_BLOCKS, INVLPG_BLOCKS, KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.events import PageAlloc, PageFault, TlbFlush
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.races import Races
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.page import MemMap
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.pte import Kind, decode, is_away, is_mapped, migration_entry
from sandbox.kernel.mm.swapops import LostEntry, NoSwap, SwapSpace
from sandbox.kernel.mm.tlb import Tlb
from sandbox.x86.paging import FRAME_MASK, PAGE_SHIFT, PAGE_SIZE


class Scope(Enum):
    """What a gather flushes."""

    PAGES = "pages"
    """Those that changed, one at a time while they are few."""
    SPACE = "space"
    """All of the address space."""
    NOTHING = "nothing"
    """No CPU has it loaded any more."""


class Entries:
    """Stores, counts and flushes for every address space of one machine."""

    __slots__ = (
        "_blind",
        "_break_cow",
        "_memmap",
        "_observer",
        "_page_alloc",
        "_read",
        "_set_pte_if",
        "_smp",
        "_stored",
        "_zero_page",
        "early_free",
        "in_hand",
        "races",
        "swap",
        "tables",
        "tlb",
        "traced",
        "zero_frame",
    )

    def __init__(
        self,
        tables: PageTables,
        tlb: Tlb,
        memmap: MemMap,
        page_alloc: PageAllocator,
        smp: Smp,
        zero_page: int,
        races: Races,
        broken: Breakage,
    ) -> None:
        self.tables, self.tlb, self.races = tables, tlb, races
        self._memmap, self._page_alloc, self._smp = memmap, page_alloc, smp
        self._zero_page, self.zero_frame = zero_page, zero_page << PAGE_SHIFT
        self._set_pte_if = self._store_alone if races.active else tables.set_pte_if
        self.swap: SwapSpace = NoSwap(smp)
        self._blind = broken("no-pte-same")
        self.traced = False
        """A debugger goes back and forth: a copy's steps are the same ones in a free run, down to the dead stack."""
        self.early_free = broken("early-free")
        routines, wide = tlb.routines, tables.fmt.entry_size == 8
        self._break_cow = routines.break_cow_pae if wide else routines.break_cow
        self._read = tlb.bus.watch_for(PageFault, TlbFlush, PageAlloc)
        """Somebody reads of entries as faults leave them, and in which order."""
        self._observer = tables.memory.table_observer
        self._stored = [(0, 0)] * len(smp.cpus)
        """Of each CPU the place of the entry that its way out stores, and the linear address of the page."""
        for cpu in smp.cpus:
            cpu.let_go = page_alloc.put_page if self._observer is None else partial(self._let_go, cpu.index)
        self.in_hand = 0
        """Entries that are taken from one place and not yet stored at another: no walk of the tables finds them."""

    def nothing_in_hand(self) -> None:
        """Until every entry is at a place: who must find all of a page's waits first.  Raises LostEntry."""
        while self.in_hand:
            if self._smp.patience is None or not self._smp.patience():
                raise LostEntry("an entry is being moved, and nobody moves it", f"{self.in_hand} entries")

    def _store_alone(self, ptep: int, old: int, entry: int) -> bool:
        """Compare and store behind whoever is in the middle of it: one word may be 0, and the entry look empty."""
        self._wait(ptep)
        return self.tables.set_pte_if(ptep, old, entry)

    def _wait(self, ptep: int) -> None:
        """Until nobody has stored one word of two.  Raises LostEntry where nobody is left who could end it."""
        while ptep in self.tables.half_stored:
            if self._smp.patience is None or not self._smp.patience():
                raise LostEntry("an entry is being stored, and nobody stores it", f"entry {self.tables.read(ptep):#x}")

    # -- one entry -----------------------------------------------------------------------------------------------

    def install(self, mm: Mm, ptep: int, entry: int, old: int = 0) -> bool:
        """A page comes where none was, or where an ``old`` entry kept its place; it takes over the caller's reference.

        False, with nothing done, when somebody else was faster.  Nothing is flushed: no CPU keeps what is not there.
        """
        if self.races.active:
            self.races.point("install")
        if not self._set_pte_if(ptep, old, entry):
            return False
        if is_mapped(entry) and entry & FRAME_MASK != self.zero_frame:
            mm.rss += 1
        return True

    def replace(self, cpu: KernelCpu, mm: Mm, linear: int, ptep: int, old: int, new: int) -> bool:
        """Another frame takes the place of one: store, flush, and only then let go of the old one.

        The entry takes over a reference on the new frame.  False, with nothing done, when ``old`` is no more.
        """
        if self._blind:
            old = self.tables.read(ptep)
        races, frame = self.races, old & FRAME_MASK
        if not self._set_pte_if(ptep, old, new):
            return False
        if frame == self.zero_frame:
            mm.rss += 1
        before = frame >> PAGE_SHIFT
        if self.early_free:
            self._page_alloc.put_page(before)
        if races.active:
            self._before_flush(mm, "replace")
        self.tlb.flush_tlb_page(cpu, mm, linear)
        if not self.early_free:
            if races.active:
                races.point("replace-flushed")
            self._page_alloc.put_page(before)
        return True

    def alone(self, cpu: KernelCpu, mm: Mm) -> bool:
        """Only this CPU has the address space loaded, and nobody must be told of each step, or find what it pushed."""
        unseen = not self.traced and not self._read.any
        return unseen and cpu.active_mm is mm and mm.cpu_mask == 1 << cpu.index

    def replace_on_return(
        self, cpu: KernelCpu, mm: Mm, linear: int, ptep: int, old: int, new: int, zeros: bool
    ) -> None:
        """``replace`` by a page of lowmem that is still to be filled, with ``zeros`` or out of what is mapped there.

        The CPU does it on its way to ring 3: fill, store, flush; and then lets go of the old frame.  Only while it is
        ``alone``.
        """
        routines = self.tlb.routines
        target = PAGE_OFFSET + (new & FRAME_MASK)
        if zeros:
            fill, blocks, source = routines.clear_page, CLEAR_PAGE_BLOCKS, linear + PAGE_SIZE
            mm.rss += 1
        else:
            fill, blocks, source = routines.copy_page, COPY_PAGE_BLOCKS, linear
        quads = cpu.on_way_out(self._break_cow, blocks + INVLPG_BLOCKS, 2, fill, source, target)
        quads[EAX] = PAGE_OFFSET + ptep * self.tables.fmt.entry_size
        quads[EDX], quads[EBP] = new & 0xFFFFFFFF, new >> 32
        cpu.replaced, self._stored[cpu.index] = (old & FRAME_MASK) >> PAGE_SHIFT, (ptep, linear)
        self.tlb.counters.pages += 1

    def _let_go(self, cpu: int, pfn: int) -> None:
        """The way out has been gone: who follows the tables hears of what it has stored before the frame is let go."""
        assert self._observer is not None
        size, (ptep, linear) = self.tables.fmt.entry_size, self._stored[cpu]
        self._observer.executed(ptep * size, size, cpu, linear)
        self.drop(pfn)

    def change(self, cpu: KernelCpu, mm: Mm, linear: int, ptep: int, old: int, new: int) -> bool:
        """The same frame with other rights, at once.  False, with nothing done, when ``old`` is no more."""
        if not self._set_pte_if(ptep, old, new):
            return False
        if self.races.active:
            self._before_flush(mm, "change")
        self.tlb.flush_tlb_page(cpu, mm, linear)
        return True

    def _before_flush(self, mm: Mm, name: str) -> None:
        """A sibling on another CPU may go on with the old entry here: its flush is under way."""
        mm.flights += 1
        self.races.point(name)
        mm.flights -= 1

    def share(self, child: Mm, linear: int, entry: int) -> None:
        """A new address space, which no CPU has loaded, gets an entry for a frame or a slot that another one has.

        Counted first: while the entry is half stored nobody may take the frame for one that is held once less.
        """
        tables = self.tables
        ptep = tables.pte_alloc(child.pgd, linear)
        if is_away(entry):
            self.swap.swap_duplicate(entry)
        else:
            pfn = tables.pte_pfn(entry)
            self._memmap.get_page(pfn)
            if pfn != self._zero_page:
                child.rss += 1
        tables.set_pte(ptep, entry)

    # -- many ----------------------------------------------------------------------------------------------------

    def gather(self, cpu: KernelCpu, mm: Mm, scope: Scope = Scope.PAGES) -> Gather:
        """Changes of one address space with one flush behind them."""
        return Gather(self, cpu, mm, scope)

    def drop(self, pfn: int) -> None:
        """Let go of a frame that an entry named."""
        self._page_alloc.put_page(pfn)

    def take(self, ptep: int) -> int:
        """Take an entry out, at once, so that no bit that a CPU sets is lost; behind the end of a move of its page."""
        self._wait(ptep)
        if is_away(self.tables.read(ptep)):
            self.settled(ptep)
        return self.tables.get_and_clear(ptep)

    def settled(self, ptep: int) -> int:
        """The entry at a place, when nobody is in the middle of storing it or of moving its page: who meets one waits.

        Raises LostEntry where nobody is left to end it.
        """
        while self.unsettled(ptep, entry := self.tables.read(ptep)):
            if not self.swap.migration_wait(ptep, entry):
                raise LostEntry("a page is being moved, and nobody moves it", f"entry {entry:#x}")
        return entry

    def unsettled(self, ptep: int, entry: int) -> bool:
        """Somebody is at work on the entry, which is not present meanwhile."""
        if not is_away(entry):
            return False
        return ptep in self.tables.half_stored or decode(entry).kind is Kind.MIGRATING

    # -- a page that is moved ------------------------------------------------------------------------------------

    def suspend(self, cpu: KernelCpu, mm: Mm, linear: int, ptep: int) -> int:
        """Nobody uses an entry while its page is moved to another frame: who comes waits.  What the entry was.

        Its reference stays; ``resume`` ends it.  Raises LostEntry where no frame is.
        """
        tables = self.tables
        entry = self.settled(ptep)
        if not is_mapped(entry):
            raise LostEntry("a page is to be moved from where none is", f"entry {entry:#x}")
        tables.set_pte(ptep, migration_entry(tables.pte_pfn(entry), tables.fmt.entry_size == 8))
        if self.races.active:
            self._before_flush(mm, "suspend")
        self.tlb.flush_tlb_page(cpu, mm, linear)
        return entry

    def resume(self, ptep: int, entry: int, pfn: int) -> None:
        """The page is in a frame, which the entry names from now on; it takes over a reference on that."""
        tables = self.tables
        tables.set_pte(ptep, tables.pfn_pte(pfn, entry & ~tables.entry_mask))
        if self.races.active:
            self.races.point("resume")


class Gather:
    """Entries of one address space that changed, and what is to be done when no CPU can use the old ones any more.

    ``finish`` flushes and then releases; nothing is released before.  A gather that is not finished is a mistake.
    """

    __slots__ = ("_cpu", "_door", "_mm", "_scope", "frames", "pages")

    def __init__(self, door: Entries, cpu: KernelCpu, mm: Mm, scope: Scope) -> None:
        self._door, self._cpu, self._mm, self._scope = door, cpu, mm, scope
        self.pages: list[int] = []
        """Linear addresses to be flushed."""
        self.frames: list[int] = []
        """Frames to be let go of behind the flush."""
        mm.flights += 1  # threads on other CPUs may go on with what it takes out, until it is finished

    def remove_page(self, linear: int, ptep: int, pfn: int) -> int:
        """Take an entry away if it names this frame still, which the caller lets go of; what it was, or 0."""
        entry = self._door.settled(ptep)
        if not is_mapped(entry) or (entry & FRAME_MASK) >> PAGE_SHIFT != pfn:
            return 0
        return self.remove(linear, ptep, drop=False)

    def remove(self, linear: int, ptep: int, drop: bool = True) -> int:
        """Take an entry away; what it was.  ``drop`` lets go of its frame behind the flush, else the caller does.

        A slot is let go of at once: no CPU has anything of it.
        """
        door = self._door
        entry = door.take(ptep)
        if is_away(entry):
            door.swap.swap_free(entry)
        elif is_mapped(entry):
            self.pages.append(linear)
            frame = entry & FRAME_MASK
            if frame != door.zero_frame:
                self._mm.rss -= 1
            if drop:
                self.frames.append(frame >> PAGE_SHIFT)
        if door.races.active:
            door.races.point("remove")
        return entry

    def protect(self, linear: int, ptep: int, changed: Callable[[int], int]) -> int:
        """Other rights, or bits taken back, where a frame is; what the entry was.

        It is read here, so that no bit that a CPU has set since is lost.
        """
        door = self._door
        entry = door.settled(ptep)
        if is_mapped(entry):
            new = changed(entry)
            if new != entry:
                door.tables.set_pte(ptep, new)
                self.pages.append(linear)
                if door.races.active:
                    door.races.point("protect")
        return entry

    def move(self, linear: int, ptep: int, target: int) -> None:
        """The entry goes to another place of the same address space; its frame or slot does not notice."""
        door = self._door
        entry = door.take(ptep)
        if is_mapped(entry):
            self.pages.append(linear)
        door.in_hand += 1
        if door.races.active:
            door.races.point("moving")
        door.tables.set_pte(target, entry)
        door.in_hand -= 1
        if door.races.active:
            door.races.point("move")

    def flush(self) -> None:
        """No CPU uses what was there before; the frames are still held."""
        if self._door.early_free:
            self._release()
        pages, self.pages = self.pages, []
        if pages and self._door.races.active:
            self._door.races.point("flush")
        if pages and self._scope is Scope.PAGES:
            self._door.tlb.flush_tlb_pages(self._cpu, self._mm, pages)
        elif pages and self._scope is Scope.SPACE:
            self._door.tlb.flush_tlb_mm(self._cpu, self._mm)

    def finish(self) -> None:
        """Flush, then let go of the frames."""
        self.flush()
        self._mm.flights -= 1
        if self.frames and self._door.races.active:
            self._door.races.point("release")
        self._release()

    def _release(self) -> None:
        frames, self.frames = self.frames, []
        for pfn in frames:
            self._door.drop(pfn)
