"""A short part of the fuzzing in every run, thousands of inputs with the campaigns; and each input that found a fault.

What is expected of each: an end of the guest's own.  No traceback, no death or hang of the process, no run beyond its
limits, no descriptor or memory kept, no host file changed outside the root.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sandbox.x86.errors import SandboxError
from tests import campaign
from tests.fuzz import chunks, files, kinds
from tests.fuzz.__main__ import SHARES

KEPT = sorted(Path(__file__).with_name("kept").glob("*.json"))
WHOLE, SOME, FEW = 100_000, 6_000, 25
"""Inputs of ``make campaign``, of ``make test-slow``, and those of a kind in ``make test``."""
DEAR = {"parser": 4, "debug": 10, "machine": 10}
"""Of these kinds fewer: one takes as long as several others."""


@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_what_was_found_once(path: Path, tmp_path: Path) -> None:
    kept = json.loads(path.read_text())
    end, wrong = kinds.outcome(kept["kind"], kept["input"], kinds.world(tmp_path))
    assert not wrong, f"{end}: {kept['why']}\n{wrong}"


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_few(kind: str) -> None:
    count = DEAR.get(kind, FEW)
    seen = chunks.run_chunk(kind, range(count))
    assert not seen.findings
    assert seen.ends.total() == count


@pytest.mark.campaign
@pytest.mark.parametrize("piece", range(20))
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_many(kind: str, piece: int) -> None:
    count = (WHOLE if campaign.WHOLE else SOME) * SHARES[kind] // 100 // 20
    for seeds in chunks.chunks(kind, 1_000_000 + piece * count, count):
        assert not chunks.run_chunk(kind, seeds).findings


def test_the_shares_are_a_hundred() -> None:
    assert sum(SHARES.values()) == 100
    assert SHARES.keys() == kinds.KINDS.keys()


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_seed_is_always_the_same_input(kind: str) -> None:
    made = kinds.draw(kind, 7)
    assert made == kinds.draw(kind, 7) == json.loads(json.dumps(made))
    assert made != kinds.draw(kind, 8)


def test_an_input_does_not_change_what_the_next_is_drawn_from() -> None:
    """A list that an input was given, and that was changed with it, is empty for the next."""
    before = repr(files.VALUES)
    for seed in range(2000):
        kinds.draw("recording", seed)
        assert repr(files.VALUES) == before, seed


def test_the_kinds_reach_what_they_are_for() -> None:
    """Programs run and are refused, bare machines are in three modes; else the inputs would all be alike."""
    modes = Counter(kinds.draw("bare", seed)["mode"] for seed in range(60))
    assert min(modes[mode] for mode in ("real", "protected", "paged")) > 5
    ends = chunks.run_chunk("elf", range(60)).ends
    assert {"ran", "killed", "refused"} <= ends.keys(), ends


def _broken(kind: str, monkeypatch: pytest.MonkeyPatch, run: object) -> chunks.Seen:
    monkeypatch.setitem(kinds.KINDS, kind, (kinds.KINDS[kind][0], run))  # type: ignore[arg-type]
    return chunks.run_chunk(kind, range(100))


def test_a_traceback_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(made: object, root: Path) -> str:
        raise ZeroDivisionError

    seen = _broken("bare", monkeypatch, run)
    assert len(seen.findings) == 100
    assert "ZeroDivisionError" in seen.findings[0].what


def test_our_own_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(made: object, root: Path) -> str:
        raise SandboxError("ours")

    assert "ours" in _broken("bare", monkeypatch, run).findings[0].what


def test_a_death_is_found_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    def run(made: object, root: Path) -> str:
        if made == kinds.draw("bare", 50):
            os.kill(os.getpid(), signal.SIGKILL)
        return "ran"

    seen = _broken("bare", monkeypatch, run)
    assert [each.seed for each in seen.findings] == [50]
    assert "SIGKILL" in seen.findings[0].what
    assert seen.ends == {"before a death": 50, "BUG SIGKILL": 1, "ran": 49}


def test_a_leak_and_a_changed_file_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []

    def run(made: object, root: Path) -> str:
        kept.append((root / "outside" / "secret").open())
        return "ran"

    assert any("descriptors" in each.what for each in _broken("bare", monkeypatch, run).findings)

    def write(made: object, root: Path) -> str:
        (root / "outside" / "new").write_text("x")
        return "ran"

    assert any("outside the root" in each.what for each in _broken("bare", monkeypatch, write).findings)

    def grow(made: object, root: Path) -> str:
        kept.append(b"x" * (4 << 20))
        return "ran"

    assert any("MB more" in each.what for each in _broken("bare", monkeypatch, grow).findings)


def test_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "elf", "--count", "20", "--seed", "3"],
        capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "20 inputs" in done.stdout
