"""What a page has besides its ``struct page``: hash chain, buffers, pte chain; a side table (3.19's page_ext).

Four words of 32 bits a frame, in pages of lowmem that are taken when the first frame of ``EXT_PIECE`` needs them::

    +0  next_hash   +4  pprev_hash      chain of the page cache: the next page's struct page; where its own address is
    +8  buffers     +12 pte_chain       the first buffer head; the first node of the reverse map

2.4 has them in ``struct page``, which is 48 bytes then and more.  Here that stays at 32, so that mem_map of 62 GB fits
into lowmem; a machine without such pages pays nothing.  A page that is freed must have let go of all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.mm.page import BadPage, MemMap
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE

PAGE_EXT_SHIFT = 4
PAGE_EXT_BYTES = 1 << PAGE_EXT_SHIFT
NEXT_HASH, PPREV_HASH, BUFFERS, PTE_CHAIN = range(PAGE_EXT_BYTES // 4)
NAMES = ("next_hash", "pprev_hash", "buffers", "pte_chain")
EXT_PIECE_SHIFT = PAGE_SHIFT - PAGE_EXT_SHIFT
EXT_PIECE = 1 << EXT_PIECE_SHIFT
"""Frames whose words fill one page."""


class PageExt:
    """The words of all frames; those of a frame that nobody has given any are 0.

    ``take`` gives the frame number of a page of the direct map, for one piece.
    """

    def __init__(self, memory: PhysicalMemory, memmap: MemMap, take: Callable[[], int]) -> None:
        self._memory, self._memmap, self._take = memory, memmap, take
        self.renew_views()
        self.pieces: dict[int, int] = {}
        """Physical address / 4 of a piece, by frame number // EXT_PIECE."""

    def renew_views(self) -> None:
        """Ask for the view to store through again: who watches stores has come or gone."""
        self._words = self._memory.mutable_words(Reason.STRUCT_PAGE)

    def get(self, pfn: int, word: int) -> int:
        """One of a frame's words."""
        start = self.pieces.get(pfn >> EXT_PIECE_SHIFT)
        return 0 if start is None else self._words[_at(start, pfn, word)]

    def set(self, pfn: int, word: int, value: int) -> None:
        """Set one; 32 bits.  Raises OutOfMemory for the first of a piece, NoStructPage for no frame."""
        start = self.pieces.get(pfn >> EXT_PIECE_SHIFT)
        if start is None:
            if not value:
                return
            start = self._add(pfn)
        self._words[_at(start, pfn, word)] = value

    def physical(self, pfn: int) -> int | None:
        """Physical address of a frame's words, None while there are none."""
        start = self.pieces.get(pfn >> EXT_PIECE_SHIFT)
        return None if start is None else _at(start, pfn, 0) * 4

    def check_free(self, pfn: int, order: int = 0) -> None:
        """A block is freed: nothing may lead to its pages, or hang on them.  Raises BadPage."""
        for each in range(pfn, pfn + (1 << order)):
            held = [name for word, name in enumerate(NAMES) if self.get(each, word)]
            if held:
                raise BadPage(f"frame {each:#x} is freed with {' and '.join(held)}")

    def _add(self, pfn: int) -> int:
        self._memmap.physical(pfn)
        physical = self._take() << PAGE_SHIFT
        self._memory.declare(Reason.STRUCT_PAGE, physical, PAGE_SIZE)
        self._memory.host_write(physical, bytes(PAGE_SIZE), Reason.STRUCT_PAGE)
        self.pieces[pfn >> EXT_PIECE_SHIFT] = start = physical // 4
        return start


def _at(start: int, pfn: int, word: int) -> int:
    return start + (pfn % EXT_PIECE) * (PAGE_EXT_BYTES // 4) + word
