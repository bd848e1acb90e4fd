"""Campaigns over processes: each item once, in order, whatever dies; a file that whoever comes back goes on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.campaign import Item, Ledger, Progress, run
from sandbox.campaign.ledger import NotTheSame, UnusableLedger
from sandbox.campaign.run import Cutter
from sandbox.x86.errors import ConfigurationError
from tests.patience import PATIENCE, busy, family, running, until

ROOT = Path(__file__).resolve().parents[2]
WORK = "tests.campaigns.work"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


def squares(count: int, seconds: float = 0.0) -> list[Item]:
    return [Item(f"{number:03}", f"{WORK}:square", (number, seconds)) for number in range(count)]


def expected(count: int) -> list[dict[str, object]]:
    return [{"key": f"{number:03}", "value": number * number} for number in range(count)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_item_once_and_in_order(jobs: int, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with Ledger(tmp_path / "l", squares(40)) as ledger:
        assert run(squares(40), ledger, jobs=jobs, progress=seen.append) == expected(40)
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert (seen[-1].done, seen[-1].whole, seen[-1].remaining) == (40, 40, 0)
    assert len((tmp_path / "l").read_text().splitlines()) == 41


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """A line that was being written when the process died is dropped, and its item done again."""
    path, items = tmp_path / "l", squares(10)
    with Ledger(path, items) as ledger:
        run(items, ledger)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:9])
    with Ledger(path, items) as ledger:
        assert [each.key for each in ledger.left(items)] == [f"{number:03}" for number in range(4, 10)]
        assert run(items, ledger) == expected(10)
    assert path.read_bytes() == b"".join(lines)


def test_errors_are_outcomes(tmp_path: Path) -> None:
    items = [Item("a", f"{WORK}:fail", ("ours",)), Item("b", f"{WORK}:fail", ("theirs",)), Item("c", "nowhere:x")]
    with Ledger(tmp_path / "l", items) as ledger:
        ours, theirs, nowhere = run(items, ledger)
    assert (ours["error"], ours["detail"], ours["status"]) == ("refused", "why", 2)
    assert (theirs["error"], theirs["status"]) == ("ValueError: theirs", 3)
    assert "nowhere" in nowhere["error"]


def test_a_death_costs_one_item_and_only_when_it_comes_again(tmp_path: Path) -> None:
    items = [*squares(5), Item("die", f"{WORK}:die"), Item("once", f"{WORK}:die_once", (str(tmp_path / "mark"),))]
    items.append(Item("last", f"{WORK}:square", (3,)))
    with Ledger(tmp_path / "l", items) as ledger:
        found = {each["key"]: each for each in run(items, ledger, jobs=2)}
    assert found["die"]["error"] == "its process died: SIGKILL"
    assert (found["once"]["value"], found["last"]["value"], found["004"]["value"]) == ("done", 9, 16)


def test_what_is_printed_is_no_outcome(tmp_path: Path) -> None:
    items = [Item("a", f"{WORK}:chatter", ('{"x": 1}\n',))]
    with Ledger(tmp_path / "l", items) as ledger:
        assert run(items, ledger)[0]["value"] == '{"x": 1}\n'


def test_the_processes_stay_and_end_with_the_campaign(tmp_path: Path) -> None:
    items = [Item(f"{number}", f"{WORK}:process") for number in range(20)]
    with Ledger(tmp_path / "l", items) as ledger:
        found = {each["value"] for each in run(items, ledger, jobs=2)}
    assert len(found) <= 2
    assert os.getpid() not in found
    assert not any(Path(f"/proc/{pid}").exists() for pid in found)


def test_another_campaign_and_another_writer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger(path, squares(3)), pytest.raises(UnusableLedger, match="writes to it now"):
        Ledger(path, squares(3))
    with pytest.raises(UnusableLedger, match="not the file of this campaign"):
        Ledger(path, squares(4))
    (tmp_path / "text").write_text("something\n")
    with pytest.raises(UnusableLedger, match="not the file"):
        Ledger(tmp_path / "text", squares(3))
    assert (tmp_path / "text").read_text() == "something\n"
    for nothing in (tmp_path, Path("/dev/full")):
        with pytest.raises(UnusableLedger, match="not a regular file"):
            Ledger(nothing, squares(3))
    with pytest.raises(ConfigurationError, match="different keys"):
        Ledger(tmp_path / "new", [Item("a", "x:y"), Item("a", "x:z")])


def test_an_item_that_is_not_the_same_twice_is_found(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l", squares(2)) as ledger:
        assert ledger.add({"key": "000", "value": 0})
        assert not ledger.add({"key": "000", "value": 0})
        with pytest.raises(NotTheSame):
            ledger.add({"key": "000", "value": 1})


def test_batches_grow_to_seconds_and_lose_nothing() -> None:
    items = squares(1000)
    cutter, seen = Cutter(items), list[Item]()
    while batch := cutter.next():
        seen += batch
        cutter.took(len(batch), 0.01 * len(batch))
    assert seen == items
    cutter = Cutter(items)
    assert len(cutter.next()) == 1
    cutter.took(1, 100.0)
    assert len(cutter.next()) == 1


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox", "campaign", *words], capture_output=True, text=True, timeout=200,
        cwd=cwd, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_images_as_the_suite_finds_them(tmp_path: Path) -> None:
    done = command("images", "images/cow-fork", "images/rom-vm86", "-o", "l", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [verdict for each in json.loads(done.stdout) for verdict in each["value"]]
    plain = [sys.executable, "-m", "sandbox", "test", "images/cow-fork", "images/rom-vm86", "--json"]
    suite = subprocess.run(plain, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=200)
    kept = ("image", "paging", "switch", "passed")
    assert [[each[key] for key in kept] for each in told] == [
        [x[key] for key in kept] for x in json.loads(suite.stdout)
    ]


RACE = """
        .include "linux.inc"
        .globl _start
