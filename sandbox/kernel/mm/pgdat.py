"""The machine's zones behind one door, and each CPU's list of single frames (pcp; MM 2, post 000).

Nine requests in ten are for one page (post 000), so these are served from a list of the CPU that asks, without the
zone's lock; the list is filled and emptied a batch at a time.  Larger blocks come from the zones.  Requests go down
from the zone that they prefer: HIGHMEM, NORMAL (16 MB and up), DMA.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.mm.mmzone import Zone
from sandbox.kernel.mm.page import (
    COUNT,
    INDEX,
    PG_BUDDY,
    PG_DMA,
    PG_HEAD,
    PG_HIGHMEM,
    PG_OPEN,
    STRUCT_PAGE_WORDS,
    BadPage,
    MemMap,
)
from sandbox.records import dataclass

DMA_END = 16 << 20 >> 12
"""Frames below this number are within reach of an ISA card."""
BATCH_ORDER = 5
"""A CPU's list is filled with a block of 2^5 frames: 2.0's largest, which need not be cut."""
PCP_CEILING = 96
"""A longer list gives a batch back."""
NOTHING_BROKEN = Breakage()
ORDERS = 6
"""2.0's NR_MEM_LISTS: blocks of up to 32 frames (128 KB), as post 002 says."""


@dataclass(slots=True)
class Requests:
    """How the per-CPU lists do: counts of requests that were granted."""

    singles: int = 0
    blocks: int = 0
    refills: int = 0
    """Single-frame requests for which a list had to be filled from its zone."""
    interrupt_singles: int = 0
    interrupt_blocks: int = 0
    """Of these, those that handlers made: post 000's ninety in a hundred are of the others."""

    @property
    def hit_rate(self) -> float:
        """Single-frame requests that needed no zone."""
        return 1 - self.refills / self.singles if self.singles else 0.0

    @property
    def single_share(self) -> float:
        """Requests for one frame among all."""
        return self.singles / (self.singles + self.blocks) if self.singles else 0.0

    @property
    def outside_share(self) -> float:
        """Requests for one frame among those that no interrupt made."""
        singles = self.singles - self.interrupt_singles
        return singles / (singles + self.blocks - self.interrupt_blocks) if singles else 0.0

    def in_interrupt(self, order: int) -> None:
        """A handler made the request that was counted last."""
        if order:
            self.interrupt_blocks += 1
        else:
            self.interrupt_singles += 1


