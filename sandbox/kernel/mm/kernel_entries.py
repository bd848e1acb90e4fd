"""The door's twin for the kernel half: the direct map, windows, vmalloc, stacks, and the directories that share them.

Entries of the kernel half hold no reference and are nobody's rss; what they have in common with the user half is that
what goes must be forgotten by every CPU before its frame is somebody else's, or its address something else's.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.base.races import Races
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.tlb import Tlb
from sandbox.x86.paging import PAGE_SHIFT

NOTHING_BROKEN = Breakage()
NARROW_FRAMES = (1 << 20) - 1
"""What is left of a frame number whose address was computed in an unsigned long of 32 bits."""


class KernelEntries:
    """Stores into the kernel's own directory (swapper_pg_dir), and what other directories copy of it.

    Boot has no ``tlb`` yet: what it takes away it has flushed itself.
    """

    __slots__ = ("_narrow", "races", "tables", "tlb")

    def __init__(self, tables: PageTables, broken: Breakage = NOTHING_BROKEN) -> None:
        self.tables = tables
        self._narrow = broken("narrow-pfn")
        self.races = Races(None)
        self.tlb: Tlb | None = None

    def mk_pte(self, pfn: int, flags: int) -> int:
        """The entry that gives a page an address for a while: windows, kva, kmap."""
        return (pfn & NARROW_FRAMES if self._narrow else pfn) << PAGE_SHIFT | flags

    # -- pages ---------------------------------------------------------------------------------------------------

    def map_page(self, linear: int, entry: int) -> None:
        """A page where none is.  Raises OutOfMemory and TableError."""
        self.tables.map_page(self.tables.kernel_pgd, linear, entry, user=False)

    def place(self, linear: int) -> int:
        """The place of an entry, its table made if there was none.  Raises OutOfMemory and TableError."""
        return self.tables.pte_alloc(self.tables.kernel_pgd, linear, user=False)

    def map_at(self, place: int, entry: int) -> None:
        """A page at a place where none is."""
        self.tables.set_pte(place, entry)

    def clear_at(self, place: int) -> None:
        """Take the page at a place away; who uses its address again sees to it that no CPU has the old one."""
        self.tables.set_pte(place, 0)
        if self.races.active:
            self.races.point("kva")

    def clear_pkmap(self, place: int) -> None:
        """The same for a slot of kmap, before the flush of the lap."""
        self.tables.set_pte(place, 0)
        if self.races.active:
            self.races.point("pkmap")

    def map_run(self, linear: int, entries: Sequence[int], user: bool = False) -> None:
        """Pages in a row, inside of one table that nobody uses yet."""
        tables = self.tables
        tables.set_ptes(tables.pte_alloc(tables.kernel_pgd, linear, user=user), entries)

    def map_large(self, linear: int, entry: int) -> None:
        """A large page.  Raises TableError where something is."""
        self.tables.set_large(self.tables.kernel_pgd, linear, entry)

    def unmap(self, linear: int) -> None:
        """Take a page away; the caller flushes before the frame or the address is used again."""
        self.map_page(linear, 0)
        if self.races.active:
            self.races.point("unmap")

    def flush(self, cpu: KernelCpu) -> None:
        """Every CPU forgets what was taken away (``unmap``)."""
        assert self.tlb is not None
        if self.races.active:
            self.races.point("unmap-flush")
        self.tlb.flush_tlb_all(cpu)

    # -- windows of one CPU --------------------------------------------------------------------------------------

    def set_window(self, cpu: KernelCpu, linear: int, entry: int) -> None:
        """Another page behind an address that only this CPU uses, which therefore tells nobody else."""
        assert self.tlb is not None
        self.tables.map_page(self.tables.kernel_pgd, linear, entry, user=False)
        self.tlb.flush_tlb_one(cpu, linear)

    def window(self, linear: int) -> int:
        """The entry there."""
        return self.tables.lookup_pte(self.tables.kernel_pgd, linear)

    def clear_window(self, linear: int, cpu: KernelCpu | None = None) -> None:
        """Nothing behind it, and this CPU forgets what was; without ``cpu`` it does not."""
        self.tables.map_page(self.tables.kernel_pgd, linear, 0, user=False)
        if cpu is not None:
            assert self.tlb is not None
            self.tlb.flush_tlb_one(cpu, linear)

    # -- the same in the page table of the task that runs: post 001's two addresses, for the kernel only -----------

    def set_task_window(self, pgd: int, linear: int, entry: int) -> None:
        """A page where none is and no program can have one.  Raises OutOfMemory."""
        self.tables.map_page(pgd, linear, entry)

    def has_task_window(self, pgd: int, linear: int) -> bool:
        """The table for such a page is there, or could be made."""
        try:
            self.tables.pte_alloc(pgd, linear)
        except OutOfMemory:
            return False
        return True

    def clear_task_window(self, pgd: int, linear: int, cpu: KernelCpu | None = None) -> None:
        """Nothing behind it, and this CPU forgets what was; without ``cpu`` it does not."""
        self.tables.map_page(pgd, linear, 0)
        if cpu is not None:
            assert self.tlb is not None
            self.tlb.flush_tlb_one(cpu, linear)

    # -- directories ---------------------------------------------------------------------------------------------

    def sync(self, pgd: int, linear: int) -> bool:
        """Another directory learns of the table over a kernel address; False when it knew.  Raises TableError."""
        return self.tables.sync_directory(pgd, self.tables.kernel_pgd, linear)

    def sync_range(self, pgd: int, start: int, end: int) -> None:
        """The same for every table over [start, end)."""
        for linear in (*range(start, end, self.tables.large_page), end - 1):
            self.sync(pgd, linear)

    def clear_directory(self, linear: int) -> None:
        """Empty a slot of the kernel's own directory.  At boot only: no other directory has been made."""
        self.tables.clear_directory(self.tables.kernel_pgd, linear)
