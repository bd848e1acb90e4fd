"""mem_map: one ``struct page`` for every frame number, in guest memory.

Eight words of 32 bits each::

    +0  flags      +8   mapping     +16  lru next    +24  private
    +4  count      +12  index       +20  lru prev    +28  virtual (kva, 0 when not mapped)

``flags`` holds the zone (PG_DMA, PG_HIGHMEM, neither for NORMAL) and, from bit 16 on, the age (2.4's, up to 64).
``private`` belongs to whoever has the page: the place on swap of one that is anonymous.  Hash chains of the page cache,
buffers and pte chains are in a side table (``page_ext.py``), and pages that have none do not pay for them.  The size is
one constant, here and in ``asm/kernel/kernel.inc``.

An all-zero ``struct page`` is a reserved frame (as 2.0's ``free_area_init`` leaves them all): a hole costs no store.
Frames are opened, that is their flags set and their frame handed to the allocator, a block at a time when the
allocator asks for more, so that the cost of booting does not grow with RAM.

Where the structures are is the business of a memory model (``memmodel.py``): in one array, or in pieces of one page
each, which hold the structures of ``PIECE`` frames.
"""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE

STRUCT_PAGE_SHIFT = 5
STRUCT_PAGE_BYTES = 1 << STRUCT_PAGE_SHIFT
STRUCT_PAGE_WORDS = STRUCT_PAGE_BYTES // 4
FLAGS, COUNT, MAPPING, INDEX, LRU_NEXT, LRU_PREV, PRIVATE, VIRTUAL, *_SPARE = range(STRUCT_PAGE_WORDS)
PIECE_SHIFT = PAGE_SHIFT - STRUCT_PAGE_SHIFT
PIECE = 1 << PIECE_SHIFT
"""Frames whose structures fill one page."""

PG_LOCKED, PG_REFERENCED, PG_DIRTY = 1 << 0, 1 << 2, 1 << 4
PG_DMA = 1 << 7
PG_TABLE, PG_CACHE = 1 << 8, 1 << 9
PG_HIGHMEM = 1 << 11
PG_BUDDY = 1 << 12
"""First frame of a free block; the index word is its order."""
PG_HEAD = 1 << 13
"""First frame of an allocated block of more than one; the index word is its order."""
PG_SLAB = 1 << 14
"""First frame of a kmalloc area."""
PG_LENT = 1 << 15
"""First frame of a block that a request by level was given: free_pages takes these, and no others."""
AGE_SHIFT, AGE_MAX = 16, 64
AGE_MASK = 0x7F << AGE_SHIFT
PG_OPEN = 1 << 31
"""Set on every frame that the allocator may own; clear means reserved."""

_FLAG_NAMES = {
    PG_LOCKED: "locked",
    PG_REFERENCED: "referenced",
    PG_DIRTY: "dirty",
    PG_DMA: "dma",
    PG_TABLE: "table",
    PG_CACHE: "cache",
    PG_HIGHMEM: "highmem",
    PG_BUDDY: "buddy",
    PG_HEAD: "head",
    PG_SLAB: "kmalloc",
    PG_LENT: "lent",
}


class BadPage(SandboxError):
    """A frame's count or flags say that the kernel is wrong about it."""

    exit_status = 3


class NoStructPage(SandboxError):
    """A frame number without a ``struct page`` was looked up: ``pfn_valid`` comes first."""

    exit_status = 3


