"""The host's own modules are the oracle: these constants are the same on i386 and x86-64."""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import select
import stat
import termios
from types import ModuleType

import pytest

from sandbox.kernel.abi import flags

PREFIXES = (
    "O_",
    "AT_",
    "PROT_",
    "MAP_",
    "MADV_",
    "W",
    "RLIMIT_",
    "POLL",
    "S_I",
    "F_",
    "CLONE_",
    "SEEK_",
    "P_",
    "T",
)
I386_ONLY = ("O_LARGEFILE", "F_GETLK64", "F_SETLK64", "F_SETLKW64")


@pytest.mark.parametrize("module", [os, mmap, resource, select, stat, fcntl, termios])
def test_same_as_the_host(module: ModuleType) -> None:
    ours = {name: value for name, value in vars(flags).items() if name.startswith(PREFIXES)}
    shared = {name: value for name, value in ours.items() if isinstance(getattr(module, name, None), int)}
    for name in I386_ONLY:
        shared.pop(name, None)
    assert shared == {name: getattr(module, name) for name in shared}
    assert len(shared) >= 4


def test_i386_only() -> None:
    assert flags.O_LARGEFILE == 0o100000
    assert flags.RLIM_INFINITY == 0xFFFFFFFF
    assert (flags.F_GETLK64, flags.F_SETLK64, flags.F_SETLKW64) == (12, 13, 14)


@pytest.mark.parametrize("kind", ["FIFO", "CHR", "DIR", "BLK", "REG", "LNK", "SOCK"])
def test_directory_entry_types_are_mode_bits(kind: str) -> None:
    assert getattr(flags, f"DT_{kind}") == getattr(stat, {"FIFO": "S_IFIFO"}.get(kind, f"S_IF{kind}")) >> 12


def test_bits_of() -> None:
    assert flags.bits_of(0x22, "MAP_") == "MAP_PRIVATE|MAP_ANONYMOUS"
    assert flags.bits_of(0, "MAP_") == "0x0"
    assert flags.bits_of(0x80000001, "PROT_") == "PROT_READ|0x80000000"
