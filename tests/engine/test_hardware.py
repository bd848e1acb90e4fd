"""Instructions from known registers, on this host's CPU and here: registers, flags, memory, or how they fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.engine import stubs
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from tests.hosttools import compiled, native_lines

FOLDER = Path(__file__).parent / "native" / "hardware"
PROGRAMS = sorted(each.stem for each in FOLDER.glob("*.c"))
LINK = ("gcc", "-m32", "-static", "-O1", "-w", "-fno-stack-protector", "-fno-pie", "-no-pie")
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the host code is for x86-64 Linux")


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_this_hosts_cpu(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    compiled(*LINK, "-o", program, FOLDER / f"{name}.c")
    native = native_lines(program)
    found = run_program(f"/tmp/{name}", program.read_bytes(), (), KernelConfig(time_limit=0))
    assert (found.error, found.status) == ("", 0), found.detail
    lines = found.stdout.decode().splitlines()
    assert len(lines) == len(native)
    assert [pair for pair in zip(native, lines, strict=True) if pair[0] != pair[1]] == []
