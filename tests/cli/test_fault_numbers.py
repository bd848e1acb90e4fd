"""Faults have one number: in the trace, in JSON, in the counts and for ``explain``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_cli import Files, call, elf  # noqa: F401

IMAGES = Path(__file__).resolve().parents[2] / "images"


@pytest.mark.parametrize("image", ["cow-fork", "vmalloc-sync", "vmalloc"])
def test_one_numbering(capfd, image: str) -> None:
    path = str(IMAGES / image)
    _, _, err = call(["run", path, "--trace", "faults"], capfd)
    rows = [line.split() for line in err.splitlines() if line.split()[0].isdigit()]
    found = json.loads(call(["run", path, "--trace", "faults", "--json"], capfd)[1])
    events = [event for event in found["events"] if event["event"] == "PageFault"]
    assert sorted(int(row[0]) for row in rows) == list(range(1, found["summary"]["page_faults"] + 1))
    assert [int(row[0]) for row in rows] == [event["number"] for event in events]
    for event in (events[0], events[-1]) if events else ():
        told = json.loads(call(["explain", path, "--json", "--fault", str(event["number"])], capfd)[1])
        assert {key: told[key] for key in ("pid", "eip", "address", "error_code", "resolution")} == {
            key: event[key] for key in ("pid", "eip", "address", "error_code", "resolution")
        }


def test_status_is_null_without_an_exit(elf: Files, capfd) -> None:  # noqa: F811
    endings = {"pass": 0, "sys exit, 3": 3, "ud2": None, "1: jmp 1b": None}
    for text, status in endings.items():
        words = ["run", "--json", "--limit", "10k", elf(f"_start: {text}")]
        assert json.loads(call(words, capfd)[1])["status"] == status, text
