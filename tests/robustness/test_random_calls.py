"""Hostile system calls: no Python traceback, no hang, nothing left behind, nothing touched outside the root."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from sandbox.image.assemble import assemble_source
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.run import Streams, run_program
from tests import campaign
from tests.robustness.storm import make_table

SOURCE = Path(__file__).with_name("storm.S")
TABLES, ROWS = 320, 600
LEAST = 100_000
"""Calls that all tables together make, those that end their process early counted as what they did."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("storm") / "storm"
    assemble_source(SOURCE, path)
    return path.read_bytes()


def _tree(top: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path.relative_to(top)): (status.st_mode, status.st_size, status.st_mtime_ns)
        for path in sorted(top.rglob("*"))
        for status in (path.lstat(),)
    }


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _world(folder: Path) -> tuple[Path, Path]:
    """A root with ways out of it, and what lies outside."""
    root, outside = folder / "root", folder / "outside"
    for each in (root / "tmp", root / "etc", outside):
        each.mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (outside / "secret").write_text("secret\n")
    (root / "link-out").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    return root, outside


@pytest.mark.parametrize("part", campaign.part(range(8), 3))
def test_storm(part: int, program: bytes, tmp_path: Path) -> None:
    root, outside = _world(tmp_path / "kept")
    written, beyond = _world(tmp_path / "written")
    before = _tree(root), _tree(outside), _tree(beyond)
    gc.collect()
    descriptors = _descriptors()
    calls = 0
    for seed in range(part * TABLES // 8, (part + 1) * TABLES // 8):
        config = KernelConfig(
            paging=("pae", "legacy")[seed % 2],
            cpus=(1, 1, 2, 3)[seed // 2 % 4],
            ram=(8, 16, 64)[seed % 3] << 20,
            seed=seed,
            root=written if seed % 4 == 3 else root,
            writable=seed % 4 == 3,
            block_limit=20_000_000,
            time_limit=20,
        )
        result = run_program("storm", program, (), config, Streams(BytesSource(make_table(seed, ROWS))))
        assert "host time" not in result.error, (seed, result.error, result.detail)
        calls += result.summary.system_calls
    assert before == (_tree(root), _tree(outside), _tree(beyond))
    gc.collect()
    assert _descriptors() == descriptors
    assert calls >= LEAST // 8


def test_the_table_reaches_every_call() -> None:
    from sandbox.kernel.abi.numbers import NUMBERS

    seen = {int.from_bytes(table[at : at + 4], "little") for table in (make_table(s, ROWS) for s in range(40))
            for at in range(0, ROWS * 28, 28)}  # fmt: skip
    assert seen >= set(NUMBERS.values()) - {NUMBERS["exit"], NUMBERS["exit_group"]}
