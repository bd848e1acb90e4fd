"""Frames for page tables and descriptor tables: cleared by the CPU, and closed to every other kind of host bytes."""

from __future__ import annotations

from sandbox.kernel.mm.gfp import GFP_KERNEL
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.page import PG_LENT, PG_TABLE
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import PAGE_SIZE


class TableFrames:
    """What ``PageTables`` calls for a table after boot."""

    __slots__ = ("_highmem", "_memmap", "_memory", "_page_alloc", "held")

    def __init__(self, memory: PhysicalMemory, pgdat: PgDat, page_alloc: PageAllocator, highmem: Highmem) -> None:
        self._memory, self._memmap = memory, pgdat.memmap
        self._page_alloc, self._highmem = page_alloc, highmem
        self.held = 0
        """Frames of tables that were made since boot."""

    def alloc(self) -> int:
        """A cleared frame of lowmem.  Raises OutOfMemory."""
        pfn = self._page_alloc.alloc_page()
        self.held += 1
        self._highmem.clear_highpage(pfn)
        self._memmap.set_flags(pfn, self._memmap.flags(pfn) | PG_TABLE)
        self._memory.declare(Reason.TABLE, pfn * PAGE_SIZE, PAGE_SIZE)
        return pfn

    def alloc_block(self, order: int) -> int:
        """The first of 2^order cleared frames of lowmem in a row, for a table that is read by linear addresses.

        Raises OutOfMemory.
        """
        if not order:
            return self.alloc()
        pfn = self._page_alloc.alloc_pages(GFP_KERNEL, order)
        self._memmap.set_flags(pfn, self._memmap.flags(pfn) & ~PG_LENT)
        for each in range(pfn, pfn + (1 << order)):
            self._highmem.clear_highpage(each)
            self._memmap.set_flags(each, self._memmap.flags(each) | PG_TABLE)
        self._memory.declare(Reason.TABLE, pfn * PAGE_SIZE, PAGE_SIZE << order)
        self.held += 1 << order
        return pfn

    def free_block(self, pfn: int, order: int) -> None:
        """Give such frames back."""
        if not order:
            self.free(pfn)
            return
        self._memory.withdraw(pfn * PAGE_SIZE, PAGE_SIZE << order)
        for each in range(pfn, pfn + (1 << order)):
            self._memmap.set_flags(each, self._memmap.flags(each) & ~PG_TABLE)
        self._memmap.set_flags(pfn, self._memmap.flags(pfn) | PG_LENT)
        self.held -= 1 << order
        self._page_alloc.free_pages(pfn, order)

    def free(self, pfn: int) -> None:
        """Give a table's frame back."""
        self._memory.withdraw(pfn * PAGE_SIZE, PAGE_SIZE)
        self.held -= 1
        self._page_alloc.put_page(pfn)
