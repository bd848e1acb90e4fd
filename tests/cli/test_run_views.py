"""What ``sandbox run`` shows on request: --strace, --stats, --file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sandbox.cli import main

IMAGES = Path(__file__).resolve().parents[2] / "images"


def call(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(words)
    out, err = capfd.readouterr()
    return status, out, err


def test_strace_goes_beside_faults(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(["run", "--strace", "--trace", "faults", str(IMAGES / "cow-fork")], capfd)
    assert status == 0
    assert "cow-fork:" in out
    lines = err.splitlines()
    assert any("fork()" in line and line.endswith("= 4") for line in lines)
    assert any("cow-copy" in line for line in lines)
    begun = [at for at, line in enumerate(lines) if "waitpid(-1,  <unfinished ...>" in line]
    resumed = [at for at, line in enumerate(lines) if "<... waitpid resumed>" in line]
    assert len(begun) == len(resumed) == 1
    assert begun < resumed


def test_strace_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(["run", "--strace", "--json", str(IMAGES / "hello")], capfd)
    assert status == 0
    lines = [event["line"] for event in json.loads(out)["events"] if event["event"] == "strace"]
    assert lines[-1] == "+++ exited with 0 +++"


def test_stats_add_up(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(["run", "--stats", "--json", str(IMAGES / "cow-fork")], capfd)
    summary = json.loads(out)["summary"]
    assert status == 0
    assert sum(summary["faults_by_kind"].values()) == summary["page_faults"]
    assert sum(summary["calls_by_name"].values()) == summary["system_calls"]
    assert summary["faults_by_kind"]["cow-copy"] == summary["cow_copies"]
    assert 0 < sum(summary["engine_seconds"].values()) < summary["seconds"]
    status, _, err = call(["run", "--stats", str(IMAGES / "cow-fork")], capfd)
    assert "% guest" in err
    assert "cow-copy" in err


def test_a_file_of_the_host(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").write_text("from the host\n")
    cat = str(IMAGES / "cat" / "cat.elf")
    words = ["run", "--file", f"{tmp_path}/notes:/some/where/notes", cat, "/some/where/notes"]
    assert call(words, capfd)[:2] == (0, "from the host\n")
    for bad in ("notes", ":/x", f"{tmp_path}/notes:relative", f"{tmp_path}/none:/x"):
        status, _, err = call(["run", "--file", bad, cat], capfd)
        assert status == 2
        assert err.count("\n") == 1, err


def test_the_screen_is_checked_before_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fifo, image = tmp_path / "fifo", str(IMAGES / "hello")
    os.mkfifo(fifo)
    plugged = ["run", image, "--device", "framebuffer", "--screen"]
    for words in ([*plugged, str(tmp_path)], [*plugged, f"{tmp_path}/none/x"], [*plugged, str(fifo)]):
        status, out, err = call(words, capfd)
        assert (status, out, err.count("\n")) == (2, "", 1), words
    status, out, err = call(["run", image, "--screen", "-"], capfd)
    assert (status, out) == (2, "")
    assert "no frame buffer" in err


def test_a_file_given_twice_or_over_the_program(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one").write_text("1")
    pair, image = f"{tmp_path}/one:/a", str(IMAGES / "hello")
    for words in (["--file", pair, "--file", pair], ["--file", f"{tmp_path}/one:/bin/hello"]):
        status, out, err = call(["run", image, *words], capfd)
        assert (status, out, err.count("\n")) == (2, "", 1), words
