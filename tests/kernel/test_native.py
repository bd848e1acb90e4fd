"""C programs about what POSIX and Linux's manual say of calls: the same lines here and on this machine's own kernel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from tests.hosttools import compiled

FOLDER = Path(__file__).parent / "native"
PROGRAMS = sorted(each.stem for each in FOLDER.glob("*.c"))
AS_ROOT = {"permissions", "sigcounts"}
LINK = ("gcc", "-m32", "-static", "-O1", "-w")


def build(name: str, folder: Path) -> Path:
    """The program, or a skipped test where no i386 program can be linked."""
    out = folder / name
    compiled(*LINK, "-o", out, FOLDER / f"{name}.c")
    return out


def native(program: Path, folder: Path) -> list[str]:
    """What it writes on this machine, and its status."""
    found = subprocess.run(
        [program], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, cwd=folder
    )
    return [*found.stdout.decode().splitlines(), f"status {found.returncode}"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_natively(name: str, tmp_path: Path) -> None:
    program = build(name, tmp_path)
    if name in AS_ROOT and os.geteuid():
        pytest.skip("it becomes other users, which takes root")
    found = run_program(f"/tmp/{name}", program.read_bytes(), (), KernelConfig(time_limit=60.0))
    assert found.error == "", found.detail
    lines = [*found.stdout.decode().splitlines(), f"status {found.status if not found.signal else -found.signal}"]
    assert lines == native(program, tmp_path)
