"""What page faults leave in the feed, read in one go: the same walks again and again, of other pages.

A run of them is unpacked by one struct, and what was the same in the one before is looked at no more.  Wherever one
tells anything else, it is read as any other walk.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sandbox.engine.tlbfeed import MARK
from sandbox.engine.tlbpeek import RECORD_WORDS
from sandbox.sanitize.shadow import OF_2MB, OF_4MB, ShadowTlb, new_held
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE, G

U32 = 0xFFFFFFFF
PAGE = 0xFFFFF000
RECORD_BYTES = 8 * RECORD_WORDS

Reader: TypeAlias = Callable[[memoryview, int], object]
"""Gets a ring's words and the number of a record in it."""
RunReader: TypeAlias = Callable[[memoryview, int, int], object]
"""The same, and how many times its records come."""


def one_by_one(reader: Reader, records: int) -> RunReader:
    """One after the other."""

    def read(words: memoryview, first: int, count: int) -> None:
        for at in range(first, first + count * records, records):
            reader(words, at)

    return read


def copied_by_one(shadow: ShadowTlb, parts: Sequence[bytes]) -> Callable[[memoryview, int], bool]:
    """Takes two walks and an INVLPG of one CPU in at once, where that is the same; False, with nothing done, otherwise.

    It is when INVLPG is of the first walk's 4 KB page, the second one's is a large page that is held as it is, and
    neither tells anything of CR3, CR4 or PDPTEs.
    """
    walk, other = (len(part) - 2 for part in parts[:2])
    text = f"<16xQ8xQ24x16xQ40x{64 * (walk - 1)}x4xIQ48x64x{'8xQQ40x' * other}4xIQ48x8xQ48x"
    unpack, large = struct.Struct(text).unpack_from, shadow.large.by_page

    def read(words: memoryview, first: int) -> bool:
        cr3, cr4, top, size, linear, *path, span, second, page = unpack(words, first * RECORD_BYTES)
        if (linear ^ page) & PAGE or size != PAGE_SIZE or cr3 != shadow.cr3 or cr4 != shadow.cr4:
            return False
        known = large.get((second & -span & U32) >> PAGE_SHIFT)
        if known is None or known[2] != tuple(path) or known[1] != span:
            return False
        registers = shadow.pdptes
        if registers and (top != registers[(linear & U32) >> 30] or path[1] != registers[(second & U32) >> 30]):
            return False
        shadow.invlpg(page & U32)
        return True

    return read


def marks(part: bytes) -> bool:
    """A walk sets accessed or dirty bits."""
    return any(head & 15 == MARK for head in part)


class CopiedAndUsed:
    """``copied_by_one``, and behind it the walk of the page's next access, in one go where nothing else is told.

    ``whole`` gives CR3, CR4, the top entry and size of the first walk and its address; the second walk's entries, size
    and address; INVLPG's; entries, size, address, physical address and attributes of the last.  ``unit`` has bytes for
    what is only compared with those of the time before: registers, and each entry but the leaf.
    """

    def __init__(self, shadow: ShadowTlb, fault: int, parts: Sequence[bytes], apart: Reader) -> None:
        """``fault`` records before the first walk tell nothing."""
        walk, other, used = (len(parts[at]) - 2 for at in (0, 1, 3))
        between, flush = f"{64 * (walk - 1)}x4xIQ48x64x", "4xIQ48x8xQ48x64x"
        self._whole = struct.Struct(
            f"<{64 * fault}x16xQ8xQ24x16xQ40x{between}{'8xQQ40x' * other}{flush}{'8xQQ40x' * used}4xIQQI36x"
        )
        self._unit = struct.Struct(
            f"<{64 * fault}x16x24s24x8x16s40x{between}{'8x16s40x' * other}{flush}{'8x16s40x' * (used - 1)}"
            "8xQQ40x4xIQQI36x"
        )
        self._shadow, self._apart, self._records = shadow, apart, fault + sum(map(len, parts))
        self._other = other

    def __call__(self, words: memoryview, first: int, count: int) -> None:
        shadow, span, records = self._shadow, self._other + 4, self._records
        by_page, by_leaf, large = shadow.local.by_page, shadow.local.by_leaf, shadow.large.by_page
        everywhere, behind = shadow.globals.by_page, span + 1
        start, path, way, trunk, mask, base = (), (), (), (), 0, 0
        for at, found in enumerate(_units(self._unit, words, first, count * records)):
            leaf, entry, size, linear, physical, attributes = found[-6:]
            flushed = found[span + 2]
            page = (linear & U32) >> PAGE_SHIFT
            before = by_page.get(page)
            if (
                found[span + 3 : -6] != way
                or found[:3] != start
                or found[4:behind] != path
                or found[behind] & mask != base
                or (found[3] ^ flushed | linear ^ flushed) & PAGE
                or size != PAGE_SIZE
                or entry & G
                or page in everywhere
                or (before is not None and before[2][-2] != leaf)
                or page & OF_2MB in large
                or page & OF_4MB in large
            ):
                way = ()
                whole = self._whole.unpack_from(words, (first + at * records) * RECORD_BYTES)
                if self._known(whole):
                    used = whole[2 * self._other + 8 : -4]
                    shadow.refill(linear & U32, physical, used, attributes)
                    if len(shadow.routes) == 1 and not shadow.stale:
                        start, path, way, trunk = found[:3], found[4:behind], found[span + 3 : -6], used[:-2]
                        mask = -found[span] & U32
                        base = found[behind] & mask
                else:
                    self._apart(words, first + at * records)
                continue
            by_page[page] = new_held((physical, PAGE_SIZE, (*trunk, leaf, entry), attributes))
            by_leaf[leaf] = page
            shadow.routes[trunk] = linear & U32

    def _known(self, found: tuple[Any, ...]) -> bool:
        shadow, at = self._shadow, 5 + 2 * self._other
        cr3, cr4, top, size, linear = found[:5]
        span, second, page = found[at : at + 3]
        held = shadow.large.by_page.get((second & -span & U32) >> PAGE_SHIFT)
        registers, again = shadow.pdptes, found[-3]
        return not (
            held is None
            or (linear ^ page | again ^ page) & PAGE
            or size != PAGE_SIZE
            or found[-4] != PAGE_SIZE
            or cr3 != shadow.cr3
            or cr4 != shadow.cr4
            or held[2] != found[5:at]
            or held[1] != span
            or (registers and not top == found[at + 4] == registers[(page & U32) >> 30])
            or (registers and found[6] != registers[(second & U32) >> 30])
        )


