"""``sandbox compare kmap``: tables of 80 columns, JSON, a picture, and one line for what cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from sandbox.records import fields
from sandbox.report.kmapcompare import tables
from sandbox.runner.kmapcost import MECHANISMS, WORKS, Cost, Measured
from tests.cli.test_cli import call
from tests.patience import PATIENCE, busy, running

SMALL = ["compare", "kmap", "--pages", "64", "--ram", "64M"]


def test_text_and_picture(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "kmap.svg"
    status, out, _ = call([*SMALL, "--svg", str(picture)], capfd)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "post: 001" in out and "post: 004" in out
    assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_largest_work_has_tables_of_80_columns() -> None:
    """Counts are fewer than four for each byte of 16384 pages, the most that --pages takes."""
    highest = {each.name: 4 * 16384 * 4096 if "blocks" in each.name else 99_999 for each in fields(Cost)}
    highest["blocks_kernel"] = 16384 * 99
    rows = [Measured(name, work, Cost(**highest)) for work in WORKS for name in MECHANISMS]
    lines = tables(rows)
    assert max(map(len, lines)) <= 80
    assert len({len(line) for line in lines if line.startswith("  ")}) == 1, "columns stand below each other"


def test_a_claim_that_nothing_measured_has_no_verdict(capfd: pytest.CaptureFixture[str]) -> None:
    told = json.loads(call([*SMALL, "--work", "read", "--json"], capfd)[1])
    assert {each["work"] for each in told["runs"]} == {"read"}
    assert [each["holds"] for each in told["claims"] if each["measured"] == "not measured"]
    assert all(each["holds"] is None for each in told["claims"] if each["measured"] == "not measured")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--pages", "3"], "sandbox: --pages 3: 16 to 16384"),
        (["--pages", "8192"], "sandbox: 8192 pages for each of 2 CPUs and their parent are 96 MB, 32 MB are highmem"),
        (["--cpus", "9"], "sandbox: 9 CPUs: a machine has 1 to 8"),
        (["--ram", "lots"], "sandbox: "),
        (["--svg", "/nowhere/x.svg"], "sandbox: --svg /nowhere/x.svg: cannot be written: there is no such folder"),
    ],
)
def test_one_line_for_what_cannot_be(words: list[str], line: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = call([*SMALL, *words], capfd)
    assert (status, out) == (2, "")
    assert err.startswith(line)


def test_time_limit(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(["compare", "kmap", "--work", "storm", "--time-limit", "0.05"], capfd)
    assert (status, out) == (1, "")
    assert err.startswith("sandbox: storm with kva pool, sequence numbers: ")


def test_ctrl_c() -> None:
    words = [sys.executable, "-m", "sandbox", "compare", "kmap"]
    with running(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        busy(process.pid, 1.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, b"", b"sandbox: interrupted\n")
