"""What every instruction has: a length, and perhaps legacy prefixes (SDM 2A, 2.1.1 and 2.3.11)."""

from __future__ import annotations

LONGEST_INSTRUCTION = 15
"""Bytes; a longer one raises #GP."""

SEGMENT_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65"
OPERAND_SIZE, ADDRESS_SIZE = b"\x66", b"\x67"
LOCK, REPNE, REP = b"\xf0", b"\xf2", b"\xf3"
LEGACY_PREFIXES = SEGMENT_PREFIXES + OPERAND_SIZE + ADDRESS_SIZE + LOCK + REPNE + REP

_RDTSC, _RDTSCP = b"\x0f\x31", b"\x0f\x01\xf9"


def reads_time_stamp(code: bytes) -> tuple[int, bool] | None:
    """For RDTSC or RDTSCP at the start of ``code``: its length, and whether it also reads TSC_AUX.

    The length is 0 with LOCK, which makes it #UD; other prefixes mean nothing to either, as tried on an AMD host.
    """
    opcode = code.lstrip(LEGACY_PREFIXES)
    prefixes = code[: len(code) - len(opcode)]
    for known in (_RDTSC, _RDTSCP):
        if opcode.startswith(known):
            return 0 if LOCK in prefixes else len(prefixes) + len(known), known == _RDTSCP
    return None


_STRINGS = frozenset((*range(0x6C, 0x70), *range(0xA4, 0xA8), *range(0xAA, 0xB0)))
_STI, _POP_SS, _MOV_TO_SEGMENT, _SS = 0xFB, 0x17, 0x8E, 2


def repeats(code: bytes) -> bool:
    """Whether ``code`` begins with a string instruction under REP, REPE or REPNE (SDM 2B, REP)."""
    opcode = code.lstrip(LEGACY_PREFIXES)
    prefixes = code[: len(code) - len(opcode)]
    return bool(opcode) and opcode[0] in _STRINGS and (REP in prefixes or REPNE in prefixes)


def casts_shadow(code: bytes) -> bool:
    """Whether ``code`` begins with STI, POP SS or MOV SS: interrupts wait until the next one's end (SDM 3A, 6.8)."""
    opcode = code.lstrip(LEGACY_PREFIXES)
    if len(opcode) > 1 and opcode[0] == _MOV_TO_SEGMENT:
        return opcode[1] >> 3 & 7 == _SS
    return bool(opcode) and opcode[0] in (_STI, _POP_SS)


_NEAR = frozenset((*range(0x70, 0x80), *range(0xE0, 0xE4), 0xE8, 0xE9, 0xEB, 0xC2, 0xC3))
_FAR = frozenset((0x9A, 0xEA, 0xCA, 0xCB, 0xCF))


def transfers(code: bytes) -> bool:
    """Whether ``code`` begins with a jump, call, return or loop, near or far: it may lead to itself."""
    opcode = code.lstrip(LEGACY_PREFIXES)
    if len(opcode) < 2 or opcode[0] in _NEAR or opcode[0] in _FAR:
        return True
    return (opcode[0] == 0x0F and opcode[1] & 0xF0 == 0x80) or (opcode[0] == 0xFF and 2 <= opcode[1] >> 3 & 7 <= 5)