class MemMap:
    """The structures of frame numbers [0, max_pfn).

    ``pieces`` lists physical addresses: of the whole array (one element), or of each page with the structures of
    ``PIECE`` frames, None where there is none.  Word ``bases[pfn >> shift] + pfn * STRUCT_PAGE_WORDS`` of ``words``
    is the first of a frame's.
    """

    def __init__(self, memory: PhysicalMemory, pieces: int | list[int | None], max_pfn: int) -> None:
        self.max_pfn = max_pfn
        self._memory = memory
        self.bases: list[int] = []
        self._pieces: list[int | None] = []
        if isinstance(pieces, int):
            self.shift = 60
            self._pieces = [pieces]
            self.bases = [memory.host_index(pieces) // 4]
            memory.declare(Reason.STRUCT_PAGE, pieces, self.bytes_for(max_pfn))
        else:
            self.shift = PIECE_SHIFT
            for number, physical in enumerate(pieces):
                self.bases.append(_ABSENT)
                self._pieces.append(None)
                if physical is not None:
                    self.add_piece(number, physical)
        self.renew_views()

    def renew_views(self) -> None:
        """Ask for the view to store through again: what is watched of our pages is something else now."""
        self.words = self._memory.mutable_words(Reason.STRUCT_PAGE, self._pages())

    def _pages(self) -> Iterator[int]:
        """The buffer's pages that hold structures."""
        size = PAGE_SIZE if self.shift == PIECE_SHIFT else self.bytes_for(self.max_pfn)
        for physical in self._pieces:
            if physical is not None:
                first = self._memory.host_index(physical) // PAGE_SIZE
                yield from range(first, first + size // PAGE_SIZE)

    @staticmethod
    def bytes_for(frames: int) -> int:
        """Bytes of the structures of so many frames, rounded up to pages."""
        return -(-frames * STRUCT_PAGE_BYTES // PAGE_SIZE) * PAGE_SIZE

    def add_piece(self, number: int, physical: int) -> None:
        """Frames [number * PIECE, …) have their structures in the page at ``physical`` from now on."""
        while len(self._pieces) <= number:
            self._pieces.append(None)
            self.bases.append(_ABSENT)
        self._pieces[number] = physical
        first = number << PIECE_SHIFT
        self.bases[number] = self._memory.host_index(physical) // 4 - first * STRUCT_PAGE_WORDS
        self.max_pfn = max(self.max_pfn, first + PIECE)
        self._memory.declare(Reason.STRUCT_PAGE, physical, PAGE_SIZE)
        if self._memory.store_watch is not None:
            self.renew_views()

    def has_page(self, pfn: int) -> bool:
        """The frame number has a structure."""
        number = pfn >> self.shift
        return 0 <= pfn < self.max_pfn and number < len(self._pieces) and self._pieces[number] is not None

    def physical(self, pfn: int) -> int:
        """Physical address of a frame's structure.  Raises NoStructPage."""
        if not self.has_page(pfn):
            raise NoStructPage(f"frame {pfn:#x} has no struct page")
        start = self._pieces[pfn >> self.shift]
        assert start is not None
        return start + (pfn - (pfn >> self.shift << self.shift)) * STRUCT_PAGE_BYTES

    def open(self, first: int, count: int, flags: int) -> None:
        """Give frames [first, first + count) their flags: they belong to the allocator from now on."""
        page = (PG_OPEN | flags).to_bytes(4, "little") + bytes(STRUCT_PAGE_BYTES - 4)
        self._store(first, count, page)

    def open_blocks(self, first: int, count: int, flags: int, order: int, unit: int) -> None:
        """Flags for frames in whole units, as free blocks of an order, PG_BUDDY on the first of each.

        Their structures must be ``in_a_row``; ``unit`` frames at least fill a page with theirs.
        """
        head = [0] * STRUCT_PAGE_WORDS
        head[FLAGS], head[INDEX] = PG_OPEN | PG_BUDDY | flags, order
        body = (PG_OPEN | flags).to_bytes(4, "little") + bytes(STRUCT_PAGE_BYTES - 4)
        block = b"".join(word.to_bytes(4, "little") for word in head) + body * ((1 << order) - 1)
        data = block * (unit >> order)
        self._memory.host_repeat(self.physical(first), count * STRUCT_PAGE_BYTES, data, Reason.STRUCT_PAGE)

    def in_a_row(self, first: int, count: int) -> bool:
        """The structures of frames in whole pieces follow each other in RAM."""
        start = self.physical(first)
        size = count * STRUCT_PAGE_BYTES
        pieces = self._pieces[first >> self.shift : first + count >> self.shift]
        return self.shift != PIECE_SHIFT or pieces == list(range(start, start + size, PAGE_SIZE))

    def close(self, first: int, count: int) -> None:
        """Reserve frames again: they left the allocator."""
        self._store(first, count, bytes(STRUCT_PAGE_BYTES))

    def _store(self, first: int, count: int, page: bytes) -> None:
        while count:
            take = min(count, PIECE - first % PIECE) if self.shift == PIECE_SHIFT else count
            self._memory.host_write(self.physical(first), page * take, Reason.STRUCT_PAGE)
            first += take
            count -= take

    def at(self, pfn: int) -> int:
        """Index in ``words`` of a frame's structure; its frame number is not checked."""
        return self.bases[pfn >> self.shift] + pfn * STRUCT_PAGE_WORDS

    def flags(self, pfn: int) -> int:
        try:
            return self.words[self.bases[pfn >> self.shift] + pfn * STRUCT_PAGE_WORDS]
        except IndexError:
            raise NoStructPage(f"frame {pfn:#x} has no struct page") from None

    def set_flags(self, pfn: int, flags: int) -> None:
        self.words[self.bases[pfn >> self.shift] + pfn * STRUCT_PAGE_WORDS] = flags

    def reserved(self, pfn: int) -> bool:
        """True for holes, the kernel's own frames, and everything that the allocator was never given."""
        return not self.has_page(pfn) or not self.flags(pfn) & PG_OPEN

    def age(self, pfn: int) -> int:
        """How often a page was found in use lately, 0 to AGE_MAX."""
        return (self.flags(pfn) & AGE_MASK) >> AGE_SHIFT

    def set_age(self, pfn: int, age: int) -> None:
        """Set it; more than AGE_MAX is that."""
        self.set_flags(pfn, self.flags(pfn) & ~AGE_MASK | min(age, AGE_MAX) << AGE_SHIFT)

    def private(self, pfn: int) -> int:
        """The word of whoever has the page."""
        return self.words[self.at(pfn) + PRIVATE]

    def set_private(self, pfn: int, word: int) -> None:
        """Set it; 32 bits."""
        self.words[self.at(pfn) + PRIVATE] = word

    def count(self, pfn: int) -> int:
        try:
            return self.words[self.bases[pfn >> self.shift] + pfn * STRUCT_PAGE_WORDS + COUNT]
        except IndexError:
            raise NoStructPage(f"frame {pfn:#x} has no struct page") from None

    def get_page(self, pfn: int) -> None:
        """Take a reference.  Reserved frames keep no count, as 2.4's fork does."""
        try:
            words, at = self.words, self.bases[pfn >> self.shift] + pfn * STRUCT_PAGE_WORDS
            flags = words[at]
        except IndexError:
            raise NoStructPage(f"frame {pfn:#x} has no struct page") from None
        if flags & PG_OPEN:
            words[at + COUNT] = words[at + COUNT] + 1 & 0xFFFFFFFF

    def describe(self, pfn: int) -> str:
        """The flags in words."""
        if not self.has_page(pfn):
            return "no struct page"
        flags = self.flags(pfn)
        if not flags & PG_OPEN:
            return "reserved"
        names = [name for bit, name in _FLAG_NAMES.items() if flags & bit]
        return " ".join(names) if names else "plain"


_ABSENT = -(1 << 62)
"""Far outside of every view: an index made of it raises."""
