"""What the records that nobody has read yet say of one entry or one page: a look at a few of them.

The feed's host code chains them: a record of an entry that was read, and one of INVLPG, has in its word 3 the number
of the record before it in the same slot, and a table has each slot's last.  Records are numbered from 1 on, over all
rings, so that no slot is ever cleared: a number up to that of the last record that was read is the end of a chain.
"""

from __future__ import annotations

import ctypes

from sandbox.engine.tlbcode import Data

ENTRY, MARK, FILL, PAGE = 2, 3, 4, 8
"""Kinds of records, as in ``sandbox.engine.tlbfeed``."""
RECORD_WORDS = 8
SLOTS = 1 << 16
"""An entry's slot is its physical address in words of 4 bytes, INVLPG's the page's number, the low bits of either."""
_PAGE_SIZE = 4096
_HEAD = Data.head.offset // 8
_NUMBER = Data.number.offset // 8


class Unread:
    """``words`` are the ring's; records in it count from 0."""

    def __init__(self, data: Data, words: memoryview) -> None:
        self._words = words
        self._data = memoryview(data).cast("B").cast("Q")
        self._table = (ctypes.c_uint64 * SLOTS)()
        self._chains = memoryview(self._table).cast("B").cast("Q")

    @property
    def table(self) -> int:
        """The host's address of the slots."""
        return ctypes.addressof(self._table)

    def forgotten(self, place: int) -> bool:
        """No CPU has, by a walk of these records, a translation whose leaf is the entry at a physical address.

        Each walk through it ended in none, or in a 4 KB page that its CPU has executed INVLPG of since.  False also
        where a peek does not tell: for a large page, or an entry above the leaf.
        """
        words, before = self._words, self._data[_NUMBER]
        at = self._chains[place >> 2 & SLOTS - 1] - before
        while at > 0:
            first = (at - 1) * RECORD_WORDS
            if words[first + 1] == place and words[first] & 15 == ENTRY and self._lives(at):
                return False
            at = words[first + 3] - before
        return True

    def _lives(self, record: int) -> bool:
        """The walk whose entry was read just before a record led to a translation that is not surely gone."""
        words, head = self._words, self._data[_HEAD]
        while record < head:
            first = words[record * RECORD_WORDS]
            kind = first & 15
            if kind == FILL:
                linear = words[record * RECORD_WORDS + 1] & 0xFFFFFFFF
                return first >> 32 != _PAGE_SIZE or not self.invalidated(first >> 4 & 15, linear, record)
            if kind != MARK:
                return kind == ENTRY
            record += 1
        return False

    def invalidated(self, cpu: int, linear: int, after: int = -1) -> bool:
        """The CPU has executed INVLPG of the page, behind a record."""
        words, before = self._words, self._data[_NUMBER]
        page, head = linear >> 12, PAGE | cpu << 4
        at = self._chains[page & SLOTS - 1] - before
        while at > after + 1:
            first = (at - 1) * RECORD_WORDS
            if words[first] & 0xFFFFFFFF == head and (words[first + 1] & 0xFFFFFFFF) >> 12 == page:
                return True
            at = words[first + 3] - before
        return False
