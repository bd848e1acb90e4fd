"""Numbers known by heart from asm/unistd_32.h, and the whole header where the host has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox.kernel.abi.numbers import NAMES, NUMBERS, name_of

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_32.h")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("exit", 1),
        ("write", 4),
        ("execve", 11),
        ("brk", 45),
        ("mmap", 90),
        ("clone", 120),
        ("mprotect", 125),
        ("rt_sigaction", 174),
        ("mmap2", 192),
        ("set_thread_area", 243),
        ("exit_group", 252),
        ("openat", 295),
        ("statx", 383),
        ("rseq", 386),
        ("clock_gettime64", 403),
        ("clone3", 435),
        ("set_mempolicy_home_node", 450),
    ],
)
def test_known(name: str, number: int) -> None:
    assert NUMBERS[name] == number
    assert name_of(number) == name


def test_gaps_and_ends() -> None:
    assert len(NAMES) == 451
    assert name_of(222) == "syscall_222"
    assert name_of(451) == "syscall_451"
    assert name_of(-1) == "syscall_-1"
    assert "-" not in NUMBERS


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers on this host")
def test_header() -> None:
    header = re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())
    wanted = {name: int(number) for name, number in header if int(number) <= 450}
    assert {name: NUMBERS.get(name) for name in wanted} == wanted
