"""Instructions from known registers, on this host's CPU and here: registers, flags, memory, or how they fault."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox.engine import stubs
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program

FOLDER = Path(__file__).parent / "native" / "hardware"
PROGRAMS = sorted(each.stem for each in FOLDER.glob("*.c"))
LINK = ("gcc", "-m32", "-static", "-O1", "-w", "-fno-stack-protector", "-fno-pie", "-no-pie")
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the host code is for x86-64 Linux")


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_this_hosts_cpu(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    try:
        subprocess.run([*LINK, "-o", program, FOLDER / f"{name}.c"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("gcc -m32 -static is not there")
    native = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    found = run_program(f"/tmp/{name}", program.read_bytes(), (), KernelConfig(time_limit=0))
    assert (found.error, found.status) == ("", 0), found.detail
    lines = found.stdout.decode().splitlines()
    assert len(lines) == len(native)
    assert [pair for pair in zip(native, lines, strict=True) if pair[0] != pair[1]] == []
