"""FLATMEM, SPARSEMEM and the virtual mem_map: where the struct page of a frame is (MM 16, post 003).

===========  ==========================================  ====================================================
model        pfn_valid(pfn)                              pfn_to_page(pfn)
===========  ==========================================  ====================================================
flatmem      pfn < max_pfn                               mem_map + pfn
sparsemem    the section's word in mem_section, bit 1    (word without its low bits) + pfn
vmemmap      pfn < max_pfn, and the walk of its address  vmem_map + pfn
===========  ==========================================  ====================================================

``asm/kernel/memmodel.S`` does it for guest code from the words that boot stores; the walk is done there in two ways,
through the tables and by an access that may fault.  The array of FLATMEM and the sections' are lowmem; what costs
kernel addresses is the array itself there, and the reserved range for the virtual map (post 003's concern).
"""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.base.layout import PAGE_OFFSET, REGION, Region
from sandbox.kernel.mm.bootmem import BootMemory
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.page import PIECE, PIECE_SHIFT, STRUCT_PAGE_BYTES, MemMap
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE, RW, A, D, P

SECTION_PRESENT, SECTION_HAS_MAP = 1, 2
SECTION_BITS = {"64M": 26, "512M": 29, "1G": 30}
_PIECE_BYTES = PIECE * STRUCT_PAGE_BYTES


class CannotAddMemory(SandboxError):
    """A range cannot be added: not RAM, there already, or more than the memory model can describe."""

    exit_status = 2


class StructPages(Protocol):
    """Where memory for structures comes from at run time; ``hotplug`` has it."""

    def reserve(self, kind: str, size: int) -> tuple[int, tuple[int, ...]]:
        """Cleared frames under linear addresses in a row, for ever: where, and which.  Raises OutOfMemory."""
        ...

    def alloc(self) -> int:
        """One cleared frame.  Raises OutOfMemory."""
        ...

    def free(self, pfn: int) -> None:
        """Give one back."""
        ...


class MemoryModel:
    """``memmap`` holds the structures; guest code finds them by the words of ``guest_words``."""

    name = ""

    def __init__(self, memmap: MemMap) -> None:
        self.memmap = memmap
        self.added_frames = 0
        """Frames that hold structures made at run time."""

    def struct_page(self, pfn: int) -> int:
        """Linear address of a frame's structure."""
        raise NotImplementedError

    def pfn_of(self, linear: int) -> int:
        """The frame whose structure is at a linear address; -1 where no section's array is."""
        raise NotImplementedError

    def guest_words(self) -> dict[str, int]:
        """Words that ``asm/kernel/memmodel.S`` reads, by symbol."""
        raise NotImplementedError

    def populate(self, first: int, count: int, source: StructPages) -> None:
        """Make structures for frames that are added at run time.  Raises CannotAddMemory, OutOfMemory."""
        raise CannotAddMemory(
            f"frames {first:#x} to {first + count - 1:#x}: {self.name} describes frames below "
            f"{self.memmap.max_pfn:#x}, as boot laid it out"
        )


class FlatMem(MemoryModel):
    """One array up to the highest frame."""

    name = "flatmem"

    def __init__(self, memory: PhysicalMemory, start: BootMemory, max_pfn: int) -> None:
        physical = start.take("mem_map", MemMap.bytes_for(max_pfn))
        super().__init__(MemMap(memory, physical, max_pfn))
        self.mem_map = PAGE_OFFSET + physical

    def struct_page(self, pfn: int) -> int:
        return self.mem_map + pfn * STRUCT_PAGE_BYTES

    def pfn_of(self, linear: int) -> int:
        return (linear - self.mem_map) // STRUCT_PAGE_BYTES

    def populate(self, first: int, count: int, source: StructPages) -> None:
        if first + count > self.memmap.max_pfn:
            super().populate(first, count, source)

    def guest_words(self) -> dict[str, int]:
        return {"mem_model": 0, "mem_map": self.mem_map, "max_pfn": self.memmap.max_pfn}


