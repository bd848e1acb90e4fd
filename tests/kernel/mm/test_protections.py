"""mprotect(2) by every pair of protections and every access: PAE is judged by ``tests/kernel/test_native.py``."""

from __future__ import annotations

from pathlib import Path

from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from tests.kernel.test_native import build, native


def test_two_levels_have_no_nx(tmp_path: Path) -> None:
    """Without NX a fetch needs what a read needs, and its error code has no I/D (SDM 3A, 4.6.1 and 4.7)."""
    program = build("protections", tmp_path)
    found = run_program("/tmp/protections", program.read_bytes(), (), KernelConfig(paging="legacy", time_limit=60.0))
    assert found.error == "", found.detail
    wanted = native(program, tmp_path)[:-1]
    for at in range(3, len(wanted), 4):
        wanted[at] = wanted[at - 3].replace("read", "run")
    assert found.stdout.decode().splitlines() == wanted
