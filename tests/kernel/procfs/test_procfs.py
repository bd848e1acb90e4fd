"""/proc: the formats of proc(5), and the kernel's own state in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import Session, run_program
from tests.conftest import MakeSession, Program

CAT = Path(__file__).resolve().parents[3] / "images" / "cat" / "cat.elf"
Read = Callable[..., str]


@pytest.fixture
def read() -> Read:
    """``read(path, ...)``: what a program in C that reads files sees there."""

    def go(*paths: str, **config: object) -> str:
        config.setdefault("time_limit", 20.0)
        result = run_program("cat", CAT.read_bytes(), paths, KernelConfig(**config))  # type: ignore[arg-type]
        assert result.passed, result.stderr
        return result.stdout.decode()

    return go


def test_maps_are_the_areas(read: Read) -> None:
    lines = read("/proc/self/maps").splitlines()
    pattern = r"([0-9a-f]{8})-([0-9a-f]{8}) [r-][w-][x-][ps] [0-9a-f]{8} [0-9a-f]{2}:[0-9a-f]{2} \d+ +(\S*)"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert all(found), lines
    areas = [(int(each[1], 16), int(each[2], 16), each[3]) for each in found if each]
    assert areas == sorted(areas)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(areas))
    assert areas[-1][1:] == (0xC0000000, "[stack]")
    assert all(line.index(each[3]) == 49 for line, each in zip(lines, found, strict=True) if each and each[3])


def test_stat_has_the_fields_of_the_manual(read: Read) -> None:
    text = read("/proc/self/stat")
    fields = text.split()
    assert len(fields) == 52
    assert fields[:5] == ["3", "(cat)", "R", "2", "2"]
    assert int(fields[22]) == 4096 * int(read("/proc/self/statm").split()[0])


def test_status_agrees_with_itself(read: Read) -> None:
    status = dict(line.split(":\t", 1) for line in read("/proc/3/status").splitlines())
    assert status["Name"] == "cat"
    assert status["State"] == "R (running)"
    assert status["Pid"] == status["Tgid"] == "3"
    assert int(status["VmRSS"].split()[0]) <= int(status["VmSize"].split()[0])
    assert status["Umask"] == "0022"


@pytest.mark.parametrize("ram", [16 << 20, 64 << 20])
def test_meminfo_counts_frames(read: Read, ram: int) -> None:
    rows = dict(
        re.fullmatch(r"(\w+): +(\d+) kB", line).groups() for line in read("/proc/meminfo", ram=ram).splitlines()
    )  # type: ignore[union-attr,misc]
    values = {name: int(value) for name, value in rows.items()}
    assert ram // 1024 * 3 // 4 < values["MemTotal"] < ram // 1024
    assert values["MemFree"] < values["MemTotal"]
    assert values["LowTotal"] + values["HighTotal"] == values["MemTotal"]


def test_machine(read: Read) -> None:
    assert read("/proc/cpuinfo", cpus=3).count("processor\t: ") == 3
    assert read("/proc/sys/kernel/ostype") == "Linux\n"
    assert read("/proc/cmdline", boot="mem=32m") == "mem=32m\n"
    assert re.fullmatch(r"\d+\.\d\d \d+\.\d\d\n", read("/proc/uptime"))
    assert "proc /proc proc rw" in read("/proc/mounts")
    assert read("/proc/self/cmdline", "/etc/x", files={"/etc/x": b"end"}) == "/bin/cat\0/proc/self/cmdline\0/etc/x\0end"
    assert read("/proc/self/environ", environment=("A=1", "B=2")) == "A=1\0B=2\0"
    assert read("/proc/self/comm") == "cat\n"


SEEN = """
_start: fork_to child
        mov     eax, 85
        mov     ebx, offset exe
        mov     ecx, offset room
        mov     edx, 64
        int     0x80
        sys     write, 1, "offset room", eax
        sys     open, "offset gone", 0
        expect  eax, -2, 1
        sys     open, "offset itself", 0
        expect  eax, 3, 2
        sys     read, 3, "offset room", 4
        expect  eax, 4, 3
        expect_at room, 0x464C457F, 4
        sys     open, "offset version", 1
        expect  eax, -13, 5
        sys     open, "offset version", 0
        sys     mmap2, 0, 4096, 1, 2, 4, 0
        expect  eax, -5, 6
        sys     waitpid, -1, 0, 0
        pass
child:  sys     exit, 0
        .section .rodata
exe:    .asciz  "/proc/self/exe"
itself: .asciz  "/proc/self/exe"
gone:   .asciz  "/proc/77/maps"
version: .asciz "/proc/version"
        .bss
room:   .skip   64
"""


def test_links_lead_to_the_thing(session: MakeSession, program: Program) -> None:
    with Session("/bin/t", program(SEEN), (), KernelConfig(time_limit=20.0)) as running:
        result = running.finish()
    assert result.passed, (result.status, result.deaths)
    assert result.stdout == b"/bin/t"
