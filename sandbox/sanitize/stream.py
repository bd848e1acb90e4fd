"""From the feed's records to the shadows, and counts of what was seen."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from functools import partial
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
    STALE,
    Batch,
)
from sandbox.engine.tlbpeek import RECORD_WORDS
from sandbox.sanitize.faultwalks import (
    RECORD_BYTES,
    U32,
    ClearedAndUsed,
    CopiedAndUsed,
    Reader,
    RunReader,
    copied_by_one,
    marks,
    one_by_one,
)
from sandbox.sanitize.shadow import ShadowTlb
from sandbox.sanitize.translation import Path
from sandbox.x86.paging import A, D

COUNT_AFTER = 1 << 16
"""Records that are counted together: a count costs the same for few."""


def _heads(*kinds: int) -> bytes:
    """A class of a record's first bytes: these kinds, of any CPU."""
    return b"[" + b"".join(b"\\x%02x" % (kind | cpu << 4) for kind in kinds for cpu in range(MOST_CPUS)) + b"]"


_FILLED = _heads(MISS) + _heads(ENTRY, MARK) + b"*" + _heads(FILL)
_READ = _heads(MISS) + _heads(ENTRY) + _heads(ENTRY, MARK) + b"*" + _heads(FILL)
_UNMARKED = _heads(MISS) + _heads(ENTRY) + b"+" + _heads(FILL)
_FAULTED = _heads(MISS) + _heads(ENTRY) + b"*"
"""Before another walk: one that ended in a fault, and tells nothing."""
_COPIED = re.compile(b"(%s)?(%s)(%s)(%s)(%s)?" % (_FAULTED, _READ, _UNMARKED, _heads(PAGE), _FILLED))
"""A page is read, another one written, an INVLPG, and the access made again: what copy-on-write leaves."""
_CLEARED = re.compile(b"(%s)?(%s)(%s)" % (_FAULTED, _UNMARKED, _UNMARKED))
"""A page is written by one mapping and then used by another: what demand zero leaves."""
_ONE_BY_ONE = re.compile(_FILLED + b"|" + _heads(CR3, CR4, CR0, PAGE, PDPTE))
_NO_GROUPS = [re.sub(rb"\((?!\?)", b"(?:", each.pattern) for each in (_COPIED, _CLEARED, _ONE_BY_ONE)]
_UNITS = re.compile(b"|".join(_NO_GROUPS))
_RUNS = re.compile(b"(%s)\\1*" % _UNITS.pattern)
"""Walks and invalidations, each as often as the same ones follow."""
_WALKS = re.compile(_heads(MISS) + _heads(ENTRY, MARK) + b"*" + _heads(FILL, STALE) + b"?")