class SparseMem(MemoryModel):
    """An array for each section with memory; ``mem_section`` is a table of words in guest memory."""

    name = "sparsemem"

    def __init__(self, memory: PhysicalMemory, start: BootMemory, ranges: list[tuple[int, int]], bits: int) -> None:
        self._memory = memory
        self._shift = bits - 12
        self._frames = 1 << self._shift
        highest = memory.end // PAGE_SIZE
        self._sections = -(-highest // self._frames)
        self._maps: dict[int, int] = {}
        """Linear address of a section's array, by section number."""
        self._table = start.take("mem_section", self._sections * 4)
        self._table_linear = PAGE_OFFSET + self._table
        super().__init__(MemMap(memory, [], 0))
        memory.declare(Reason.STRUCT_PAGE, self._table, -(-self._sections * 4 // PAGE_SIZE) * PAGE_SIZE)
        for number in sections_of(ranges, bits):
            size = self._frames * STRUCT_PAGE_BYTES
            physical = start.take(f"mem_map of section {number}", size)
            self._attach(number, PAGE_OFFSET + physical, list(range(physical, physical + size, PAGE_SIZE)))

    def _attach(self, number: int, linear: int, pages: list[int]) -> None:
        first = number << self._shift
        for at, physical in enumerate(pages):
            self.memmap.add_piece((first >> PIECE_SHIFT) + at, physical)
        self._maps[number] = linear
        word = linear - first * STRUCT_PAGE_BYTES & 0xFFFFFFFF
        at = self._memory.host_index(self._table) // 4 + number
        self.memmap.words[at] = word | SECTION_PRESENT | SECTION_HAS_MAP

    def struct_page(self, pfn: int) -> int:
        number = pfn >> self._shift
        return self._maps[number] + (pfn - (number << self._shift)) * STRUCT_PAGE_BYTES

    def pfn_of(self, linear: int) -> int:
        size = self._frames * STRUCT_PAGE_BYTES
        for number, start in self._maps.items():
            if start <= linear < start + size:
                return (number << self._shift) + (linear - start) // STRUCT_PAGE_BYTES
        return -1

    def guest_words(self) -> dict[str, int]:
        return {
            "mem_model": 1, "mem_section": self._table_linear, "section_shift": self._shift,
            "nr_sections": self._sections, "max_pfn": self._sections << self._shift,
        }  # fmt: skip

    def populate(self, first: int, count: int, source: StructPages) -> None:
        size = self._frames * STRUCT_PAGE_BYTES
        for number in range(first >> self._shift, (first + count - 1 >> self._shift) + 1):
            if number >= self._sections:
                super().populate(first, count, source)
            if number in self._maps:
                continue
            linear, frames = source.reserve("mem_map", size)
            self.added_frames += len(frames)
            self._attach(number, linear, [pfn << 12 for pfn in frames])


class VirtualMemMap(MemoryModel):
    """``vmem_map`` is a constant; page tables say which of it is there."""

    name = "vmemmap"

    def __init__(
        self,
        memory: PhysicalMemory,
        start: BootMemory,
        ranges: list[tuple[int, int]],
        entries: KernelEntries,
        region: Region,
    ) -> None:
        self._entries = entries
        self.base = region.start
        self._highest = min(memory.end // PAGE_SIZE, region.size // STRUCT_PAGE_BYTES)
        super().__init__(MemMap(memory, [], 0))
        for physical, size in ranges:
            first, end = physical // PAGE_SIZE >> PIECE_SHIFT, (physical + size - 1) // PAGE_SIZE >> PIECE_SHIFT
            numbers = [number for number in range(first, end + 1) if not self.memmap.has_page(number << PIECE_SHIFT)]
            if numbers:
                at = start.take("virtual mem_map", len(numbers) * PAGE_SIZE)
                for offset, number in enumerate(numbers):
                    self._map(number, at // PAGE_SIZE + offset)

    def _map(self, number: int, pfn: int) -> None:
        linear = self.base + number * _PIECE_BYTES
        tables = self._entries.tables
        self._entries.map_page(linear, tables.pfn_pte(pfn, P | RW | A | D | tables.nx))
        self.memmap.add_piece(number, pfn << 12)

    def struct_page(self, pfn: int) -> int:
        return self.base + pfn * STRUCT_PAGE_BYTES

    def pfn_of(self, linear: int) -> int:
        return (linear - self.base) // STRUCT_PAGE_BYTES

    def guest_words(self) -> dict[str, int]:
        return {"mem_model": 2, "vmem_map": self.base, "max_pfn": self._highest}

    def populate(self, first: int, count: int, source: StructPages) -> None:
        if first + count > self._highest:
            super().populate(first, count, source)
        for number in range(first >> PIECE_SHIFT, (first + count - 1 >> PIECE_SHIFT) + 1):
            if not self.memmap.has_page(number << PIECE_SHIFT):
                pfn = source.alloc()
                try:
                    self._map(number, pfn)
                except BaseException:
                    source.free(pfn)
                    raise
                self.added_frames += 1


def sections_of(ranges: list[tuple[int, int]], bits: int) -> list[int]:
    """Numbers of the sections that hold memory; ``ranges`` are (physical, bytes)."""
    return sorted({number for at, size in ranges for number in range(at >> bits, (at + size - 1 >> bits) + 1)})


def vmemmap_bytes(end: int) -> int:
    """Kernel addresses that the virtual map reserves for physical addresses below ``end``, in whole regions."""
    size = end // PAGE_SIZE * STRUCT_PAGE_BYTES
    return -(-size // REGION) * REGION


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Bytes that one model costs: of RAM, of the direct map's addresses, of addresses besides."""

    model: str
    ram: int
    direct: int
    reserved: int

    @property
    def addresses(self) -> int:
        """Kernel virtual space in all."""
        return self.direct + self.reserved


def model_costs(ranges: list[tuple[int, int]], bits: int, entry_bytes: int) -> list[ModelCost]:
    """What each model costs for RAM as (physical, bytes); ``entry_bytes`` of a page-table entry."""
    end = max(start + size for start, size in ranges)
    flat = MemMap.bytes_for(end // PAGE_SIZE)
    sections = sections_of(ranges, bits)
    table = -(-(-(-end // (1 << bits)) * 4) // PAGE_SIZE) * PAGE_SIZE
    sparse = len(sections) * (1 << bits - 12) * STRUCT_PAGE_BYTES + table
    pieces = {
        number
        for start, size in ranges
        for number in range(start // PAGE_SIZE >> PIECE_SHIFT, ((start + size - 1) // PAGE_SIZE >> PIECE_SHIFT) + 1)
    }
    covered = PAGE_SIZE // entry_bytes
    tables = len({number // covered for number in pieces}) * PAGE_SIZE
    backing = len(pieces) * PAGE_SIZE
    return [
        ModelCost("flatmem", flat, flat, 0),
        ModelCost("sparsemem", sparse, sparse, 0),
        ModelCost("vmemmap", backing + tables, backing + tables, vmemmap_bytes(end)),
    ]
