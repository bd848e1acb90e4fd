"""Memory that is added while the kernel runs (MM 16, post 003): structures first, then mappings, then the allocator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.base.layout import PAGE_OFFSET, PAGE_SIZE
from sandbox.kernel.mm.frames import DMA_END
from sandbox.kernel.mm.pgtable import RW, A, D, G, P
from sandbox.kernel.mm.sparse import CannotAddMemory

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel


def add_memory(kernel: Kernel, physical: int, size: int) -> None:
    """Give a range of RAM that boot was not told of to the allocator; bytes, whole pages.

    Frames inside the direct map's region are mapped there, the rest becomes highmem.  Raises CannotAddMemory,
    OutOfMemory.
    """
    if size <= 0 or physical % PAGE_SIZE or size % PAGE_SIZE:
        raise CannotAddMemory(f"{size:#x} bytes at {physical:#x} are not whole pages")
    end = physical + size
    if not kernel.memory.is_ram(physical, size):
        raise CannotAddMemory(f"{physical:#x}-{end:#x} is not RAM throughout")
    if any(start < end and physical < start + length for start, length in kernel.ram):
        raise CannotAddMemory(f"{physical:#x}-{end:#x} meets RAM that is there already")
    first, count = physical >> 12, size >> 12
    if not kernel.broken("no-add-check"):
        kernel.model.populate(kernel, first, count)
    if kernel.config.policies["vmalloc_sync"] == "eager":
        vmemmap = kernel.layout.vmemmap
        if vmemmap.size:
            kernel.vmalloc.sync_all(vmemmap.start, vmemmap.end)
    edge = kernel.layout.direct_frames
    low = max(0, min(count, edge - first))
    frames = kernel.frames
    if low:
        _map_directly(kernel, first, low)
        split = max(0, min(low, DMA_END - first))
        if split:
            frames.add_range(frames.dma, first, split)
        if low > split:
            frames.add_range(frames.normal, first + split, low - split)
    if count > low:
        frames.add_range(frames.high, first + low, count - low)
    for zone in frames.zones:
        zone.open_all()
    kernel.ram.append((physical, size))


def _map_directly(kernel: Kernel, first: int, count: int) -> None:
    """Small pages in the direct map; where a large page covers a frame already, it stays."""
    tables, flags = kernel.tables, P | RW | A | D | G | kernel.tables.nx
    for pfn in range(first, first + count):
        linear = PAGE_OFFSET + (pfn << 12)
        if not tables.lookup_pte(kernel.kernel_pgd, linear) & P:
            tables.map_page(kernel.kernel_pgd, linear, tables.pfn_pte(pfn, flags), user=False)
    kernel.vmalloc.sync_all(PAGE_OFFSET + (first << 12), PAGE_OFFSET + (first + count << 12))
