"""Linux's signal numbers on i386 and gdb's own (include/gdb/signals.def), which the protocol speaks."""

from __future__ import annotations

_DIFFERENT = {
    7: 10, 10: 30, 12: 31, 17: 20, 18: 19, 19: 17, 20: 18, 23: 16, 29: 23, 30: 32, 31: 12, 32: 77, 64: 78,
    **{number: number + 12 for number in range(33, 64)},
}  # fmt: skip
_UNKNOWN = 143
_OF_LINUX = {number: _DIFFERENT.get(number, number) for number in range(65) if number != 16}
_OF_GDB = {theirs: number for number, theirs in _OF_LINUX.items()}
SIGINT, SIGTRAP = 2, 5


def to_gdb(number: int) -> int:
    """gdb's number of Linux's."""
    return _OF_LINUX.get(number, _UNKNOWN)


def to_linux(number: int) -> int:
    """Linux's number of gdb's.  Raises ValueError where there is none."""
    if number not in _OF_GDB:
        raise ValueError(f"no signal {number}")
    return _OF_GDB[number]
