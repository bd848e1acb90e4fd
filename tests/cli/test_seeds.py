"""``--seeds A-B``: the first that ends otherwise, told with the command that replays it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RACE = ("run", "images/race-cow", "--break", "no-pte-same")


def sandbox(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *words], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        timeout=120,
    )  # fmt: skip


def test_all_alike() -> None:
    done = sandbox("run", "images/race-cow", "--seeds", "1-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'seeds 1 to 8 end alike: exit status 0; standard output "race-cow: no store was lost\\n"\n'


def test_the_first_that_differs_replays() -> None:
    """Which store is lost is the schedule's choice: the image exits with 3 or with 4."""
    done = sandbox(*RACE, "--seeds", "1-40", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert {found["outcome"]["status"], found["other"]["status"]} <= {0, 3, 4}
    assert found["outcome"]["status"] != found["other"]["status"]
    again = sandbox(*RACE, "--seed", str(found["differs"]), "--status")
    assert again.returncode == found["other"]["status"]
    assert found["replay"].endswith(f"--seed {found['differs']} --json")


@pytest.mark.parametrize("seeds", ["5", "9-1", "a-b", "-3", "1-2-3", "0-99999999"])
def test_what_is_no_range(seeds: str) -> None:
    done = sandbox("run", f"--seeds={seeds}", "images/race-cow")
    assert done.returncode == 2 and done.stderr.startswith(f"sandbox: --seeds {seeds}: give A-B")


def test_one_cpu_has_no_races() -> None:
    done = sandbox("run", "images/hello", "--seeds", "1-3")
    assert done.returncode == 2 and "with one CPU" in done.stderr


def test_points_are_checked() -> None:
    for text in ("wp:0", ":3", "wp:x"):
        done = sandbox("run", "images/race-cow", "--race", text)
        assert done.returncode == 2 and "K counted from 1" in done.stderr
