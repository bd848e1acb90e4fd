"""kmap_atomic and what copies pages, for guest kernel code."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.kmap_atomic import KM_SLOTS, UnmapByPage
from sandbox.kernel.mm.page import BadPage
from sandbox.x86.paging import PAGE_SIZE


class AtomicCalls:
    """``page_to_pfn`` finds the frame of a struct page; raises BadPage.  Everything here may raise KmapError."""

    def __init__(self, kernel: Kernel, page_to_pfn: Callable[[int], int]) -> None:
        self._kernel, self._highmem, self._smp = kernel, kernel.highmem, kernel.smp
        self._pfn = page_to_pfn
        self._unchecked = kernel.broken("no-kunmap-check")

    def kmap_atomic(self, page: int, km_type: int) -> int:
        return self._highmem.kmap_atomic(self._smp.this_cpu, self._pfn(page), km_type)

    def kmap_atomic_pages(self, page: int, pages: int, km_type: int) -> int:
        """Frames in a row; a window also where they are of lowmem.  Raises BadPage where one is no page's."""
        first = self._pfn(page)
        frames = range(first, first + min(pages, KM_SLOTS + 1))
        missing = next((pfn for pfn in frames if not self._kernel.memmap.has_page(pfn)), None)
        if missing is not None or not frames:
            what = "no page" if missing is None else f"frame {missing:#x}, which has no struct page"
            raise BadPage(f"kmap_atomic_pages from frame {first:#x} on, {pages} pages: {what}")
        return self._highmem.windows.open(self._smp.this_cpu, frames, km_type)

    def kunmap_atomic(self, address: int, km_type: int) -> None:
        pfn = -1 if self._unchecked else self._kernel.model.pfn_of(address)
        if address % PAGE_SIZE and pfn >= 0 and self._kernel.memmap.has_page(pfn):
            raise UnmapByPage(
                f"kunmap_atomic of {address:#010x}, the struct page of frame {pfn:#x}: it wants the address"
            )
        self._highmem.kunmap_atomic(self._smp.this_cpu, address & -PAGE_SIZE, km_type)

    def kmap_atomic_to_page(self, address: int) -> int:
        kernel = self._kernel
        if PAGE_OFFSET <= address < kernel.layout.direct.end:
            return kernel.model.struct_page((address - PAGE_OFFSET) // PAGE_SIZE)
        pfn = self._highmem.windows.frame_at(self._smp.this_cpu.index, address)
        return 0 if pfn is None else kernel.model.struct_page(pfn)

    def copy_highpage(self, to: int, page: int) -> None:
        self._highmem.copy_highpage(self._smp.this_cpu, self._pfn(to), self._pfn(page), strict=True)

    def clear_highpage(self, page: int) -> None:
        self._highmem.clear_highpage(self._pfn(page), strict=True)
