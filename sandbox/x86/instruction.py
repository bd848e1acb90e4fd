"""What every instruction has: a length, and perhaps legacy prefixes (SDM 2A, 2.1.1 and 2.3.11)."""

from __future__ import annotations

LONGEST_INSTRUCTION = 15
"""Bytes; a longer one raises #GP."""

SEGMENT_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65"
OPERAND_SIZE, ADDRESS_SIZE = b"\x66", b"\x67"
LOCK, REPNE, REP = b"\xf0", b"\xf2", b"\xf3"
LEGACY_PREFIXES = SEGMENT_PREFIXES + OPERAND_SIZE + ADDRESS_SIZE + LOCK + REPNE + REP
