"""__get_free_pages and its family: what a request may do when memory is short (MM 2, post 002).

A request is granted while more lowmem is free than the reserve; then the level counts (``gfp.py``).  Addresses are
linear, of the direct map; the ``__`` forms leave in a block what was in it, the others have the CPU clear it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import PageAlloc
from sandbox.kernel.base.inject import FailingRequest, OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET, Layout
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.base.wait import Waiting, might_sleep
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.framewatch import FrameWatch
from sandbox.kernel.mm.gfp import (
    DMA,
    GFP_ATOMIC,
    GFP_BUFFER,
    GFP_KERNEL,
    GFP_USER,
    HIGHMEM,
    LEVEL_MASK,
    Nonatomic,
    describe,
)
from sandbox.kernel.mm.mmzone import Zone
from sandbox.kernel.mm.page import PG_BUDDY, PG_LENT, PG_SLAB, BadPage
from sandbox.kernel.mm.pgdat import DMA_END, PgDat
from sandbox.kernel.mm.vmscan import SHRINK_BATCH, SHRINK_SHARE, Need, Shrinkers
from sandbox.kernel.mm.watermarks import above_marks, floor, reserve, steps
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE

YIELDS = 8
"""Times that a request lets other tasks run before it fails."""
ISA_BYTE_BOUNDARY = 64 << 10


@dataclass(slots=True)
class Pressure:
    """What requests had to do, in counts."""

    granted: int = 0
    reclaims: int = 0
    failures: int = 0
    downgraded: int = 0
    parked: int = 0
    injected: int = 0


class PageAllocator:
    """Requests by level, order and zone.

    ``shrinkers`` give memory up, ``cond_resched`` lets other tasks run, who may free some; both are asked only by those
    who may wait for them.
    """

    __slots__ = (
        "_any_zone", "_broken_clear", "_buffer_fails", "_bus", "_clock", "_code", "_complaints", "_cond_resched",
        "_direct_end", "_marks", "_nonatomic", "_park", "_pgdat", "_read", "_sched", "_shrinkers", "_smp", "_stats",
        "_zone_marks", "check_ext", "check_kmap", "exts", "failing", "forget_kva", "holders", "kmaps", "kvas",
        "min_free", "pressure", "watch",
    )  # fmt: skip

    def __init__(
        self,
        pgdat: PgDat,
        config: KernelConfig,
        smp: Smp,
        sched: Waiting,
        cond_resched: Callable[[], bool],
        shrinkers: Shrinkers,
        code: CodeCache,
        layout: Layout,
        trace: Trace,
    ) -> None:
        self._pgdat, self._smp, self._code, self._shrinkers = pgdat, smp, code, shrinkers
        self._sched, self._cond_resched = sched, cond_resched
        self._bus, self._clock, self._stats = trace.bus, trace.clock, trace.stats
        self._read = trace.bus.watch_for(PageAlloc)
        self._direct_end = layout.direct.end
        policies, broken = config.policies, config.broken
        self._marks = policies["watermarks"]
        self._zone_marks = self._marks == "2.4"
        self._nonatomic = policies["nonatomic"]
        self._complaints = Nonatomic("gfp", trace.log)
        self._park = policies["dma"] == "park"
        self._any_zone = broken("no-dma-limit")
        self._broken_clear = broken("no-page-clear")
        self._buffer_fails = policies["gfp_buffer"] == "fail"
        self.min_free = 0 if broken("no-watermark") else reserve(self._marks, pgdat.dma.total + pgdat.normal.total)
        """Frames of lowmem that only GFP_ATOMIC and those below may take: free highmem is no reserve for it."""
        self.holders: Callable[[int], tuple[str, int]] = lambda _: ("the kernel's own", 1)
        """Whose a frame is that no request by level was given, and how many references the kernel has on it."""
        self.failing = FailingRequest(config.fail_allocation)
        self.pressure = Pressure()
        self.watch: FrameWatch | None = None
        self.kvas: Mapping[int, object] = {}
        """By frame number, the pages that have a kernel address of their own; ``forget_kva`` takes it from one."""
        self.forget_kva: Callable[[int], None] = lambda pfn: None
        self.exts: Mapping[int, object] = {}
        """Pieces of the side table (``page_ext``), once there are any; ``check_ext`` refuses frames that use them."""
        self.check_ext: Callable[[int, int], None] = lambda pfn, order: None
        self.kmaps: Mapping[int, object] = {}
        """By frame number, the pages that kmap has an address for; ``check_kmap`` raises where somebody uses it."""
        self.check_kmap: Callable[[int], None] = lambda pfn: None

    def pages_min(self, zone: Zone) -> int:
        """The mark of one zone (2.4's ``pages_min``): its own share of frames, 0 where no mark counts."""
        return reserve(self._marks, zone.total) if self.min_free else 0

    @property
    def marks(self) -> tuple[int, int, int]:
        """min, low and high."""
        return steps(self._marks, self.min_free)

    # -- frames --------------------------------------------------------------------------------------------------

    def alloc_page(self, gfp: int = GFP_USER) -> int:
        """A frame with count 1 and old contents, for who may not sleep because others may need what it holds.

        ``alloc_pages`` of order 0 that reclaims when the reserve is reached, and lets nobody else run.  Raises
        OutOfMemory.
        """
        if self.failing.at:
            self._count_request()
        pgdat = self._pgdat
        # Were all that is taken of the lowmem: more than the reserve is left, and no zone need be looked at.
        if pgdat.free_frames - pgdat.high.total > self.min_free and not self._zone_marks:
            try:
                pfn = pgdat.rmqueue_pcp(bool(gfp & HIGHMEM), self._smp.this_cpu.index)
            except OutOfMemory:
                pfn = self._reclaiming(gfp, gfp & LEVEL_MASK, 0, waits=False)
        else:
            pfn = self._reclaiming(gfp, gfp & LEVEL_MASK, 0, waits=False)
        watch = self.watch
        if (watch is None or not watch.stores.alert) and not self._read.any and not self._code.retired:
            self._stats.frames_allocated += 1
        else:
            self._granted(pfn, 0, gfp)
        return pfn

    def page_at_hand(self, cpu: int) -> int:
        """What ``alloc_page`` gives on a CPU where that is a frame of lowmem, at once: nothing is reclaimed for it.

        0, which no program gets, where it would not be that, or may fail.
        """
        pgdat = self._pgdat
        if pgdat.free_frames <= self.min_free or pgdat.high.total or self._zone_marks or self.failing.at:
            return 0
        watch = self.watch
        if self._read.any or self._code.retired or (watch is not None and watch.stores.alert):
            return self.alloc_page()
        self._stats.frames_allocated += 1
        return pgdat.rmqueue_pcp(cpu=cpu)

    def alloc_pages(self, gfp: int, order: int = 0) -> int:
        """The first frame of 2^order frames in a row, aligned to their size, with count 1.

        Raises OutOfMemory, and WrongContext where waiting in an interrupt is a bug.
        """
        if not 0 <= order < self._pgdat.orders:
            raise OutOfMemory(f"order {order}: blocks have 0 to {self._pgdat.orders - 1}")
        level = gfp & LEVEL_MASK
        if level != GFP_ATOMIC and self._sched.in_atomic():
            gfp = self._from_interrupt(gfp)
            level = gfp & LEVEL_MASK
        if self.failing.at:
            try:
                self._count_request()
            except OutOfMemory:
                self.pressure.failures += 1
                raise
        pfn = self._reclaiming(gfp, level, order)
        words = self._pgdat.memmap.words
        words[self._pgdat.memmap.at(pfn)] |= PG_LENT
        self.pressure.granted += 1
        if self._sched.in_atomic():
            self._pgdat.requests.in_interrupt(order)
        self._granted(pfn, order, gfp)
        return pfn

    def put_page(self, pfn: int) -> None:
        """Drop a reference on a frame; the last one frees it."""
        if (pfn in self.kvas or pfn in self.kmaps) and self._pgdat.memmap.count(pfn) == 1:
            self._forget_address(pfn)
        if self._pgdat.put_page(pfn, self._smp.this_cpu.index):
            self._released(pfn, 0)

    def free_pages(self, pfn: int, order: int = 0) -> None:
        """Give a block back that ``alloc_pages`` gave.  Reserved frames are ignored.  Raises BadPage."""
        pgdat = self._pgdat
        if not 0 <= order < pgdat.orders:
            raise BadPage(f"frame {pfn:#x} is freed with order {order}: blocks have 0 to {pgdat.orders - 1}")
        if pgdat.memmap.has_page(pfn) and pgdat.memmap.flags(pfn) & PG_SLAB:
            raise BadPage(f"frame {pfn:#x} is freed as pages; it is a kmalloc area")
        self._check_lent(pfn)
        if (self.kvas or self.kmaps) and pgdat.memmap.has_page(pfn) and pgdat.memmap.count(pfn) == 1:
            for each in range(pfn, pfn + (1 << order)):
                self._forget_address(each)
        if pgdat.free_block(pfn, order, self._smp.this_cpu.index):
            self._released(pfn, order)

    def _forget_address(self, pfn: int) -> None:
        """A page is freed that may have an address of its own.  Raises BadKva and BadKunmap where that is in use."""
        if pfn in self.kmaps:
            self.check_kmap(pfn)
        if pfn in self.kvas:
            self.forget_kva(pfn)

    def _check_lent(self, pfn: int) -> None:
        """Refuse frames that the kernel uses, unless who frees has taken a reference of its own.  Raises BadPage."""
        memmap = self._pgdat.memmap
        if memmap.reserved(pfn) or memmap.flags(pfn) & (PG_LENT | PG_BUDDY) or not memmap.count(pfn):
            return
        what, references = self.holders(pfn)
        if memmap.count(pfn) <= references:
            raise BadPage(f"frame {pfn:#x} is freed while in use: it is {what}", "no request for pages was given it")

    def _granted(self, pfn: int, order: int, gfp: int) -> None:
        if order:
            for each in range(pfn, pfn + (1 << order)):
                self._code.reused(each)
        else:
            self._code.reused(pfn)
        if self.watch is not None:
            self.watch.granted(pfn, order)
        self._stats.frames_allocated += 1 << order
        if self._read.any:
            self._bus.emit(PageAlloc(self._clock.now, self._smp.this_cpu.index, "alloc", pfn, order, gfp))

    def _released(self, pfn: int, order: int) -> None:
        if self.exts:
            self.check_ext(pfn, order)
        if order:
            for each in range(pfn, pfn + (1 << order)):
                self._code.freed(each)
        else:
            self._code.freed(pfn)
        if self.watch is not None:
            self.watch.released(pfn, order)
        if self._read.any:
            self._bus.emit(PageAlloc(self._clock.now, self._smp.this_cpu.index, "free", pfn, order, 0))

    def _count_request(self) -> None:
        """Raises OutOfMemory for the request that was chosen to fail."""
        try:
            self.failing.count()
        except OutOfMemory:
            self.pressure.injected += 1
            raise

    def _reclaiming(self, gfp: int, level: int, order: int, waits: bool = True) -> int:
        """The block, after whatever its level may do to get it; without ``waits`` nobody else runs for it.

        Raises OutOfMemory.
        """
        yields = 0
        while True:
            try:
                return self._attempt(gfp, level, order)
            except OutOfMemory:
                if not self._may_reclaim(level):
                    self.pressure.failures += 1
                    raise
                if waits and self._nonatomic == "2.4":
                    might_sleep(self._sched, f"alloc_pages({describe(gfp)}), with too few frames free,")
                if self.try_to_free_pages(self._lacking(gfp, level, order), gfp, order):
                    self.pressure.reclaims += 1
                elif waits and yields < YIELDS and self._cond_resched():
                    yields += 1
                else:
                    self.pressure.failures += 1
                    raise

    def _attempt(self, gfp: int, level: int, order: int) -> int:
        pgdat = self._pgdat
        zones = self._grantable(gfp, level, order)
        if not zones:
            raise self.shortage(level)
        if gfp & DMA and self._park and not self._any_zone:
            return self._parking(order)
        return pgdat.rmqueue(order, zones, self._smp.this_cpu.index)

    def _grantable(self, gfp: int, level: int, order: int) -> list[Zone]:
        """The zones from which a level may take now; highmem has no reserve where a version knows no zones."""
        zones, pgdat = self._zones(gfp), self._pgdat
        if self._zone_marks:
            kept = above_marks(zones, level, 1 << order if self.min_free else 0, self.pages_min, pgdat.zone_free)
            return zones if not kept and level == GFP_ATOMIC and order == 0 else kept
        if pgdat.low_free > floor(level, self.min_free):
            return zones
        return [zone for zone in zones if zone is pgdat.high and pgdat.zone_free(zone)]

    def try_to_free_pages(self, zones: Sequence[Zone], gfp: int, order: int) -> int:
        """Reclaim for a request that was not granted from these zones; the number of frames that came free.

        Where enough frames are free but no 2^order in a row, only what completes such a block helps; GFP_BUFFER may
        not write to files for it (2.2's __GFP_IO).
        """
        level, total = gfp & LEVEL_MASK, self._pgdat.total_frames
        short = not self._grantable(gfp, level, order)
        frames = max(SHRINK_BATCH, total // SHRINK_SHARE, 1 << order)
        need = Need(tuple(zones), frames, 0 if short else order, may_write=level != GFP_BUFFER)
        return self._shrinkers.shrink(need)

    def _lacking(self, gfp: int, level: int, order: int) -> list[Zone]:
        """The zones in which frames would help a request: its own, and all of lowmem where the one mark counts that."""
        pgdat = self._pgdat
        zones = [pgdat.dma] if gfp & DMA and not self._any_zone else self._zones(gfp)
        short = not self._grantable(gfp, level, order)
        if short and not self._zone_marks and any(pgdat.zone_free(zone) for zone in zones):
            zones = list(dict.fromkeys([*zones, pgdat.normal, pgdat.dma]))
        return zones

    def shortage(self, level: int = GFP_KERNEL) -> OutOfMemory:
        """The error for a request that may not go below its reserve."""
        pgdat = self._pgdat
        if self._zone_marks:
            return OutOfMemory("out of memory: every zone is at its mark", pgdat.report())
        kind = "frames of lowmem" if pgdat.high.total else "frames"
        return OutOfMemory(
            f"out of memory: {pgdat.low_free} {kind} are free, {floor(level, self.min_free)} are kept in reserve",
            pgdat.report(),
        )

    def _zones(self, gfp: int) -> list[Zone]:
        pgdat = self._pgdat
        if gfp & DMA and not self._any_zone:
            return [pgdat.normal, pgdat.dma] if self._park else [pgdat.dma]
        return [*([pgdat.high] if gfp & HIGHMEM else []), pgdat.normal, pgdat.dma]

    def _parking(self, order: int) -> int:
        """1.2: allocate until a block lies low enough, then free what was parked."""
        pgdat, parked = self._pgdat, []
        cpu = self._smp.this_cpu.index
        try:
            while True:
                pfn = pgdat.rmqueue(order, [pgdat.normal, pgdat.dma], cpu)
                if pfn + (1 << order) <= DMA_END:
                    return pfn
                parked.append(pfn)
        finally:
            self.pressure.parked += len(parked)
            for pfn in parked:
                pgdat.free_block(pfn, order, cpu)

    def _may_reclaim(self, level: int) -> bool:
        return not (level == GFP_ATOMIC or (level == GFP_BUFFER and self._buffer_fails))

    def _from_interrupt(self, gfp: int) -> int:
        """What a request becomes that might wait and must not.  Raises OutOfMemory where the version refuses it."""
        if self._nonatomic == "2.0":
            lowered = self._complaints.lower(gfp)
            self.pressure.downgraded += lowered != gfp
            return lowered
        if self._nonatomic == "2.2-debug":
            self._complaints.complain(gfp)
            self.pressure.failures += 1
            raise OutOfMemory(f"{describe(gfp)} in an interrupt")
        return gfp

    # -- addresses, as the C calls have them: 0 for none ---------------------------------------------------------

    def get_free_pages_unclear(self, gfp: int, order: int = 0) -> int:
        """``__get_free_pages``: the linear address of a block of lowmem, 0 when there is none."""
        try:
            return PAGE_OFFSET + (self.alloc_pages(gfp & ~HIGHMEM, order) << 12)
        except OutOfMemory:
            return 0

    def get_dma_pages(self, gfp: int, order: int = 0) -> int:
        """``__get_dma_pages``: within reach of an ISA card."""
        return self.get_free_pages_unclear(gfp | DMA, order)

    def get_free_pages(self, gfp: int, order: int = 0) -> int:
        """The same, cleared by the CPU."""
        linear = self.get_free_pages_unclear(gfp, order)
        if linear and not self._broken_clear:
            cpu = self._smp.this_cpu
            for page in range(linear, linear + (PAGE_SIZE << order), PAGE_SIZE):
                cpu.call(cpu.routines.clear_page, edi=page)
            self._stats.bytes_by_guest += PAGE_SIZE << order
        return linear

    def free_linear(self, linear: int, order: int = 0) -> None:
        """``free_pages(addr, order)``.  Addresses outside the direct map are ignored, as ``MAP_NR`` made them be.

        Raises BadPage.
        """
        if PAGE_OFFSET <= linear < self._direct_end:
            self.free_pages(linear - PAGE_OFFSET >> 12, order)


def dma_crosses(physical: int, size: int, boundary: int = ISA_BYTE_BOUNDARY) -> bool:
    """An ISA controller's counter would wrap: the range crosses 64 KB (channels 0 to 3) or 128 KB (5 to 7)."""
    return size > 0 and physical // boundary != (physical + size - 1) // boundary
