"""mem_map: one ``struct page`` for every frame number, in guest memory.

Eight words of 32 bits each::

    +0  flags      +8   mapping     +16  lru next    +24  age, chain
    +4  count      +12  index       +20  lru prev    +28  virtual (kva, 0 when not mapped)

An all-zero ``struct page`` is a reserved frame (as 2.0's ``free_area_init`` leaves them all): a hole costs no store.
Frames are opened, that is their flags set and their frame handed to the allocator, a block at a time when the
allocator asks for more, so that the cost of booting does not grow with RAM.
"""

from __future__ import annotations

from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.errors import SandboxError

STRUCT_PAGE_BYTES = 32
STRUCT_PAGE_WORDS = STRUCT_PAGE_BYTES // 4
FLAGS, COUNT, MAPPING, INDEX, LRU_NEXT, LRU_PREV, AGE, VIRTUAL = range(STRUCT_PAGE_WORDS)

PG_LOCKED, PG_REFERENCED, PG_DIRTY = 1 << 0, 1 << 2, 1 << 4
PG_TABLE, PG_CACHE = 1 << 8, 1 << 9
PG_HIGHMEM = 1 << 11
PG_OPEN = 1 << 31
"""Set on every frame that the allocator may own; clear means reserved."""

_FLAG_NAMES = {
    PG_LOCKED: "locked",
    PG_REFERENCED: "referenced",
    PG_DIRTY: "dirty",
    PG_TABLE: "table",
    PG_CACHE: "cache",
    PG_HIGHMEM: "highmem",
}


class BadPage(SandboxError):
    """A frame's count or flags say that the kernel is wrong about it."""

    exit_status = 3


class MemMap:
    """The array at a physical address, for frame numbers [0, max_pfn)."""

    def __init__(self, memory: PhysicalMemory, physical: int, max_pfn: int) -> None:
        self.physical = physical
        self.max_pfn = max_pfn
        self.words = memory.mutable_words(Reason.STRUCT_PAGE)
        self.base = memory.host_index(physical) // 4
        self._memory = memory
        memory.declare(Reason.STRUCT_PAGE, physical, self.bytes_for(max_pfn))

    @staticmethod
    def bytes_for(max_pfn: int) -> int:
        """Bytes of the whole array, rounded up to pages."""
        return -(-max_pfn * STRUCT_PAGE_BYTES // 4096) * 4096

    def open(self, first: int, count: int, flags: int) -> None:
        """Give frames [first, first + count) their flags: they belong to the allocator from now on."""
        page = (PG_OPEN | flags).to_bytes(4, "little") + bytes(STRUCT_PAGE_BYTES - 4)
        self._memory.host_write(self.physical + first * STRUCT_PAGE_BYTES, page * count, Reason.STRUCT_PAGE)

    def flags(self, pfn: int) -> int:
        return self.words[self.base + pfn * STRUCT_PAGE_WORDS]

    def set_flags(self, pfn: int, flags: int) -> None:
        self.words[self.base + pfn * STRUCT_PAGE_WORDS] = flags

    def reserved(self, pfn: int) -> bool:
        """True for holes, the kernel's own frames, and everything that the allocator was never given."""
        return pfn >= self.max_pfn or not self.flags(pfn) & PG_OPEN

    def count(self, pfn: int) -> int:
        return self.words[self.base + pfn * STRUCT_PAGE_WORDS + COUNT]

    def get_page(self, pfn: int) -> None:
        """Take a reference.  Reserved frames keep no count, as 2.4's fork does."""
        at = self.base + pfn * STRUCT_PAGE_WORDS
        if self.words[at] & PG_OPEN:
            self.words[at + COUNT] += 1

    def describe(self, pfn: int) -> str:
        """The flags in words."""
        flags = self.flags(pfn)
        if not flags & PG_OPEN:
            return "reserved"
        names = [name for bit, name in _FLAG_NAMES.items() if flags & bit]
        return " ".join(names) if names else "plain"