class Shape:
    """How to read a walk that ended in a translation, by the kinds of its records: one ``unpack`` for all of them.

    It gives CR3 and CR4 of the miss, physical address and value of each entry and mark, and of the fill size, linear
    and physical address, attributes.
    """

    __slots__ = ("_entries", "_last", "_marks", "path", "unpack")

    def __init__(self, kinds: Sequence[int]) -> None:
        self.unpack = struct.Struct(f"<16xQ8xQ24x{'8xQQ40x' * (len(kinds) - 2)}4xIQQI36x").unpack_from
        places = [(kind, 2 + 2 * at) for at, kind in enumerate(kinds[1:-1])]
        self._entries = [at for kind, at in places if kind == ENTRY]
        self._marks = [at for kind, at in places if kind == MARK]
        self._last = 2 + 2 * len(self._entries)
        """Where the first mark is when all are behind the entries."""
        self.path: Callable[[tuple[int, ...]], Path] | None = None
        """The entries as the walk left them, accessed and dirty bits set; None: ``words[2:-4]``, without a mark."""
        if self._marks:
            self.path = self._leaf_marked if self._marks == [self._last] else self._marked

    def _leaf_marked(self, words: tuple[int, ...]) -> Path:
        last = self._last
        if words[last] != words[last - 2]:
            return self._marked(words)
        return (*words[2 : last - 1], words[last - 1] | words[last + 1] & (A | D))

    def _marked(self, words: tuple[int, ...]) -> Path:
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
        self._readers: dict[bytes, RunReader] = {}
        """By the first bytes of records."""
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
        readers = self._readers
        for match in _RUNS.finditer(heads):
            first, end = match.span()
            unit = match[1]
            (readers.get(unit) or self._run_reader(unit))(words, first, (end - first) // len(unit))

    def _run_reader(self, heads: bytes) -> RunReader:
        """What to do with walks and invalidations: the same for all whose records have these first bytes."""
        made: RunReader
        if found := _COPIED.fullmatch(heads) or _CLEARED.fullmatch(heads):
            fault, *parts = found.groups(b"")
            copied = found.re is _COPIED
            made = self._copied(len(fault), parts) if copied else self._cleared(len(fault), parts)
        else:
            made = one_by_one(self._reader(heads), len(heads))
        self._readers[heads] = made
        return made

    def _reader(self, heads: bytes) -> Reader:
        """Of one walk or invalidation."""
        kind, shadow = heads[-1] & 15, self.shadows[heads[-1] >> 4]
        return self._fills(shadow, heads) if kind == FILL else partial(self._invalidation, shadow, kind)

    def _copied(self, fault: int, parts: Sequence[bytes]) -> RunReader:
        """Most often the first walk's translation has gone, and the second one's is known."""
        shadow, readers = self.shadows[parts[0][0] >> 4], [self._reader(part) for part in parts if part]
        zero, one, two, three = (fault + sum(map(len, parts[:count])) for count in range(4))
        whole = len({head >> 4 for part in parts[:3] for head in part}) == 1
        if whole and {head >> 4 for head in parts[3]} == {shadow.number} and not marks(parts[3]):
            return CopiedAndUsed(shadow, fault, parts, self._one_after_another(readers, (zero, one, two, three)))
        made = copied_by_one(shadow, parts) if whole else _never
        again = readers[3] if len(readers) == 4 else _never

        def read(words: memoryview, first: int) -> None:
            if not made(words, first + zero):
                readers[0](words, first + zero)
                readers[1](words, first + one)
                readers[2](words, first + two)
            again(words, first + three)

        return one_by_one(read, three + len(parts[3]))

    def _cleared(self, fault: int, parts: Sequence[bytes]) -> RunReader:
        apart = self._one_after_another([self._reader(part) for part in parts], (fault, fault + len(parts[0])))
        if len({head >> 4 for part in parts for head in part}) > 1:
            return one_by_one(apart, fault + sum(map(len, parts)))
        return ClearedAndUsed(self.shadows[parts[0][0] >> 4], fault, parts, apart)

    @staticmethod
    def _one_after_another(readers: Sequence[Reader], places: Sequence[int]) -> Reader:
        def read(words: memoryview, first: int) -> None:
            for reader, place in zip(readers, places, strict=True):
                reader(words, first + place)

        return read

    def _fills(self, shadow: ShadowTlb, heads: bytes) -> Reader:
        """Walks that ended in a translation; none where paging is off."""
        shape = Shape([head & 15 for head in heads])
        unpack, path_of, fill = shape.unpack, shape.path, shadow.fill
        if len(heads) == 2:
            return _never

        def read(words: memoryview, first: int) -> None:
            found = unpack(words, first * RECORD_BYTES)
            path = path_of(found) if path_of else found[2:-4]
            shadow.cr3, shadow.cr4 = found[0], found[1]
            linear = found[-3] & U32
            registers = shadow.pdptes
            if registers and path[1] != registers[linear >> 30] and self.on_pdpte is not None:
                self.on_pdpte(shadow, linear, path[0], path[1])
            fill(linear, found[-2], found[-4], path, found[-1])

        return read

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

    def _invalidation(self, shadow: ShadowTlb, kind: int, words: memoryview, first: int) -> None:
        one, two = words[RECORD_WORDS * first + 1], words[RECORD_WORDS * first + 2]
        if kind == PAGE:
            shadow.invlpg(one & U32)
        elif kind == PDPTE:
            if self._loading:
                shadow.pdptes = (*shadow.pdptes, two)[-4:]
        elif kind == CR3:
            shadow.load_cr3(one & U32)
            self._loading, shadow.pdptes = True, ()
        else:
            changed = shadow.load_cr4 if kind == CR4 else shadow.load_cr0
            self._loading = changed(one & U32, two & U32)
            if self._loading:
                shadow.pdptes = ()

    def _tell_walks(self, batch: Batch) -> None:
        assert self.on_walk is not None
        for match in _WALKS.finditer(batch.heads):
            self.on_walk(_walk_seen(batch, match.start(), match.end()))


def _never(words: memoryview, first: int) -> bool:
    return False


def _walk_seen(batch: Batch, first: int, end: int) -> WalkSeen:
    inner = range(first + 1, end)
    entries = tuple((batch.word(at, 1), batch.word(at, 2)) for at in inner if batch.heads[at] & 15 == ENTRY)
    marks = tuple((batch.word(at, 1), batch.word(at, 2) & U32) for at in inner if batch.heads[at] & 15 == MARK)
    more = batch.more(first)
    last = batch.heads[end - 1] & 15
    return WalkSeen(
        batch.heads[first] >> 4,
        batch.word(first, 1) & U32,
        more & 0xFF,
        more >> 8 == 1,
        entries,
        marks,
        batch.word(end - 1, 2) if last in (FILL, STALE) else None,
        batch.more(end - 1) if last == FILL else 0,
    )
