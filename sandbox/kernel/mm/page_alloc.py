"""__get_free_pages and its family: what a request may do when memory is short (MM 2, post 002).

A request is granted while more frames are free than the reserve; then the level counts (``gfp.py``).  Addresses are
linear, of the direct map; the ``__`` forms leave in a block what was in it, the others have the CPU clear it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.kernel.base.events import PageAlloc
from sandbox.kernel.base.layout import PAGE_OFFSET, PAGE_SIZE
from sandbox.kernel.mm.frames import DMA_END, OutOfMemory
from sandbox.kernel.mm.gfp import (
    DMA,
    GFP_ATOMIC,
    GFP_BUFFER,
    GFP_IO,
    GFP_KERNEL,
    GFP_NFS,
    HIGHMEM,
    LEVEL_MASK,
    describe,
)
from sandbox.kernel.mm.page import PG_SLAB, BadPage
from sandbox.kernel.mm.vmscan import shrink
from sandbox.x86.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.mm.mmzone import Zone

NFS_RESERVE = 5
COMPLAINTS = 4
"""2.0 lowers a request from an interrupt to GFP_ATOMIC so many times before it stops saying so."""
YIELDS = 8
"""Times that a request lets other tasks run before it fails."""
ISA_BYTE_BOUNDARY = 64 << 10


class WrongContext(SandboxError):
    """Something that may sleep was asked for where nothing may: in an interrupt."""

    exit_status = 1


@dataclass(slots=True)
class Pressure:
    """What requests had to do, in counts."""

    granted: int = 0
    reclaims: int = 0
    sleeps: int = 0
    from_reserve: int = 0
    failures: int = 0
    downgraded: int = 0
    parked: int = 0
    injected: int = 0


class PageAllocator:
    """Requests by level, order and zone on one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._frames = kernel.frames
        policies = kernel.config.policies
        self._marks = policies["watermarks"]
        self._park = policies["dma"] == "park"
        self._any_zone = kernel.broken("no-dma-limit")
        self._buffer_fails = policies["gfp_buffer"] == "fail"
        self.min_free = self._reserve(kernel.frames.total_frames)
        """Frames that only GFP_ATOMIC and those below may take."""
        if kernel.broken("no-watermark"):
            self.min_free = 0
        self.pressure = Pressure()

    def _reserve(self, frames: int) -> int:
        if self._marks == "2.0":
            return max(frames // 128, 24) + 24
        if self._marks == "2.2":
            return min(max(frames // 128, 10), 256)
        return min(max(frames // 128, 20), 255)

    @property
    def marks(self) -> tuple[int, int, int]:
        """min, low and high: 2.0 has one and a half and twice the reserve, the later ones twice and three times."""
        least = self.min_free
        return (least, least * 3 // 2, least * 2) if self._marks == "2.0" else (least, least * 2, least * 3)

    # -- frames --------------------------------------------------------------------------------------------------

    def alloc_pages(self, gfp: int, order: int = 0) -> int:
        """The first frame of 2^order frames in a row, aligned to their size, with count 1.

        Raises OutOfMemory.
        """
        kernel = self._kernel
        if not 0 <= order < self._frames.orders:
            raise OutOfMemory(f"order {order}: blocks have 0 to {self._frames.orders - 1}")
        level = gfp & LEVEL_MASK
        if kernel.in_interrupt and level != GFP_ATOMIC:
            gfp, level = self._downgrade(gfp), GFP_ATOMIC
        if kernel.fail_at:
            try:
                kernel.inject_failure()
            except OutOfMemory:
                self.pressure.failures += 1
                raise
        yields = 0
        while True:
            try:
                pfn = self._attempt(gfp, level, order)
                break
            except OutOfMemory:
                if not self._may_reclaim(level):
                    self.pressure.failures += 1
                    raise
                if shrink(kernel, max(64, 1 << order)):
                    self.pressure.reclaims += 1
                elif yields < YIELDS and kernel.cond_resched():
                    yields += 1
                    self.pressure.sleeps += 1
                else:
                    self.pressure.failures += 1
                    raise
        self.pressure.granted += 1
        for each in range(pfn, pfn + (1 << order)):
            kernel.code.reused(each)
        kernel.counters.frames_allocated += 1 << order
        self._tell("alloc", pfn, order, gfp)
        return pfn

    def free_pages(self, pfn: int, order: int = 0) -> None:
        """Give a block back.  Reserved frames are ignored.  Raises BadPage."""
        kernel = self._kernel
        if not 0 <= order < self._frames.orders:
            raise BadPage(f"frame {pfn:#x} is freed with order {order}: blocks have 0 to {self._frames.orders - 1}")
        if self._frames.memmap.has_page(pfn) and self._frames.memmap.flags(pfn) & PG_SLAB:
            raise BadPage(f"frame {pfn:#x} is freed as pages; it is a kmalloc area")
        if self._frames.free_block(pfn, order, kernel.this_cpu.index):
            for each in range(pfn, pfn + (1 << order)):
                kernel.code.freed(each)
            self._tell("free", pfn, order, 0)

    def may_take(self) -> bool:
        """A request of a process for one frame would be granted without reclaim."""
        return self._frames.free_frames > self.min_free

    def _attempt(self, gfp: int, level: int, order: int) -> int:
        frames = self._frames
        zones = self._zones(gfp)
        if self._marks == "2.4":
            zones = self._above_marks(zones, level, order)
        elif frames.free_frames <= self._floor(level):
            raise self.shortage(level)
        if level == GFP_ATOMIC and frames.free_frames <= self.min_free:
            self.pressure.from_reserve += 1
        if gfp & DMA and self._park and not self._any_zone:
            return self._parking(order)
        return frames.alloc_block(order, zones, self._kernel.this_cpu.index)

    def shortage(self, level: int = GFP_KERNEL) -> OutOfMemory:
        """The error for a request that may not go below its reserve."""
        frames = self._frames
        return OutOfMemory(
            f"out of memory: {frames.free_frames} frames are free, {self._floor(level)} are kept in reserve",
            frames.report(),
        )

    def _floor(self, level: int) -> int:
        """Frames that must stay free."""
        if level == GFP_ATOMIC:
            return 0
        if level == GFP_NFS:
            return NFS_RESERVE
        if level in (GFP_BUFFER, GFP_IO) and self.min_free >= 48:
            return self.min_free - (12 + self.min_free // 8)
        return self.min_free

    def _zones(self, gfp: int) -> list[Zone]:
        frames = self._frames
        if gfp & DMA and not self._any_zone:
            return [frames.normal, frames.dma] if self._park else [frames.dma]
        return [*([frames.high] if gfp & HIGHMEM else []), frames.normal, frames.dma]

    def _above_marks(self, zones: list[Zone], level: int, order: int) -> list[Zone]:
        """2.4.22: a zone must have more than the block and the marks of the zones so far; then at a quarter."""
        if level == GFP_ATOMIC:
            divisor = 4
        elif level == GFP_NFS:
            divisor = 2
        else:
            divisor = 1
        below = 1 << order
        kept = []
        for zone in zones:
            if zone.total:
                below += self._reserve(zone.total) // divisor
                if self._frames.zone_free(zone) > below:
                    kept.append(zone)
        if not kept and not (level == GFP_ATOMIC and order == 0):
            raise OutOfMemory("out of memory: every zone is at its mark", self._frames.report())
        return kept or zones

    def _parking(self, order: int) -> int:
        """1.2: allocate until a block lies low enough, then free what was parked."""
        frames, parked = self._frames, []
        cpu = self._kernel.this_cpu.index
        try:
            while True:
                pfn = frames.alloc_block(order, [frames.normal, frames.dma], cpu)
                if pfn + (1 << order) <= DMA_END:
                    return pfn
                parked.append(pfn)
        finally:
            self.pressure.parked += len(parked)
            for pfn in parked:
                frames.free_block(pfn, order, cpu)

    def _may_reclaim(self, level: int) -> bool:
        return not (level == GFP_ATOMIC or (level == GFP_BUFFER and self._buffer_fails))

    def _downgrade(self, gfp: int) -> int:
        self.pressure.downgraded += 1
        if self.pressure.downgraded <= COMPLAINTS:
            self._kernel.printk(f"gfp called nonatomically from interrupt: {describe(gfp)}\n")
        return gfp & ~LEVEL_MASK | GFP_ATOMIC

    def _tell(self, what: str, pfn: int, order: int, gfp: int) -> None:
        kernel = self._kernel
        if kernel.bus.active:
            kernel.bus.emit(PageAlloc(kernel.sched.now, kernel.this_cpu.index, what, pfn, order, gfp))

    # -- addresses, as the C calls have them: 0 for none ---------------------------------------------------------

    def get_free_pages_unclear(self, gfp: int, order: int) -> int:
        """``__get_free_pages``: the linear address of a block of lowmem, 0 when there is none."""
        try:
            return PAGE_OFFSET + (self.alloc_pages(gfp & ~HIGHMEM, order) << 12)
        except OutOfMemory:
            return 0

    def get_free_pages(self, gfp: int, order: int) -> int:
        """The same, cleared by the CPU."""
        linear = self.get_free_pages_unclear(gfp, order)
        kernel = self._kernel
        if linear and not kernel.broken("no-page-clear"):
            for page in range(linear, linear + (PAGE_SIZE << order), PAGE_SIZE):
                kernel.this_cpu.call(kernel.routines.clear_page, edi=page)
            kernel.counters.bytes_by_guest += PAGE_SIZE << order
        return linear

    def free_linear(self, linear: int, order: int) -> None:
        """``free_pages(addr, order)``.  Addresses outside the direct map are ignored, as ``MAP_NR`` made them be.

        Raises BadPage.
        """
        if PAGE_OFFSET <= linear < PAGE_OFFSET + self._kernel.layout.direct.size:
            self.free_pages(linear - PAGE_OFFSET >> 12, order)


def dma_crosses(physical: int, size: int, boundary: int = ISA_BYTE_BOUNDARY) -> bool:
    """An ISA controller's counter would wrap: the range crosses 64 KB (channels 0 to 3) or 128 KB (5 to 7)."""
    return size > 0 and physical // boundary != (physical + size - 1) // boundary
