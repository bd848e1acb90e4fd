"""The task-state segment (SDM 3A, 7.2.1 and 7.6): where stacks for inner rings and the IO bitmap are."""

from __future__ import annotations

from collections.abc import Callable

TSS32_BYTES, TSS16_BYTES = 104, 44
LINK, ESP0, SS0, ESP1, SS1, ESP2, SS2, CR3 = 0, 4, 8, 12, 16, 20, 24, 28
EIP, EFLAGS = 32, 36
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(40, 72, 4)
ES, CS, SS, DS, FS, GS, LDT = range(72, 100, 4)
DEBUG_TRAP, IO_MAP_BASE = 100, 102
"""Offsets of the 32-bit TSS's fields in bytes."""


def stack_slot(ring: int, wide: bool) -> tuple[int, int, int]:
    """Offsets of the stack pointer and SS for an inner ring (0 to 2), and the pointer's size in bytes."""
    return (ESP0 + 8 * ring, SS0 + 8 * ring, 4) if wide else (2 + 4 * ring, 4 + 4 * ring, 2)


def io_allowed(read: Callable[[int, int], int], limit: int, wide: bool, port: int, size: int) -> bool:
    """The IO permission bitmap lets a less privileged program at ``size`` ports (SDM 1, 19.5.2).

    ``read(offset, size)`` reads the TSS, whose last byte is at ``limit``.  Every bit must be clear; the
    processor reads two bytes at a time, so the byte behind the bit must be inside the segment too.
    """
    if not wide or limit < TSS32_BYTES - 1:
        return False
    at = read(IO_MAP_BASE, 2) + (port >> 3)
    if at + 1 > limit:
        return False
    return not read(at, 2) >> (port & 7) & (1 << size) - 1
