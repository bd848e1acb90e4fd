"""The TSS's layout and its IO bitmap."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from sandbox.x86 import tss
from sandbox.x86.tss import io_allowed, stack_slot

from .manual import TSS32


def test_layout() -> None:
    """SDM 3A, figure 7-2 (offsets in decimal)."""
    assert (tss.CR3, tss.EIP, tss.EFLAGS, tss.EAX, tss.EDI, tss.ES, tss.GS, tss.LDT) == (
        28, 32, 36, 40, 68, 72, 92, 96,
    )  # fmt: skip
    assert tss.IO_MAP_BASE == 102


NAMES = (
    "LINK ESP0 SS0 ESP1 SS1 ESP2 SS2 CR3 EIP EFLAGS EAX ECX EDX EBX ESP EBP ESI EDI ES CS SS DS FS GS LDT IO_MAP_BASE"
).split()


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_where_the_figure_has_it(name: str) -> None:
    memory = bytearray(tss.TSS32_BYTES)
    memory[getattr(tss, name)] = 1
    found = TSS32.parse(memory)
    assert [field for field, value in found.items() if value == 1] == [name.lower()]


def test_the_figure() -> None:
    """104 bytes, fields from the lowest offset up; the map's base is their last word."""
    assert TSS32.sizeof() == tss.TSS32_BYTES == 104
    offsets = [getattr(tss, name) for name in NAMES]
    assert all(lower < upper for lower, upper in pairwise(offsets)) and offsets[-1] == 102


def test_stack_slots() -> None:
    assert stack_slot(0, True) == (4, 8, 4)
    assert stack_slot(2, True) == (20, 24, 4)
    assert stack_slot(0, False) == (2, 4, 2)
    assert stack_slot(1, False) == (6, 8, 2)


def bitmap(*denied: int, limit: int, base: int = 104) -> tuple[bytearray, int]:
    memory = bytearray(0x2100)
    struct.pack_into("<H", memory, tss.IO_MAP_BASE, base)
    for port in denied:
        memory[base + (port >> 3)] |= 1 << (port & 7)
    return memory, limit


def allowed(memory: bytearray, limit: int, port: int, size: int, wide: bool = True) -> bool:
    def read(offset: int, width: int) -> int:
        assert offset + width - 1 <= limit
        return int.from_bytes(memory[offset : offset + width], "little")

    return io_allowed(read, limit, wide, port, size)


def test_every_bit_of_the_access_must_be_clear() -> None:
    memory, limit = bitmap(0x3F9, limit=104 + 8192)
    assert allowed(memory, limit, 0x3F8, 1)
    assert not allowed(memory, limit, 0x3F9, 1)
    assert not allowed(memory, limit, 0x3F8, 2)
    assert not allowed(memory, limit, 0x3F6, 4)
    assert allowed(memory, limit, 0x3FA, 4)
    assert allowed(memory, limit, 0xFFFF, 1)


def test_an_access_may_cross_a_byte_of_the_map() -> None:
    memory, limit = bitmap(0x400, limit=104 + 8192)
    assert not allowed(memory, limit, 0x3FF, 2)
    assert allowed(memory, limit, 0x3FE, 2)


def test_the_byte_behind_must_be_inside_too() -> None:
    memory, _ = bitmap(limit=0)
    assert allowed(memory, 104 + 1, 0, 1)
    assert not allowed(memory, 104, 0, 1)
    assert not allowed(memory, 104 + 1, 8, 1)


def test_no_map_and_a_16_bit_tss_deny_everything() -> None:
    memory, _ = bitmap(limit=103, base=104)
    assert not allowed(memory, 103, 0, 1)
    assert not allowed(memory, 8192, 0, 1, wide=False)
