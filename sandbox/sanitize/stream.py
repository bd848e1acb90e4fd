"""From the feed's records to the shadows, and counts of what was seen."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sandbox.engine.tlbfeed import (
    CR0,
    CR3,
    CR4,
    ENTRY,
    FILL,
    KINDS,
    MARK,
    MISS,
    MOST_CPUS,
    PAGE,
    PDPTE,
    RECORD_WORDS,
    STALE,
    Batch,
)
from sandbox.sanitize.shadow import ShadowTlb
from sandbox.sanitize.translation import Path
from sandbox.x86.paging import A, D

_U32 = 0xFFFFFFFF
RECORD_BYTES = 8 * RECORD_WORDS
COUNT_AFTER = 1 << 16
"""Records that are counted together: a count costs the same for few."""


def _heads(*kinds: int) -> bytes:
    """A class of a record's first bytes: these kinds, of any CPU."""
    return b"[" + b"".join(b"\\x%02x" % (kind | cpu << 4) for kind in kinds for cpu in range(MOST_CPUS)) + b"]"


_WALKS_AND_INVALIDATIONS = re.compile(
    _heads(MISS) + _heads(ENTRY, MARK) + b"*" + _heads(FILL) + b"|" + _heads(CR3, CR4, CR0, PAGE, PDPTE)
)
_WALKS = re.compile(_heads(MISS) + _heads(ENTRY, MARK) + b"*" + _heads(FILL, STALE) + b"?")


class Shape:
    """How to read a walk that ended in a translation, by the kinds of its records: one ``unpack`` for all of them.

    It gives CR3 and CR4 of the miss, physical address and value of each entry and mark, and of the fill size, linear
    and physical address, attributes.
    """

    __slots__ = ("_entries", "_marks", "unpack")

    def __init__(self, kinds: Sequence[int]) -> None:
        between = {ENTRY: "8xQQ40x", MARK: "8xQQ40x"}
        text = "<16xQ8xQ24x" + "".join(between[kind] for kind in kinds[1:-1]) + "4xIQQQ32x"
        self.unpack = struct.Struct(text).unpack_from
        places = [(kind, 2 + 2 * at) for at, kind in enumerate(kinds[1:-1])]
        self._entries = [at for kind, at in places if kind == ENTRY]
        self._marks = [at for kind, at in places if kind == MARK]

    def path(self, words: tuple[int, ...]) -> Path:
        """The entries as the walk left them, accessed and dirty bits set; nothing where paging is off."""
        if not self._marks:
            return words[2:-4]
        found = [word for at in self._entries for word in words[at : at + 2]]
        for mark in self._marks:
            for at in range(0, len(found), 2):
                if found[at] == words[mark]:
                    found[at + 1] |= words[mark + 1] & (A | D)
        return tuple(found)


class WalkSeen(NamedTuple):
    """One TLB miss as the CPU walked it; ``entries`` are (physical address, value read), in order.

    ``access`` is 0 for a load, 1 a store, 2 a fetch.  ``physical`` is None for a walk that ended in a fault; ``size``
    is 0 then, and where a stale translation was used and nothing walked.
    """

    cpu: int
    linear: int
    access: int
    user: bool
    entries: tuple[tuple[int, int], ...]
    marks: tuple[tuple[int, int], ...]
    physical: int | None
    size: int


