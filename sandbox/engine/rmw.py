"""Which instructions load from a memory operand in order to store to it.

Hardware asks for such an operand with the intent to write, so that a fault on it is a write fault (error code W,
SDM 3A, 4.7) and one fault maps a page that two would map otherwise; seen on an AMD host for every form below.  The
engine loads first, and reports a read.
"""

from __future__ import annotations

from sandbox.x86.instruction import LEGACY_PREFIXES

_CMP = 7

_ALL = 0xFF
_GROUPS = {
    0x80: _ALL & ~(1 << _CMP),
    0x81: _ALL & ~(1 << _CMP),
    0x82: _ALL & ~(1 << _CMP),
    0x83: _ALL & ~(1 << _CMP),
    0x86: _ALL,
    0x87: _ALL,
    0xC0: _ALL,
    0xC1: _ALL,
    0xD0: _ALL,
    0xD1: _ALL,
    0xD2: _ALL,
    0xD3: _ALL,
    0xF6: 0b1100,
    0xF7: 0b1100,
    0xFE: 0b11,
    0xFF: 0b11,
    **{8 * operation + wide: _ALL for operation in range(_CMP) for wide in (0, 1)},
}
"""Opcode: a bit for each value of ModRM.reg that is read, modified and written (SDM 2D, tables A-2 and A-6)."""
_GROUPS_0F = {
    0xA4: _ALL,
    0xA5: _ALL,
    0xAB: _ALL,
    0xAC: _ALL,
    0xAD: _ALL,
    0xB0: _ALL,
    0xB1: _ALL,
    0xB3: _ALL,
    0xBA: 0b11100000,
    0xBB: _ALL,
    0xC0: _ALL,
    0xC1: _ALL,
    0xC7: 0b10,
}


def writes_what_it_reads(code: bytes) -> bool:
    """Whether the instruction at the start of ``code`` (16- or 32-bit) reads, modifies and writes a memory operand.

    False for what only reads or only writes, for register forms, and when ``code`` ends too early to tell.
    """
    at = 0
    while at < len(code) and code[at] in LEGACY_PREFIXES:
        at += 1
    groups = _GROUPS
    if code[at : at + 1] == b"\x0f":
        groups = _GROUPS_0F
        at += 1
    if at + 1 >= len(code):
        return False
    modrm = code[at + 1]
    return modrm < 0xC0 and bool(groups.get(code[at], 0) >> (modrm >> 3 & 7) & 1)
