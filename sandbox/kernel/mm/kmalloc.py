"""kmalloc and kfree: pieces of contiguous lowmem, from 32 bytes to 128 KB less a header (MM 3, post 002).

An area is a block of pages with a 16-byte descriptor in front; every piece has a header of 8 bytes.  Both live in guest
memory, and ``asm/kernel/kmalloc.S`` reads and writes them; here is decided which area serves and which one leaves.
Under the policy ``kmalloc=2.1`` (slab) pieces have powers of two and nothing in front.
"""

from __future__ import annotations

from bisect import bisect_left

from sandbox.engine.context import EDX, CpuContext
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.printk import Log
from sandbox.kernel.mm.gfp import DMA, GFP_ATOMIC, LEVEL_MASK, Nonatomic, atomic
from sandbox.kernel.mm.page import INDEX, PG_HEAD, PG_SLAB
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.machine.memory import PhysicalMemory
from sandbox.records import dataclass
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE

HEADER, DESCRIPTOR = 8, 16
USED, FREE, USED_DMA = 0xFFAA0055, 0x0055FFAA, 0xFF00AA55
FIRSTFREE, NFREE = 4, 12
"""Offsets in an area's descriptor, in bytes."""
BUCKETS = (
    (32, 127, 0), (64, 63, 0), (128, 31, 0), (252, 16, 0), (508, 8, 0), (1020, 4, 0), (2040, 2, 0), (4080, 1, 0),
    (8176, 1, 1), (16368, 1, 2), (32752, 1, 3), (65520, 1, 4), (131056, 1, 5),
)  # fmt: skip
"""(bytes with the header, pieces of an area, order of an area)."""
SLAB_SIZES = tuple(32 << shift for shift in range(13))


class BadKfree(SandboxError):
    """kfree of what kmalloc did not give: freed already, never allocated, or with a header that was overwritten."""

    exit_status = 1


@dataclass(slots=True)
class Bucket:
    """One size.  ``areas`` are those with free pieces, for ordinary and for DMA requests, by linear address."""

    size: int
    pieces: int
    order: int
    areas: tuple[list[int], list[int]]
    requests: int = 0


@dataclass(slots=True)
class KmallocArea:
    """A block of pages that is cut up.  ``free`` lists pieces under the slab policy only."""

    bucket: int
    order: int
    dma: bool
    free: list[int] | None = None