_start: fork_to child
        sys exit, 0
child:  sys exit, 0
"""


def test_seeds_are_compared(tmp_path: Path) -> None:
    (tmp_path / "p.S").write_text(RACE)
    words = ("seeds", "p.S", "--seeds", "1-6", "--cpus", "2", "-o", "l", "-j", "2")
    done = command(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "6 of 6 as most\n"), done.stderr
    again = command(*words, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "6 of 6 as most\n"), again.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("seeds", "images/cow-fork", "-o", "l"), "--seeds A-B"),
        (("seeds", "images/cow-fork", "--seeds", "1-3", "-o", "l"), "one CPU"),
        (("seeds", "images/rom-vm86", "--seeds", "1-3", "-o", "l"), "no kernel"),
        (("images", "nowhere", "-o", "l"), "no manifest there"),
        (("images", "images/cow-fork", "--seeds", "1-2", "-o", "l"), "no use for --seeds"),
        (("images", "images/cow-fork", "--ram", "16M", "--cpus", "2", "-o", "l"), "no use for --ram, --cpus"),
        (("seeds", "images/cow-fork", "--seeds", "1-2", "--cpus", "2", "--seed", "7", "-o", "l"), "no use for --seed"),
        (("seeds", "images/cow-fork", "--seeds", "1-2", "--cpus", "2", "--whole", "-o", "l"), "campaign images"),
        (("images", "images/cow-fork", "-j", "-1", "-o", "l"), "number of processes"),
        (("images", "images/cow-fork", "-o", "nowhere/l"), "No such file"),
    ],
)
def test_what_makes_no_sense(words: tuple[str, ...], why: str, tmp_path: Path) -> None:
    done = command(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_machine_that_cannot_be_is_no_agreement(tmp_path: Path) -> None:
    """All seeds are refused alike: none has run."""
    words = ("seeds", "images/cow-fork", "--seeds", "1-2", "--cpus", "2", "--root", "nowhere", "-o", "l")
    done = command(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "0 of 2 as most"), done.stderr
    assert "nowhere" in done.stdout


def test_an_interrupted_campaign_goes_on(tmp_path: Path) -> None:
    (tmp_path / "p.S").write_text(RACE)
    words = ["seeds", "p.S", "--seeds", "1-150", "--cpus", "2", "-o", "l", "-j", "1"]
    path = tmp_path / "l"
    with running(
        [sys.executable, "-m", "sandbox", "campaign", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=tmp_path, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        until(lambda: process.poll() is not None or (path.exists() and path.read_bytes().count(b"\n") >= 4))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
    if process.returncode:  # not too late
        assert process.returncode == 130
        assert "the same command goes on" in told
    before = path.read_bytes()
    done = command(*words, cwd=tmp_path)
    assert done.stdout == "150 of 150 as most\n"
    assert path.read_bytes().startswith(before)
    assert len({json.loads(line)["key"] for line in path.read_text().splitlines()[1:]}) == 150


def test_nobody_waits_for_an_item_after_an_interrupt(tmp_path: Path) -> None:
    """A guest without an end would hold the prompt back for its minute."""
    (tmp_path / "p.S").write_text("_start: jmp _start\n.globl _start\n")
    words = ["seeds", "p.S", "--seeds", "1-9", "--cpus", "2", "-o", "l", "-j", "2"]
    command = [sys.executable, "-m", "sandbox", "campaign", *words]
    with running(command, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT) as process:
        until(lambda: process.poll() is not None or len(family(process.pid)) > 2)
        busy(process.pid, 1.0)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=40)
    assert (process.returncode, b"0 of 9 are in l" in told) == (130, True), told
