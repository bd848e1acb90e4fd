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