class ClearedAndUsed:
    """Two walks of one CPU in one go, where the first one's is a large page that is held as it is.

    ``whole`` gives CR3 and CR4, the first walk's entries, size and address; entries, size, address, physical address
    and attributes of the second.  ``unit`` as in ``CopiedAndUsed``.
    """

    def __init__(self, shadow: ShadowTlb, fault: int, parts: Sequence[bytes], apart: Reader) -> None:
        """``fault`` records before the first walk tell nothing."""
        other, used = (len(part) - 2 for part in parts)
        start, between = f"<{64 * fault}x16x", "4xIQ48x64x"
        self._whole = struct.Struct(f"{start}Q8xQ24x{'8xQQ40x' * other}{between}{'8xQQ40x' * used}4xIQQI36x")
        self._unit = struct.Struct(
            f"{start}24s24x{'8x16s40x' * other}{between}{'8x16s40x' * (used - 1)}8xQQ40x4xIQQI36x"
        )
        self._shadow, self._apart, self._records = shadow, apart, fault + sum(map(len, parts))
        self._other = other

    def __call__(self, words: memoryview, first: int, count: int) -> None:
        shadow, behind, records = self._shadow, self._other + 2, self._records
        by_page, by_leaf, everywhere = shadow.local.by_page, shadow.local.by_leaf, shadow.globals.by_page
        start, way, trunk, mask, base = (), (), (), 0, 0
        for at, found in enumerate(_units(self._unit, words, first, count * records)):
            leaf, entry, size, linear, physical, attributes = found[-6:]
            page = (linear & U32) >> PAGE_SHIFT
            if (
                found[behind + 1 : -6] != way
                or found[:behind] != start
                or found[behind] & mask != base
                or size != PAGE_SIZE
                or entry & G
                or page in everywhere
            ):
                way = ()
                whole = self._whole.unpack_from(words, (first + at * records) * RECORD_BYTES)
                if self._known(whole):
                    used = whole[2 * self._other + 4 : -4]
                    shadow.fill(linear & U32, physical, size, used, attributes)
                    if size == PAGE_SIZE and not shadow.stale:
                        start, way, trunk = found[:behind], found[behind + 1 : -6], used[:-2]
                        mask = -found[behind - 1] & U32
                        base = found[behind] & mask
                else:
                    self._apart(words, first + at * records)
                continue
            by_page[page] = new_held((physical, PAGE_SIZE, (*trunk, leaf, entry), attributes))
            by_leaf[leaf] = page

    def _known(self, found: tuple[Any, ...]) -> bool:
        shadow, at = self._shadow, 2 + 2 * self._other
        span, linear = found[at], found[at + 1]
        held = shadow.large.by_page.get((linear & -span & U32) >> PAGE_SHIFT)
        again, registers = found[-3] & U32, shadow.pdptes
        return not (
            held is None
            or found[0] != shadow.cr3
            or found[1] != shadow.cr4
            or held[2] != found[2:at]
            or held[1] != span
            or found[2 : at - 2] not in shadow.routes
            or (registers and found[3] != registers[(linear & U32) >> 30])
            or (registers and found[at + 3] != registers[again >> 30])
        )


def _units(unit: struct.Struct, words: memoryview, first: int, records: int) -> Any:
    return unit.iter_unpack(words[RECORD_WORDS * first : RECORD_WORDS * (first + records)])
