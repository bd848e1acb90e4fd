"""Memory that is added while the kernel runs (MM 16, post 003): structures first, then mappings, then the allocator."""

from __future__ import annotations

from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import PAGE_OFFSET, Layout
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import DMA_END, PgDat
from sandbox.kernel.mm.pte import is_present
from sandbox.kernel.mm.sparse import CannotAddMemory, MemoryModel
from sandbox.kernel.mm.vmalloc import Vmalloc
from sandbox.machine.memory import PhysicalMemory
from sandbox.x86.paging import PAGE_SIZE, RW, A, D, G, P


class Hotplug:
    """Adds ranges of RAM to a running kernel; ``ram`` lists what it knows of, as (physical, bytes)."""

    def __init__(
        self,
        memory: PhysicalMemory,
        ram: list[tuple[int, int]],
        entries: KernelEntries,
        layout: Layout,
        model: MemoryModel,
        pgdat: PgDat,
        page_alloc: PageAllocator,
        highmem: Highmem,
        vmalloc: Vmalloc,
        limit: int | None,
        broken: Breakage,
    ) -> None:
        self._limit = limit
        self._memory, self._ram, self._entries, self._layout, self._model = memory, ram, entries, layout, model
        self._pgdat, self._page_alloc, self._highmem, self._vmalloc = pgdat, page_alloc, highmem, vmalloc
        self._unprepared = broken("no-add-check")

    def add_memory(self, physical: int, size: int) -> None:
        """Give a range of RAM that boot was not told of to the allocator; bytes, whole pages.

        Frames inside the direct map's region are mapped there, the rest becomes highmem.  Raises CannotAddMemory,
        OutOfMemory.
        """
        self._check(physical, size)
        first, count = physical // PAGE_SIZE, size // PAGE_SIZE
        if not self._unprepared:
            self._model.populate(first, count, self)
        vmemmap = self._layout.vmemmap
        if self._vmalloc.eager and vmemmap.size:
            self._vmalloc.sync_all(vmemmap.start, vmemmap.end)
        low = max(0, min(count, self._layout.direct_frames - first))
        if low:
            self._map_directly(first, low)
        self._give(first, low, count)
        self._ram.append((physical, size))

    def _check(self, physical: int, size: int) -> None:
        if size <= 0 or physical % PAGE_SIZE or size % PAGE_SIZE:
            raise CannotAddMemory(f"{size:#x} bytes at {physical:#x} are not whole pages")
        end = physical + size
        if self._limit is not None and end > self._limit:
            raise CannotAddMemory(
                f"{physical:#x}-{end:#x} ends above {self._limit:#x}, where this kernel uses no RAM (--highmem)"
            )
        if not self._memory.is_ram(physical, size):
            raise CannotAddMemory(f"{physical:#x}-{end:#x} is not RAM throughout")
        if any(start < end and physical < start + length for start, length in self._ram):
            raise CannotAddMemory(f"{physical:#x}-{end:#x} meets RAM that is there already")

    def _give(self, first: int, low: int, count: int) -> None:
        """Frames [first, first + count), of which ``low`` are in the direct map, join their zones."""
        pgdat = self._pgdat
        split = max(0, min(low, DMA_END - first))
        for zone, start, end in ((pgdat.dma, 0, split), (pgdat.normal, split, low), (pgdat.high, low, count)):
            if start < end:
                pgdat.add_range(zone, first + start, end - start)
        for zone in pgdat.zones:
            zone.publish()

    def _map_directly(self, first: int, count: int) -> None:
        """Small pages in the direct map; where a large page covers a frame already, it stays."""
        tables = self._entries.tables
        flags = P | RW | A | D | G | tables.nx
        for pfn in range(first, first + count):
            linear = PAGE_OFFSET + pfn * PAGE_SIZE
            if not is_present(tables.lookup_pte(tables.kernel_pgd, linear)):
                self._entries.map_page(linear, tables.pfn_pte(pfn, flags))
        self._vmalloc.sync_all(PAGE_OFFSET + first * PAGE_SIZE, PAGE_OFFSET + (first + count) * PAGE_SIZE)

    # -- where the structures lie --------------------------------------------------------------------------------

    def reserve(self, kind: str, size: int) -> tuple[int, tuple[int, ...]]:
        return self._vmalloc.reserve(kind, size)

    def alloc(self) -> int:
        pfn = self._page_alloc.alloc_page()
        self._highmem.clear_highpage(pfn)
        return pfn

    def free(self, pfn: int) -> None:
        self._page_alloc.put_page(pfn)
