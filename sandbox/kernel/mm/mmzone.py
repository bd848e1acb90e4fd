"""Zones and the buddy system: free blocks of 2^order frames, each aligned to its size (MM 2, MM 16).

The first ``struct page`` of a free block carries ``PG_BUDDY`` and the order, as 2.6 has it; a block joins its buddy
when that one is free, of the same order and of the same zone.  Frames of a zone that nobody has needed yet have no
flags at all: they are opened a block at a time.  Before guest code may read mem_map they are published: their
structures say what opening would store, in pages that all blocks share, and the lists still know nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sandbox.kernel.mm.page import COUNT, INDEX, PG_BUDDY, PG_OPEN, BadPage, MemMap

OPEN_BLOCK = 4096
"""Frames opened at a time (16 MB)."""
OPEN_AT_ONCE = 16 * OPEN_BLOCK
"""A zone that waits for no more than this is opened whole when it is to be published."""


class Zone:
    """Free lists by order over ranges (first frame, frames) of which the first are opened first."""

    def __init__(
        self, name: str, index: int, ranges: Iterable[tuple[int, int]], flags: int, memmap: MemMap, orders: int
    ) -> None:
        self.name = name
        self.index = index
        self.flags = flags
        self.orders = orders
        self.memmap = memmap
        self.ranges = [(first, count) for first, count in ranges if count > 0]
        self.unopened = self.ranges[::-1]
        self.published: list[tuple[int, int]] = []
        """Whole blocks that were not opened yet either, but whose structures can be read."""
        self.total = sum(count for _, count in self.ranges)
        self.lists: list[dict[int, None]] = [{} for _ in range(orders)]
        self.listed = 0
        """Frames on the free lists."""
        self.locks = 0
        """Times that the lists were taken: 2.0 turned interrupts off for each."""
        self.joins = True
        self.checks_holes = True
        """Without it a buddy is believed to have a structure (2.6's pfn_valid_within without HOLES_IN_ZONE)."""

    @property
    def waiting(self) -> int:
        """Frames that were not opened yet."""
        return sum(count for _, count in self.closed())

    def closed(self) -> list[tuple[int, int]]:
        """(first frame, frames) of what was not opened yet."""
        return self.unopened + self.published

    def rmqueue(self, order: int) -> int | None:
        """The first frame of a block, cut from a larger one if need be; None when there is none."""
        self.locks += 1
        while True:
            for at in range(order, self.orders):
                if self.lists[at]:
                    pfn = self.lists[at].popitem()[0]
                    self.memmap.words[self.memmap.at(pfn)] &= ~PG_BUDDY
                    while at > order:
                        at -= 1
                        self._list(pfn + (1 << at), at)
                    self.listed -= 1 << order
                    return pfn
            if not self._open():
                return None

    def rmqueue_bulk(self, order: int) -> list[int]:
        """A block of 2^order frames, or the largest below, as single frames in falling order; empty for none."""
        while not self.listed:
            if not self._open():
                return []
        while order and not any(self.lists[order:]):
            order -= 1
        pfn = self.rmqueue(order)
        return [] if pfn is None else list(range(pfn + (1 << order) - 1, pfn - 1, -1))

    def free_one_page(self, pfn: int, order: int) -> None:
        """Put a block back and join it with its buddies."""
        self.locks += 1
        self._free(pfn, order)

    def free_bulk(self, frames: Iterable[int]) -> None:
        """Put single frames back, the lists taken once for all (2.6's free_pages_bulk)."""
        self.locks += 1
        for pfn in frames:
            self._free(pfn, 0)

    def is_free(self, pfn: int) -> bool:
        """The frame lies in a block on the lists."""
        return any(pfn >> order << order in listed for order, listed in enumerate(self.lists))

    def _free(self, pfn: int, order: int) -> None:
        memmap, words = self.memmap, self.memmap.words
        self.listed += 1 << order
        wanted = PG_OPEN | self.flags | PG_BUDDY
        while order < self.orders - 1 and self.joins:
            buddy = pfn ^ 1 << order
            if not memmap.has_page(buddy):
                if self.checks_holes:
                    break
                memmap.physical(buddy)
            at = memmap.at(buddy)
            if words[at] != wanted or words[at + INDEX] != order:
                break
            try:
                del self.lists[order][buddy]
            except KeyError:
                raise BadPage(f"frame {buddy:#x} says that it is free, order {order}; no free list has it") from None
            words[at] = wanted & ~PG_BUDDY
            pfn &= buddy
            order += 1
        self._list(pfn, order)

    def remove(self, pfn: int) -> bool:
        """Take one free frame out of the block that holds it; False when no free block does."""
        for order in range(self.orders):
            head = pfn >> order << order
            if head in self.lists[order]:
                del self.lists[order][head]
                self.memmap.words[self.memmap.at(head)] &= ~PG_BUDDY
                self.listed -= 1 << order
                for at in range(order - 1, -1, -1):
                    half = 1 << at
                    keep = head if pfn & half else head + half
                    head = head + half if pfn & half else head
                    self._list(keep, at)
                    self.listed += half
                return True
        return False

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(first frame, order) of every block on the lists."""
        for order, listed in enumerate(self.lists):
            for pfn in listed:
                yield pfn, order

    def has(self, pfn: int) -> bool:
        """The frame lies in one of the zone's ranges."""
        return self.meets(pfn, pfn)

    def meets(self, first: int, last: int) -> bool:
        """One of the frames [first, last] lies in one of the zone's ranges, opened or not."""
        return any(first < start + count and start <= last for start, count in self.ranges)

    def open_all(self) -> None:
        """Open what was not opened yet."""
        while self._open():
            pass

    def publish(self) -> None:
        """What was not opened yet can be read in mem_map as if it had been; the cost does not grow with the zone."""
        if self.waiting <= OPEN_AT_ONCE or self.orders > OPEN_BLOCK.bit_length():
            self.open_all()
        while self.unopened:
            first, count = self.unopened[-1]
            whole = count // OPEN_BLOCK * OPEN_BLOCK
            if first % OPEN_BLOCK or not whole or not self.memmap.in_a_row(first, whole):
                self._open()
                continue
            self.unopened[-1:] = [(first + whole, count - whole)] if whole < count else []
            self.memmap.open_blocks(first, whole, self.flags, self.orders - 1, OPEN_BLOCK)
            self.published.insert(0, (first, whole))

    def add(self, first: int, count: int) -> None:
        """More frames, at run time; their structures must be there."""
        self.ranges.append((first, count))
        self.unopened.append((first, count))
        self.total += count

    def withdraw(self, first: int, count: int) -> None:
        """Frames that were taken out of the lists leave the zone."""
        kept = []
        for start, size in self.ranges:
            for low, end in ((start, min(start + size, first)), (max(start, first + count), start + size)):
                if low < end:
                    kept.append((low, end - low))
        self.ranges = kept
        self.total -= count

    def _list(self, pfn: int, order: int) -> None:
        memmap = self.memmap
        at = memmap.at(pfn)
        memmap.words[at] = PG_OPEN | self.flags | PG_BUDDY
        memmap.words[at + INDEX] = order
        memmap.words[at + COUNT] = 0
        self.lists[order][pfn] = None

    def _open(self) -> bool:
        ranges = self.unopened or self.published
        if not ranges:
            return False
        first, count = ranges.pop()
        take = min(count, OPEN_BLOCK - first % OPEN_BLOCK)
        if take < count:
            ranges.append((first + take, count - take))
        if ranges is self.unopened:
            self._add(first, take)
        else:
            size = 1 << self.orders - 1
            self.lists[-1].update(dict.fromkeys(range(first + take - size, first - 1, -size)))
            self.listed += take
        return True

    def _add(self, first: int, count: int) -> None:
        """Frames of one block get flags, and go on the lists as pieces that are as large as can be."""
        self.memmap.open(first, count, self.flags)
        end, pieces = first + count, []
        while first < end:
            order = self.orders - 1
            while first & (1 << order) - 1 or first + (1 << order) > end:
                order -= 1
            pieces.append((first, order))
            first += 1 << order
        for pfn, order in reversed(pieces):
            self._list(pfn, order)
        self.listed += count
