"""The first frame allocator: single frames, two zones, a narrow door.

``alloc_frame`` and ``put_page`` are all that the rest of the kernel knows; zones, orders and watermarks come behind
them.  Highmem is used first for what may live there (post 001: anonymous pages and the page cache).
"""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.kernel.mm.memmap import COUNT, PG_HIGHMEM, PG_OPEN, STRUCT_PAGE_WORDS, BadPage, MemMap
from sandbox.x86.errors import SandboxError

OPEN_BLOCK = 4096
"""Frames opened at a time (16 MB)."""


class OutOfMemory(SandboxError):
    """No frame is left for a request.  The process that asked is killed; boot fails."""

    exit_status = 1


class Zone:
    """A LIFO of free frames over ranges that have not been opened yet."""

    def __init__(self, name: str, ranges: Iterable[tuple[int, int]], flags: int) -> None:
        self.name = name
        self.flags = flags
        self.free: list[int] = []
        self.unopened = [(first, count) for first, count in ranges if count > 0]
        self.unopened.reverse()
        self.total = sum(count for _, count in self.unopened)

    @property
    def free_frames(self) -> int:
        return len(self.free) + sum(count for _, count in self.unopened)


class FrameAllocator:
    """Frames by number, counted in mem_map."""

    def __init__(self, memmap: MemMap, low: Iterable[tuple[int, int]], high: Iterable[tuple[int, int]]) -> None:
        self.memmap = memmap
        self.low = Zone("low", low, 0)
        self.high = Zone("high", high, PG_HIGHMEM)
        self._words, self._base = memmap.words, memmap.base

    def alloc_frame(self, highmem: bool = False) -> int:
        """A frame number with count 1; its contents are whatever was left in it.

        Raises OutOfMemory.  ``highmem`` says that the caller reaches it through kmap only.
        """
        zone = self.high if highmem and (self.high.free or self.high.unopened) else self.low
        if not zone.free and not self._open(zone):
            raise OutOfMemory("out of memory: no free frame", self.report())
        pfn = zone.free.pop()
        at = self._base + pfn * STRUCT_PAGE_WORDS
        if self._words[at + COUNT]:
            raise BadPage(f"frame {pfn:#x} is on the free list with count {self._words[at + COUNT]}")
        self._words[at + COUNT] = 1
        return pfn

    def put_page(self, pfn: int) -> bool:
        """Drop a reference; True when it was the last and the frame is free again.

        Reserved frames are ignored, as in every kernel of the posts.  Raises BadPage for a count below zero.
        """
        at = self._base + pfn * STRUCT_PAGE_WORDS
        words = self._words
        flags = words[at]
        if not flags & PG_OPEN:
            return False
        count = words[at + COUNT]
        if count == 0:
            raise BadPage(f"frame {pfn:#x} is freed twice")
        words[at + COUNT] = count - 1
        if count > 1:
            return False
        zone = self.high if flags & PG_HIGHMEM else self.low
        words[at] = PG_OPEN | zone.flags
        zone.free.append(pfn)
        return True

    @property
    def free_frames(self) -> int:
        """Frames in both zones that nobody holds."""
        return self.low.free_frames + self.high.free_frames

    @property
    def total_frames(self) -> int:
        return self.low.total + self.high.total

    def report(self) -> str:
        """One line a zone, for errors."""
        return "\n".join(
            f"zone {zone.name}: {zone.free_frames} of {zone.total} frames free" for zone in (self.low, self.high)
        )

    def _open(self, zone: Zone) -> bool:
        if not zone.unopened:
            return False
        first, count = zone.unopened.pop()
        take = min(count, OPEN_BLOCK)
        if take < count:
            zone.unopened.append((first + take, count - take))
        self.memmap.open(first, take, zone.flags)
        zone.free.extend(range(first + take - 1, first - 1, -1))
        return True