class Kmalloc:
    """Buckets and areas of one kernel."""

    def __init__(
        self, memory: PhysicalMemory, smp: Smp, pgdat: PgDat, page_alloc: PageAllocator, config: KernelConfig, log: Log
    ) -> None:
        self._words, self._smp, self._log = memory.words, smp, log
        self._memmap, self._page_alloc = pgdat.memmap, page_alloc
        self._unchecked = config.broken("no-kfree-check")
        self._version = config.policies["kmalloc"]
        self._slab = self._version == "2.1"
        self._complaints = Nonatomic("kmalloc", log)
        sizes: tuple[tuple[int, int, int], ...] = BUCKETS[:8] if self._version == "1.0" else BUCKETS
        if self._slab:
            sizes = tuple(
                (size, max(1, PAGE_SIZE // size), max(0, (size // PAGE_SIZE).bit_length() - 1)) for size in SLAB_SIZES
            )
        sizes = tuple(each for each in sizes if each[2] < pgdat.orders)
        self.buckets = [Bucket(size, pieces, order, ([], [])) for size, pieces, order in sizes]
        self._sizes = [bucket.size for bucket in self.buckets]
        self._overhead = 0 if self._slab else HEADER
        self.areas: dict[int, KmallocArea] = {}
        """By linear address."""
        self._spare: list[int | None] = [None] * 3
        """2.0: one area each of 4, 8 and 16 KB that was not given back."""
        self.lost = 0
        """Frames that 2.0 has lost by freeing an area with another order than its own."""

    @property
    def largest(self) -> int:
        """Bytes of the largest request that can be served."""
        return self._sizes[-1] - self._overhead

    @property
    def pages(self) -> int:
        """Frames of all areas."""
        return sum(1 << area.order for area in self.areas.values()) + self.spare_pages

    @property
    def spare_pages(self) -> int:
        """Frames of empty areas that 2.0 does not give back."""
        return sum(1 << order for order, area in enumerate(self._spare) if area is not None)

    @property
    def live(self) -> int:
        """Pieces that callers hold."""
        found = 0
        for start, area in self.areas.items():
            free = len(area.free) if area.free is not None else self._word(start + NFREE)
            found += self.buckets[area.bucket].pieces - free
        return found

    def kmalloc(self, size: int, priority: int) -> int:
        """Linear address of ``size`` bytes, 0 for none: the routine on the CPU, as a module's call runs it."""
        cpu = self._smp.this_cpu
        return cpu.call_c(cpu.routines.kmalloc, size, priority)

    def kfree(self, address: int) -> None:
        """Give it back.  Raises BadKfree."""
        cpu = self._smp.this_cpu
        cpu.call_c(cpu.routines.kfree, address)

    # -- what the routines ask -----------------------------------------------------------------------------------

    def serve(self, cpu: KernelCpu, context: CpuContext, size: int, priority: int) -> int:
        """The area that gives a piece, 1 with the piece in EDX (slab), or 0."""
        wanted = size + self._overhead
        if wanted > self._sizes[-1]:
            self._log.printk(f"kmalloc of too large a block ({size} bytes).\n")
            return 0
        if cpu.in_interrupt and not self._slab and self._in_interrupt(priority):
            priority = self._complaints.lower(priority)
        number = bisect_left(self._sizes, wanted)
        bucket, dma = self.buckets[number], 1 if priority & DMA else 0
        areas = bucket.areas[dma]
        if not areas and not self._refill(cpu, number, priority):
            return 0
        bucket.requests += 1
        address = areas[-1]
        free = self.areas[address].free
        if free is not None:
            context.edx = free.pop()
            if not free:
                areas.pop()
            return 1
        if self._words[address + NFREE - PAGE_OFFSET >> 2] == 1:
            areas.pop()
        context.quads[EDX] = dma
        return address

    def give_back(self, address: int, flag: int) -> int:
        """kfree found a flag word in front of an address: the area that takes the piece, 0 for none.

        Raises BadKfree.
        """
        if not address:
            return 0
        start = self._area_of(address)
        area = self.areas.get(start)
        believed = self._unchecked
        if area is None:
            if believed:
                return 0
            what = "non-kmalloced memory"
            if flag in (USED, USED_DMA) and not self._slab:
                what = "memory that kmalloc has given back, freed twice"
            raise BadKfree(f"kfree of {what}: {address:#010x}, flag word {flag:#010x}")
        bucket = self.buckets[area.bucket]
        if area.free is not None:
            return self._slab_free(start, area, bucket, address)
        offset = address - HEADER - DESCRIPTOR - start
        if believed:
            return start
        if offset % bucket.size or not 0 <= offset < bucket.size * bucket.pieces:
            raise BadKfree(f"kfree({address:#010x}): inside a piece of {bucket.size} bytes, not at its start")
        if flag == FREE:
            raise BadKfree(f"kfree({address:#010x}): freed twice")
        if flag not in (USED, USED_DMA):
            raise BadKfree(f"kfree({address:#010x}): its header was overwritten, flag word {flag:#010x}")
        free = self._word(start + NFREE)
        listed = self._list_of(bucket, area)
        if free + 1 == bucket.pieces:
            for areas in bucket.areas:
                if start in areas:
                    areas.remove(start)
            self._release(start, area)
            return 0
        if free == 0:
            listed.append(start)
        return start

    def corrupted(self, address: int) -> None:
        """A free list leads to what is no free piece.  Raises BadKfree."""
        raise BadKfree(f"kmalloc: the free list leads to {address:#010x}, whose header was overwritten")

    # -- areas ---------------------------------------------------------------------------------------------------

    def _in_interrupt(self, priority: int) -> bool:
        """The request might wait, and must not."""
        return priority & LEVEL_MASK != GFP_ATOMIC and self._smp.in_interrupt

    def _refill(self, cpu: KernelCpu, number: int, priority: int) -> bool:
        bucket = self.buckets[number]
        if self._slab and self._in_interrupt(priority):
            # kmem_cache_grow of 2.2 says so every time, and lowers every time.
            self._log.printk(f"kmem_grow: Called nonatomically from int - size-{bucket.size}\n")
            priority = atomic(priority)
        dma = bool(priority & DMA)
        order = bucket.order
        spare = self._spare[number] if number < 3 and not dma else None
        if self._version == "2.0" and spare is not None:
            # The spare areas are kept by order and taken by bucket: 8 KB may serve pieces of 64 bytes.
            self._spare[number] = None
            address = spare
        else:
            try:
                pfn = self._page_alloc.alloc_pages(priority & (DMA | LEVEL_MASK), order)
            except OutOfMemory:
                return False
            self._memmap.set_flags(pfn, self._memmap.flags(pfn) | PG_SLAB)
            address = PAGE_OFFSET + (pfn << 12)
        area = self.areas[address] = KmallocArea(number, order, dma)
        if self._slab:
            area.free = [address + at * bucket.size for at in range(bucket.pieces)][::-1]
        else:
            cpu.call(cpu.routines.kmalloc_format, eax=bucket.size, ecx=bucket.pieces, edx=order, edi=address)
        bucket.areas[dma].append(address)
        return True

    def _release(self, start: int, area: KmallocArea) -> None:
        del self.areas[start]
        if self._version == "2.0" and area.order < 3 and not area.dma and self._spare[area.order] is None:
            self._spare[area.order] = start
            return
        pfn = start - PAGE_OFFSET >> 12
        memmap = self._memmap
        memmap.set_flags(pfn, memmap.flags(pfn) & ~PG_SLAB)
        at = memmap.at(pfn)
        if self._version == "2.0" and memmap.flags(pfn) & PG_HEAD and memmap.words[at + INDEX] != area.order:
            # An area that was kept by its order and taken by its bucket: what is more than the bucket's is lost.
            self.lost += (1 << memmap.words[at + INDEX]) - (1 << area.order)
            memmap.words[at + INDEX] = area.order
            if not area.order:
                memmap.set_flags(pfn, memmap.flags(pfn) & ~PG_HEAD)
        self._page_alloc.free_pages(pfn, area.order)

    def _list_of(self, bucket: Bucket, area: KmallocArea) -> list[int]:
        """The list for an area with free pieces; 1.2 puts those for DMA on the list for all when they come back."""
        return bucket.areas[area.dma and self._version != "1.2"]

    def _slab_free(self, start: int, area: KmallocArea, bucket: Bucket, address: int) -> int:
        assert area.free is not None
        if (address - start) % bucket.size:
            raise BadKfree(f"kfree({address:#010x}): inside a piece of {bucket.size} bytes, not at its start")
        if address in area.free:
            raise BadKfree(f"kfree({address:#010x}): freed twice")
        listed = bucket.areas[area.dma]
        if not area.free:
            listed.append(start)
        area.free.append(address)
        if len(area.free) == bucket.pieces:
            if start in listed:
                listed.remove(start)
            self._release(start, area)
        return 0

    def _area_of(self, address: int) -> int:
        return address - self._overhead & -PAGE_SIZE

    def _word(self, linear: int) -> int:
        return self._words[linear - PAGE_OFFSET >> 2]

    def report(self) -> str:
        """One line a size with areas."""
        lines = []
        for number, bucket in enumerate(self.buckets):
            held = sum(1 for area in self.areas.values() if area.bucket == number)
            if held or bucket.requests:
                lines.append(
                    f"{bucket.size:>7} bytes: {held} areas of {1 << bucket.order} pages, {bucket.requests} requests"
                )
        return "\n".join(lines)
