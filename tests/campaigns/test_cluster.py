"""Campaigns over a real local cluster of dask's: the same result, though a worker is killed with its work on it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.campaign import Ledger, over_dask, run
from sandbox.campaign.over_dask import NoScheduler
from tests.campaigns.cluster import COUNT
from tests.campaigns.test_campaign import ENVIRONMENT, ROOT, command, expected, squares

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="dask is not installed: pip install dask distributed"
)


def cluster(ledger: Path, how: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.cluster", str(ledger), how], capture_output=True, text=True,
        timeout=200, cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_a_killed_worker_loses_and_doubles_nothing(tmp_path: Path) -> None:
    told = cluster(tmp_path / "l", "kill")
    assert told == {"found": expected(COUNT), "killed": 1}
    keys = [json.loads(line)["key"] for line in (tmp_path / "l").read_text().splitlines()[1:]]
    assert sorted(keys) == [each["key"] for each in expected(COUNT)]


@pytest.mark.slow
def test_hosts_and_processes_come_to_one_result(tmp_path: Path) -> None:
    there = cluster(tmp_path / "l", "whole")["found"]
    with Ledger(tmp_path / "m", squares(COUNT)) as ledger:
        assert run(squares(COUNT), ledger, jobs=2) == there == expected(COUNT)


@pytest.mark.slow
def test_machines_start_under_the_workers(tmp_path: Path) -> None:
    found = cluster(tmp_path / "l", "images")["found"]
    assert isinstance(found, list)
    assert [each["key"] for each in found] == ["cow-fork pae", "cow-fork legacy", "rom-vm86 legacy"]
    assert all(verdict["passed"] for each in found for verdict in each["value"])


def test_nobody_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_dask, "CONNECT", 0.5)
    with Ledger(tmp_path / "l", squares(2)) as ledger, pytest.raises(NoScheduler, match="no scheduler answers"):
        run(squares(2), ledger, scheduler="tcp://127.0.0.1:1")


def test_the_command_says_so(tmp_path: Path) -> None:
    done = command("images", "images/cow-fork", "-o", "l", "--scheduler", "nonsense://x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no scheduler answers" in done.stderr