class Stream:
    """Reads batches: ``shadows`` follow, ``on_walk`` gets each miss, ``on_pdpte`` a PDPTE other than its register's."""

    def __init__(self, shadows: Sequence[ShadowTlb]) -> None:
        self.shadows = shadows
        self._counts = [[0] * len(KINDS) for _ in shadows]
        """By CPU and kind."""
        self._walks = [0] * len(shadows)
        """Misses that read tables."""
        self._uncounted = bytearray()
        self.on_walk: Callable[[WalkSeen], object] | None = None
        self.on_pdpte: Callable[[ShadowTlb, int, int, int], object] | None = None
        """(shadow, linear, physical address of the entry, what memory has)."""
        self._loading = False
        self._shapes: dict[bytes, Shape] = {}
        self.batches = 0
        """Read so far: with no new one no shadow has changed."""

    def read(self, batch: Batch) -> None:
        """The feed's reader."""
        self.batches += 1
        heads, words = batch.heads, batch.words
        self._uncounted += heads
        if len(self._uncounted) > COUNT_AFTER:
            self._count()
        if self.on_walk is not None:
            self._tell_walks(batch)
        shadows, shapes = self.shadows, self._shapes
        for match in _WALKS_AND_INVALIDATIONS.finditer(heads):
            first, end = match.span()
            head = heads[end - 1]
            kind, shadow = head & 15, shadows[head >> 4]
            if kind == FILL:
                shape = shapes.get(match[0]) or self._shape(match[0])
                found = shape.unpack(words, first * RECORD_BYTES)
                self._fill(shadow, found, shape.path(found))
            else:
                at = RECORD_WORDS * first
                self._invalidation(shadow, kind, words[at + 1], words[at + 2])

    def _shape(self, heads: bytes) -> Shape:
        made = self._shapes[heads] = Shape([head & 15 for head in heads])
        return made

    def _count(self) -> None:
        heads, self._uncounted = bytes(self._uncounted), bytearray()
        for number, counts in enumerate(self._counts):
            for kind in range(MISS, STALE + 1):
                counts[kind] += heads.count(kind | number << 4)
            self._walks[number] += heads.count(bytes((MISS | number << 4, ENTRY | number << 4)))

    def counters(self) -> list[dict[str, int]]:
        """By CPU and in words; misses that read tables are walks."""
        self._count()
        return [
            {"misses": counts[MISS], "walks": walks, **dict(zip(KINDS[ENTRY:], counts[ENTRY:], strict=True))}
            for counts, walks in zip(self._counts, self._walks, strict=True)
        ]

    def _fill(self, shadow: ShadowTlb, found: tuple[int, ...], path: Path) -> None:
        """A walk that ended in a translation."""
        if not path:
            return
        shadow.cr3, shadow.cr4 = found[0], found[1]
        size, linear, physical, attributes = found[-4:]
        linear &= _U32
        if shadow.pdptes and path[1] != shadow.pdptes[linear >> 30] and self.on_pdpte is not None:
            self.on_pdpte(shadow, linear, path[0], path[1])
        shadow.fill(linear, physical, size, path, attributes & _U32)

    def _invalidation(self, shadow: ShadowTlb, kind: int, one: int, two: int) -> None:
        if kind == PAGE:
            shadow.invlpg(one & _U32)
        elif kind == PDPTE:
            if self._loading:
                shadow.pdptes = (*shadow.pdptes, two)[-4:]
        elif kind == CR3:
            shadow.load_cr3(one & _U32)
            self._loading, shadow.pdptes = True, ()
        else:
            changed = shadow.load_cr4 if kind == CR4 else shadow.load_cr0
            self._loading = changed(one & _U32, two & _U32)
            if self._loading:
                shadow.pdptes = ()

    def _tell_walks(self, batch: Batch) -> None:
        assert self.on_walk is not None
        for match in _WALKS.finditer(batch.heads):
            self.on_walk(_walk_seen(batch, match.start(), match.end()))


def _walk_seen(batch: Batch, first: int, end: int) -> WalkSeen:
    inner = range(first + 1, end)
    entries = tuple((batch.word(at, 1), batch.word(at, 2)) for at in inner if batch.heads[at] & 15 == ENTRY)
    marks = tuple((batch.word(at, 1), batch.word(at, 2) & _U32) for at in inner if batch.heads[at] & 15 == MARK)
    more = batch.more(first)
    last = batch.heads[end - 1] & 15
    return WalkSeen(
        batch.heads[first] >> 4,
        batch.word(first, 1) & _U32,
        more & 0xFF,
        more >> 8 == 1,
        entries,
        marks,
        batch.word(end - 1, 2) if last in (FILL, STALE) else None,
        batch.more(end - 1) if last == FILL else 0,
    )
