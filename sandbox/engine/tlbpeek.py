"""What the records that nobody has read yet say of one entry or one page: a look at a few of them.

The feed's host code chains them: a record of an entry that was read, and one of INVLPG, has in its word 3 the number
of the record before it in the same slot, and a table has each slot's last.  Records are numbered from 1 on, over all
rings, so that no slot is ever cleared: a number up to that of the last record that was read is the end of a chain.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

from sandbox.engine.tlbcode import Data

ENTRY, MARK, FILL, PAGE = 2, 3, 4, 8
"""Kinds of records, as in ``sandbox.engine.tlbfeed``."""
RECORD_WORDS = 8
SLOTS = 1 << 16
"""An entry's slot is its physical address in words of 4 bytes, INVLPG's the page's number, the low bits of either."""
_SLOT = SLOTS - 1
_PAGE_OF = 0xFFFFF000
_GOES_ON = (MARK, FILL)
_MARKED = 0x60
"""Accessed and dirty: no walk has anything to set."""
LONGEST = 16
"""Records of a chain that are looked at: with more, reading the feed is less work."""
_PAGE_SIZE = 4096
_RECORD = 8 * RECORD_WORDS
_HEAD = Data.head.offset // 8
_NUMBER = Data.number.offset // 8


class Unread:
    """``words`` are the ring's; records in it count from 0."""

    def __init__(self, data: Data, words: memoryview) -> None:
        self._words = words
        self._data = memoryview(data).cast("B").cast("Q")
        self._table = (ctypes.c_uint64 * SLOTS)()
        self._chains = memoryview(self._table).cast("B").cast("Q")
        self.flushed = self._flush_look()
        """``flushed(place, CPU, linear, now)``: the newest INVLPG of these records is of the page, and no walk behind
        it read its leaf but as it is ``now``.  False also where two records do not tell, those of other pages and
        entries in the same slots."""

    @property
    def table(self) -> int:
        """The host's address of the slots."""
        return ctypes.addressof(self._table)

    def forgotten(self, place: int, now: int = 0) -> bool:
        """No CPU has, by a walk of these records, an old translation whose leaf is the entry at a physical address.

        Each walk through it ended in none, or in a 4 KB page that its CPU has executed INVLPG of since, or it read what
        is there ``now``, accessed and dirty bits set.  False also where a peek does not tell: for a large page, or an
        entry above the leaf.
        """
        words, data = self._words, self._data
        before, end = data[_NUMBER], data[_HEAD] << 3
        at = self._chains[place >> 2 & _SLOT] - before
        for _ in range(LONGEST):
            if at <= 0:
                return True
            behind = at << 3
            first = behind - 8
            if words[first + 1] == place and words[first] & 15 == ENTRY and behind < end:
                kind = words[behind] & 15
                if kind == FILL and words[first + 2] == now and now & _MARKED == _MARKED:
                    pass
                elif kind == ENTRY or (kind in _GOES_ON and self._lives(at, end)):
                    return False
            at = words[first + 3] - before
        return False

    def _flush_look(self) -> Callable[[int, int, int, int], bool]:
        """It is asked behind every copy, and has all at hand."""
        words, data, chains = self._words, self._data, self._chains
        two, four = struct.Struct("<I4xQ").unpack_from, struct.Struct("<IxxxxQQ40xI").unpack_from

        def flushed(place: int, cpu: int, linear: int, now: int) -> bool:
            before, number = data[_NUMBER], chains[linear >> 12 & _SLOT]
            if number <= before:
                return False
            head, page = two(words, (number - before << 6) - _RECORD)
            if head != PAGE | cpu << 4 or (page ^ linear) & _PAGE_OF:
                return False
            read = chains[place >> 2 & _SLOT]
            if read < number or read - before >= data[_HEAD]:
                return read < number
            kind, at, value, then = four(words, (read - before << 6) - _RECORD)
            return (
                at == place and value == now and now & _MARKED == _MARKED and kind & 15 == ENTRY and then & 15 == FILL
            )

        return flushed

    def _lives(self, record: int, end: int) -> bool:
        """The walk whose entry was read just before a record led to a translation that is not surely gone."""
        words, at = self._words, record * RECORD_WORDS
        while at < end and words[at] & 15 == MARK:
            at += RECORD_WORDS
        if at == end:
            return False
        first = words[at]
        if first & 15 != FILL:
            return first & 15 == ENTRY
        cpu, linear, last = first >> 4 & 15, words[at + 1], end - RECORD_WORDS
        if first >> 32 != _PAGE_SIZE:
            return True
        if words[last] == PAGE | cpu << 4 and not (words[last + 1] ^ linear) & _PAGE_OF:
            return False
        return not self.invalidated(cpu, linear & 0xFFFFFFFF, record)

    def invalidated(self, cpu: int, linear: int, after: int = -1) -> bool:
        """The CPU has executed INVLPG of the page, behind a record."""
        words, before = self._words, self._data[_NUMBER]
        page, head = linear >> 12, PAGE | cpu << 4
        at = self._chains[page & _SLOT] - before
        while at > after + 1:
            first = (at - 1) * RECORD_WORDS
            if words[first] & 0xFFFFFFFF == head and (words[first + 1] & 0xFFFFFFFF) >> 12 == page:
                return True
            at = words[first + 3] - before
        return False
