"""Figures of the SDM, volume 3A, declared: what the tests take for the truth about tables in memory.

Bits are written as the figures show them, from 63 down to 0; ``ByteSwapped`` makes that a little-endian quadword.
"""

from __future__ import annotations

from construct import (
    Bit,
    BitsInteger,
    BitStruct,
    ByteSwapped,
    Int16ul,
    Int32ul,
    Padding,
    Struct,
)

SEGMENT_DESCRIPTOR = ByteSwapped(
    BitStruct(
        "base_31_24" / BitsInteger(8),
        "g" / Bit,
        "db" / Bit,
        "l" / Bit,
        "avl" / Bit,
        "limit_19_16" / BitsInteger(4),
        "p" / Bit,
        "dpl" / BitsInteger(2),
        "s" / Bit,
        "type" / BitsInteger(4),
        "base_23_0" / BitsInteger(24),
        "limit_15_0" / BitsInteger(16),
    )
)
"""Figure 3-8.  Base 23:16 and base 15:0 adjoin in the quadword."""

GATE = ByteSwapped(
    BitStruct(
        "offset_31_16" / BitsInteger(16),
        "p" / Bit,
        "dpl" / BitsInteger(2),
        "s" / Bit,
        "type" / BitsInteger(4),
        Padding(3),
        "parameters" / BitsInteger(5),
        "selector" / BitsInteger(16),
        "offset_15_0" / BitsInteger(16),
    )
)
"""Figures 5-8 (call gate) and 6-2 (IDT gates, whose low five bits are reserved)."""


def _selector(name: str) -> Struct:
    """A selector in the low half of a doubleword whose high half is reserved."""
    return name / Int16ul, Padding(2)


TSS32 = Struct(
    *_selector("link"),
    "esp0" / Int32ul,
    *_selector("ss0"),
    "esp1" / Int32ul,
    *_selector("ss1"),
    "esp2" / Int32ul,
    *_selector("ss2"),
    *(name / Int32ul for name in ("cr3", "eip", "eflags")),
    *(name / Int32ul for name in ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")),
    *(part for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt") for part in _selector(name)),
    "t" / Int16ul,
    "io_map_base" / Int16ul,
)
"""Figure 7-2."""
