"""Marks on what the engine's TLB holds already, so that arming a watch drops no translation.

A translation that the guest forgot to drop must go on being used, or the bug that somebody is looking for would
vanish with the first watch.  The layout is that of 2.1.4 (``CPUTLBDescFast``, ``CPUTLBEntry``, ``vtable``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

from sandbox.engine.handle import Handle

_INDEXES = range(3)
_MASK, _TABLE = -0x40, -0x38
"""Of CPUX86State; 16 bytes for each MMU index."""
_VICTIMS, _VICTIM_STRIDE, _VICTIM_COUNT = -0x840, 0x2B8, 8
_ENTRY_BYTES, _ENTRY_WORDS = 64, 8
_WATCHED = 0x100
_PAGE = -0x1000 & 2**64 - 1
_NONE = 2**64 - 1

Wanted = Callable[[int, int], int]
"""``wanted(linear page, physical page)``: 1 for loads | 2 for stores."""


def mark(handle: Handle, wanted: Wanted) -> None:
    """Set and clear the watch bits of all that a CPU's TLB holds, its victims too."""
    for words, count in _tables(handle.pad.env):
        reads, writes, frames = (words[at::_ENTRY_WORDS].tolist() for at in (0, 1, 3))
        used = [number for number in range(count) if reads[number] != _NONE or writes[number] != _NONE]
        for number in used:
            read, write = reads[number], writes[number]
            page = (write if read == _NONE else read) & _PAGE
            how = wanted(page, frames[number] & _PAGE)
            for place, word, bit in ((0, read, 1), (1, write, 2)):
                flagged = word | _WATCHED if how & bit else word & ~_WATCHED
                if word != _NONE and flagged != word:
                    words[number * _ENTRY_WORDS + place] = flagged


def _tables(env: int) -> Iterator[tuple[memoryview, int]]:
    """Each table's words, and how many entries it has."""
    for index in _INDEXES:
        mask, table = (ctypes.c_uint64.from_address(env + at + 16 * index).value for at in (_MASK, _TABLE))
        count = (mask // _ENTRY_BYTES) + 1
        for at, entries in ((table, count), (env + _VICTIMS + _VICTIM_STRIDE * index, _VICTIM_COUNT)):
            words = (ctypes.c_uint64 * (entries * _ENTRY_WORDS)).from_address(at)
            yield memoryview(words).cast("B").cast("Q"), entries
