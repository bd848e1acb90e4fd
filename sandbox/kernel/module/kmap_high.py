"""kmap, kunmap and their kin, for guest kernel code.

``kmap`` takes a struct page and gives an address; ``kunmap`` takes the struct page again, where ``kunmap_atomic`` takes
the address.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.kmap import BadKunmap
from sandbox.kernel.mm.page import VIRTUAL
from sandbox.x86.paging import PAGE_SIZE


class KmapCalls:
    """``page_to_pfn`` finds the frame of a struct page; raises BadPage."""

    def __init__(self, kernel: Kernel, page_to_pfn: Callable[[int], int]) -> None:
        self._kernel, self._kmap, self._smp = kernel, kernel.kmap, kernel.smp
        self._pfn = page_to_pfn

    def kmap(self, page: int) -> int:
        """An address until ``kunmap``.  Raises as ``Kmap.map`` does."""
        return self._kmap.map(self._smp.this_cpu, self._pfn(page))

    def kunmap(self, page: int) -> None:
        """Raises BadKunmap, and WrongContext in an interrupt."""
        frame = self.frame_at(page)
        if frame is not None:
            raise BadKunmap(f"kunmap of {page:#010x}, the address of frame {frame:#x}: it wants the struct page")
        pfn = self._pfn(page)
        linear = self._kmap.page_address(pfn)
        if not linear:
            raise BadKunmap(f"kunmap of frame {pfn:#x}: it is not mapped")
        self._kmap.unmap(self._smp.this_cpu, pfn, linear)

    def kmap_to_page(self, address: int) -> int:
        """The struct page behind an address of kmap or of the direct map, 0 for none (3.x)."""
        kernel, pfn = self._kernel, self.frame_at(address)
        if pfn is None and PAGE_OFFSET <= address < kernel.layout.direct.end:
            pfn = (address - PAGE_OFFSET) // PAGE_SIZE
        return 0 if pfn is None or not kernel.memmap.has_page(pfn) else kernel.model.struct_page(pfn)

    def kmap_flush_unused(self) -> None:
        """A lap's unmapping and flush, now (2.6.23)."""
        self._kmap.flush_all_zero_pkmaps(self._smp.this_cpu)

    def page_address(self, page: int) -> int:
        """The address that a page has: of the direct map, the kva pool or kmap; 0 for none."""
        kernel, pfn = self._kernel, self._pfn(page)
        if pfn < kernel.layout.direct_frames:
            return PAGE_OFFSET + pfn * PAGE_SIZE
        return kernel.memmap.words[kernel.memmap.at(pfn) + VIRTUAL]

    def frame_at(self, address: int) -> int | None:
        """The frame behind an address of kmap, None for other addresses."""
        return self._kmap.kmap_to_page(address)
