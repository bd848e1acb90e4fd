"""The hole from 14 to 16 MB: cleared of what lies in it while programs run, and given to a card (post 002).

The post says that this cannot be done: "if gcc is running in video memory, there is no way to move it".  With the page
tables of every process at hand it can: free frames are taken off the lists, pages of programs and of the page cache are
copied elsewhere by the CPU and every entry is changed.  What the kernel itself reaches by its direct address (tables,
stacks, kmalloc) cannot move, and is said.
"""

from __future__ import annotations

from collections import defaultdict

from sandbox.kernel.abi.errno import EBUSY, ENODEV, ENOMEM, KernelError
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.entries import Entries
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.mm import MmList
from sandbox.kernel.mm.page import PG_CACHE, PG_DIRTY
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.rmap import Place, file_places
from sandbox.machine.machine import Machine
from sandbox.x86.paging import PAGE_SIZE

HOLE = range(14 << 20 >> 12, 16 << 20 >> 12)
"""Frame numbers."""


class IsaHole:
    """Moves what lies in a range of frames."""

    __slots__ = (
        "_blind", "_code", "_entries", "_highmem", "_machine", "_memmap", "_mmlist", "_page_alloc", "_pagecache",
        "_pgdat", "_smp", "_tables",
    )  # fmt: skip

    def __init__(
        self,
        machine: Machine,
        entries: Entries,
        smp: Smp,
        pgdat: PgDat,
        page_alloc: PageAllocator,
        highmem: Highmem,
        pagecache: PageCache,
        code: CodeCache,
        mmlist: MmList,
        broken: Breakage,
    ) -> None:
        self._machine, self._entries, self._tables, self._smp = machine, entries, entries.tables, smp
        self._pgdat, self._memmap, self._page_alloc, self._highmem = pgdat, pgdat.memmap, page_alloc, highmem
        self._pagecache, self._code, self._mmlist = pagecache, code, mmlist
        self._blind = broken("no-hole-clear")

    def open_hole(self) -> int:
        """Clear the range and let the chipset hand it to the card; the number of pages that were moved.

        Raises KernelError: EBUSY for a page that cannot move, ENOMEM when there is no room for one, ENODEV without a
        card; nothing has changed then but where some pages are.
        """
        machine = self._machine
        device = machine.hole_device
        if device is None:
            raise KernelError(ENODEV)
        moved = 0 if self._blind else self.clear_range(HOLE)
        machine.open_hole(HOLE.start * PAGE_SIZE, device)
        machine.hole_device = None
        return moved

    def clear_range(self, window: range) -> int:
        """Take frames [start, stop) away from whoever has them; they are reserved afterwards.

        Returns the number of pages that were moved.  Raises KernelError(EBUSY, ENOMEM).
        """
        pgdat, memmap = self._pgdat, self._memmap
        pgdat.drain()
        for zone in pgdat.zones:
            if any(zone.has(pfn) for pfn in window):
                zone.open_all()
        wanted = [pfn for pfn in window if not memmap.reserved(pfn)]
        taken = [pfn for pfn in wanted if pgdat.isolate(pfn)]
        moved = 0
        try:
            places = self._places(set(wanted) - set(taken))
            for pfn in sorted(set(wanted) - set(taken)):
                if pgdat.isolate(pfn):  # reclaim freed it, for the copy of an earlier one
                    taken.append(pfn)
                    continue
                self._move(pfn, places[pfn], window)
                pgdat.isolate(pfn)
                taken.append(pfn)
                moved += 1
        except BaseException:
            for pfn in taken:
                pgdat.zone_of(pfn).free_one_page(pfn, 0)
                pgdat.free_frames += 1
            raise
        for pfn in wanted:
            pgdat.zone_of(pfn).withdraw(pfn, 1)
            memmap.close(pfn, 1)
        pgdat.total_frames -= len(wanted)
        return moved

    def _places(self, frames: set[int]) -> dict[int, list[Place]]:
        """Every user entry that names one of the frames: by the areas that map its file, or by a scan of all tables."""
        found: dict[int, list[Place]] = defaultdict(list)
        cached = {pfn for pfn in frames if self._memmap.flags(pfn) & PG_CACHE}
        for pfn in cached:
            found[pfn] = self._places_of_file(pfn)
        anonymous = frames - cached
        if anonymous:
            tables = self._tables
            for mm in self._mmlist:
                for linear, entry in tables.user_ptes(mm.pgd, 0, PAGE_OFFSET):
                    if is_mapped(entry) and tables.pte_pfn(entry) in anonymous:
                        found[tables.pte_pfn(entry)].append((mm, linear, tables.pte_alloc(mm.pgd, linear)))
        return found

    def _places_of_file(self, pfn: int) -> list[Place]:
        """The entries of a page of the cache (i_mmap)."""
        space, index = self._pagecache.space_of(pfn)
        return [place for place, _ in file_places(self._tables, space.inode(), index, pfn)]

    def _move(self, pfn: int, places: list[Place], window: range) -> None:
        """Copy one page out of the window and let everybody who had it have the copy."""
        memmap, cpu = self._memmap, self._smp.this_cpu
        flags = memmap.flags(pfn)
        held = len(places) + bool(flags & PG_CACHE)
        if held == 0 or memmap.count(pfn) != held:
            raise KernelError(EBUSY)
        new = self._frame_beside(pfn, window)
        suspended = [self._entries.suspend(cpu, *place) for place in places]
        if memmap.count(pfn) != held:
            self._stay(pfn, new, places, suspended)
            raise KernelError(EBUSY)
        try:
            self._highmem.copy_highpage(cpu, new, pfn)
        except OutOfMemory as error:  # no address for it (policies of high_pages): nothing is moved
            self._stay(pfn, new, places, suspended)
            raise KernelError(ENOMEM) from error
        for (_, _, ptep), entry in zip(places, suspended, strict=True):
            self._entries.resume(ptep, entry, new)
            memmap.get_page(new)
        if flags & PG_CACHE:
            self._pagecache.replace(pfn, new)
            memmap.set_flags(new, memmap.flags(new) | flags & PG_DIRTY)
            memmap.get_page(new)
        self._code.mapped(new, True, True)
        self._code.drop()
        self._page_alloc.put_page(new)
        for _ in range(held):
            self._page_alloc.put_page(pfn)
        self._pgdat.drain()

    def _stay(self, pfn: int, new: int, places: list[Place], suspended: list[int]) -> None:
        """Nothing is moved: somebody took a reference meanwhile (migrate_page_move_mapping), or no address was left."""
        for (_, _, ptep), entry in zip(places, suspended, strict=True):
            self._entries.resume(ptep, entry, pfn)
        self._page_alloc.put_page(new)

    def _frame_beside(self, pfn: int, window: range) -> int:
        """A frame outside of the window; meanwhile reclaim cannot take the page.  Raises KernelError(ENOMEM)."""
        self._memmap.get_page(pfn)
        try:
            return self._frame_outside(window)
        except OutOfMemory as error:
            raise KernelError(ENOMEM) from error
        finally:
            self._page_alloc.put_page(pfn)

    def _frame_outside(self, window: range) -> int:
        inside, found = [], -1
        try:
            while found < 0:
                pfn = self._page_alloc.alloc_page(GFP_HIGHUSER)
                if pfn in window:
                    inside.append(pfn)
                else:
                    found = pfn
        finally:
            for pfn in inside:
                self._page_alloc.put_page(pfn)
        return found