class PgDat:
    """Zones over ranges of ``low`` and ``high`` frames, counted in mem_map; ``cpus`` lists of single frames."""

    def __init__(
        self,
        memmap: MemMap,
        low: Iterable[tuple[int, int]],
        high: Iterable[tuple[int, int]],
        orders: int = ORDERS,
        cpus: int = 1,
        broken: Breakage = NOTHING_BROKEN,
    ) -> None:
        self.memmap = memmap
        self.orders = orders
        self._batch_order, self._ceiling = (0, 0) if broken("no-hot-list") else (BATCH_ORDER, PCP_CEILING)
        low = list(low)
        dma = [(first, min(count, DMA_END - first)) for first, count in low]
        normal = [(max(first, DMA_END), count - max(0, DMA_END - first)) for first, count in low]
        self.dma = Zone("DMA", 0, dma, PG_DMA, memmap, orders)
        self.normal = Zone("NORMAL", 1, normal, 0, memmap, orders)
        self.high = Zone("HIGHMEM", 2, high, PG_HIGHMEM, memmap, orders)
        self.zones = (self.dma, self.normal, self.high)
        for zone in self.zones:
            zone.joins = not broken("no-buddy-join")
            zone.checks_holes = not broken("no-hole-check")
        self._pcp: list[tuple[list[int], list[int], list[int]]] = [([], [], []) for _ in range(cpus)]
        self.requests = Requests()
        self._prefer()
        self.free_frames = sum(zone.total for zone in self.zones)
        """Frames that nobody holds: on the lists of zones and CPUs, or not opened yet."""
        self.total_frames = self.free_frames

    # -- single frames -------------------------------------------------------------------------------------------

    def rmqueue_pcp(self, highmem: bool = False, cpu: int = 0) -> int:
        """A frame number with count 1; its contents are whatever was left in it.

        Raises OutOfMemory.  ``highmem`` says that the caller reaches it through kmap only.
        """
        pcp = self._pcp[cpu][self._preferred[highmem]]
        if not pcp:
            pcp = self._refill(cpu, highmem)
        pfn = pcp.pop()
        memmap = self.memmap
        at = memmap.bases[pfn >> memmap.shift] + pfn * STRUCT_PAGE_WORDS
        words = memmap.words
        if words[at + COUNT] or words[at] < PG_OPEN:
            raise self._bad_free(pfn)
        words[at + COUNT] = 1
        self.free_frames -= 1
        self.requests.singles += 1
        return pfn

    def _prefer(self) -> None:
        """The list that a request looks into first: that of the highest zone with any frames, by ``highmem``."""
        low = 1 if self.normal.total else 0
        self._preferred = low, 2 if self.high.total else low

    def _bad_free(self, pfn: int) -> BadPage:
        """A frame that is listed as free is not: mem_map was written to by somebody else."""
        count = self.memmap.count(pfn)
        if self.memmap.reserved(pfn):
            return BadPage(f"frame {pfn:#x} was marked as reserved when it was on the free list already")
        return BadPage(f"frame {pfn:#x} is on the free list with count {count}")

    def put_page(self, pfn: int, cpu: int = 0) -> bool:
        """Drop a reference; True when it was the last and the frame is free again.

        Reserved frames are ignored, as in every kernel of the posts.  Raises BadPage for a count below zero, and for
        a block of several frames, which ``free_pages`` takes.
        """
        memmap = self.memmap
        if pfn >= memmap.max_pfn:
            return False
        at = memmap.bases[pfn >> memmap.shift] + pfn * STRUCT_PAGE_WORDS
        words = memmap.words
        flags = words[at]
        if not flags & PG_OPEN:
            return False
        count = words[at + COUNT]
        if count == 1:
            if flags & PG_HEAD:
                raise BadPage(
                    f"frame {pfn:#x} begins a block of order {words[at + INDEX]} and is freed as a single one"
                )
            zone = 2 if flags & PG_HIGHMEM else 0 if flags & PG_DMA else 1
            words[at] = flags & (PG_OPEN | PG_HIGHMEM | PG_DMA)
            words[at + COUNT] = 0
            pcp = self._pcp[cpu][zone]
            pcp.append(pfn)
            self.free_frames += 1
            if len(pcp) > self._ceiling:
                self._drain(zone, pcp, 1 << self._batch_order)
            return True
        if count == 0:
            raise BadPage(f"frame {pfn:#x} is freed and has no user: freed twice, or inside a block")
        words[at + COUNT] = count - 1
        return False

    def _refill(self, cpu: int, highmem: bool) -> list[int]:
        """A list of this CPU with frames in it, of the first zone that has some.  Raises OutOfMemory."""
        lists = self._pcp[cpu]
        for _ in range(2):
            for zone in (self.zones if highmem else self.zones[:2])[::-1]:
                pcp = lists[zone.index]
                if pcp or self._fill(zone, pcp):
                    return pcp
            if len(self._pcp) == 1:
                break
            self.drain()
        raise OutOfMemory("out of memory: no free frame", self.report())

    def _drain(self, zone: int, pcp: list[int], count: int) -> None:
        """Give the oldest of a list back to its zone."""
        self.zones[zone].free_bulk(pcp[:count])
        del pcp[:count]

    def _fill(self, zone: Zone, pcp: list[int]) -> bool:
        """Fill an empty list with a batch; False when the zone has none, which its counters tell without the lock."""
        pcp.extend(zone.rmqueue_bulk(self._batch_order))
        self.requests.refills += bool(pcp)
        return bool(pcp)

    def drain(self) -> None:
        """Give every CPU's list back to the zones, so that blocks can join."""
        for lists in self._pcp:
            for zone, pcp in enumerate(lists):
                if pcp:
                    self._drain(zone, pcp, len(pcp))

    # -- blocks --------------------------------------------------------------------------------------------------

    def rmqueue(self, order: int, zones: Iterable[Zone], cpu: int = 0) -> int:
        """The first frame, with count 1, of 2^order frames in a row, from the first zone that has them.

        Raises OutOfMemory, also for an order that no list has.
        """
        if not 0 <= order < self.orders:
            raise OutOfMemory(f"out of memory: order {order}, where blocks have 0 to {self.orders - 1}", self.report())
        zones = [zone for zone in zones if zone.total]
        for attempt in range(2):
            for zone in zones:
                pfn = zone.rmqueue(order) if order else self._take_one(zone, self._pcp[cpu][zone.index])
                if pfn is not None:
                    at = self.memmap.at(pfn)
                    words = self.memmap.words
                    if words[at + COUNT] or not words[at] & PG_OPEN:
                        raise self._bad_free(pfn)
                    if order:
                        self.requests.blocks += 1
                        words[at] |= PG_HEAD
                        words[at + INDEX] = order
                    else:
                        self.requests.singles += 1
                    words[at + COUNT] = 1
                    self.free_frames -= 1 << order
                    return pfn
            if not attempt:
                self.drain()
        raise OutOfMemory(f"out of memory: no {1 << order} free frames in a row", self.report())

    def _take_one(self, zone: Zone, pcp: list[int]) -> int | None:
        return pcp.pop() if pcp or self._fill(zone, pcp) else None

    def free_block(self, pfn: int, order: int, cpu: int = 0) -> bool:
        """Drop a reference on a block; True when it was the last.

        Reserved frames are ignored.  Raises BadPage: freed twice, another order than it was allocated with, or not
        the first frame of a block.
        """
        memmap = self.memmap
        if memmap.reserved(pfn):
            return False
        at = memmap.at(pfn)
        flags, words = memmap.words[at], memmap.words
        if flags & PG_BUDDY or not words[at + COUNT]:
            raise BadPage(f"frame {pfn:#x} is freed and has no user: freed twice, or inside a block")
        was = words[at + INDEX] if flags & PG_HEAD else 0
        if was != order:
            raise BadPage(f"frame {pfn:#x} is freed with order {order}; it was allocated with order {was}")
        if order == 0:
            return self.put_page(pfn, cpu)
        words[at + COUNT] -= 1
        if words[at + COUNT]:
            return False
        words[at] = flags & (PG_OPEN | PG_HIGHMEM | PG_DMA)
        self.zone_of(pfn).free_one_page(pfn, order)
        self.free_frames += 1 << order
        return True

    def zone_of(self, pfn: int) -> Zone:
        """The zone of an opened frame, by its flags."""
        flags = self.memmap.flags(pfn)
        return self.high if flags & PG_HIGHMEM else self.dma if flags & PG_DMA else self.normal

    # -- ranges that come and go ---------------------------------------------------------------------------------

    def add_range(self, zone: Zone, first: int, count: int) -> None:
        """Frames join a zone at run time; their structures are there and say that they are reserved."""
        zone.add(first, count)
        self._prefer()
        self.total_frames += count
        self.free_frames += count

    def isolate(self, pfn: int) -> bool:
        """Take one free frame out of whatever list holds it; False when somebody has it."""
        for lists in self._pcp:
            for pcp in lists:
                if pfn in pcp:
                    pcp.remove(pfn)
                    self.free_frames -= 1
                    return True
        if any(zone.remove(pfn) for zone in self.zones):
            self.free_frames -= 1
            return True
        return False

    # -- looking -------------------------------------------------------------------------------------------------

    @property
    def low_free(self) -> int:
        """Free frames of lowmem: what the direct map reaches."""
        return self.free_frames - (self.zone_free(self.high) if self.high.total else 0)

    def zone_free(self, zone: Zone) -> int:
        """Free frames of a zone, those on the CPUs' lists too."""
        return zone.listed + zone.waiting + sum(len(lists[zone.index]) for lists in self._pcp)

    def pcp_frames(self, zone: Zone) -> list[list[int]]:
        """The frames of a zone on each CPU's list."""
        return [lists[zone.index] for lists in self._pcp]

    def free_list(self) -> Iterator[int]:
        """Every opened frame that nobody holds."""
        for zone in self.zones:
            for pfn, order in zone.blocks():
                yield from range(pfn, pfn + (1 << order))
            for pcp in self.pcp_frames(zone):
                yield from pcp

    def report(self) -> str:
        """One line a zone, for errors."""
        return "\n".join(
            f"zone {zone.name}: {self.zone_free(zone)} of {zone.total} frames free" for zone in self.zones if zone.total
        )
