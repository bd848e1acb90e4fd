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


ASLEEP = """#include "module.h"
static int word, got = 1;
static u8 *card;
static void bell(u32 vector) { u32 value; got = __get_user(&value, (void *)0x1000, 4); wake_up(&word); }
int init_module(void)
{
        card = vremap(0x80000000u, 2 << 20);
        request_irq(0x45, bell);
        writel(0x45, card + 0x10);
        asm volatile("cli");
        writel(1, card + 0x14);
        sleep_on(&word);
        free_irq(0x45);
        vfree(card);
        return got == -14 ? 0 : -1;
}
"""


def test_a_fault_while_no_task_runs(tmp_path: Path, capfd) -> None:
    """An interrupt comes while all sleep, and its handler reads a user's address: no task's fault, with a number."""
    (tmp_path / "asleep.c").write_text(ASLEEP)
    words = [str(tmp_path / "asleep.c"), "--device", "card"]
    status, _, err = call(["run", *words, "--trace", "faults", "--stats"], capfd)
    rows = [line.split() for line in err.splitlines() if " 00001000 " in line]
    assert status == 0
    assert [(row[0], row[2], row[-2]) for row in rows] == [("1", "0", "fixup")]
    assert "page faults    1: 1 fixup" in err
    found = json.loads(call(["run", *words, "--trace", "faults", "--json"], capfd)[1])
    assert [(event["number"], event["pid"], event["address"]) for event in found["events"]] == [(1, 0, 0x1000)]
    assert found["summary"]["page_faults"] == 1
    told = call(["explain", *words], capfd)[1]
    assert told.startswith("fault 1: no task, kernel code at ")
    assert "answer    fixup" in told
    assert json.loads(call(["explain", *words, "--json"], capfd)[1])["pid"] == 0


def test_status_is_null_without_an_exit(elf: Files, capfd) -> None:  # noqa: F811
    endings = {"pass": 0, "sys exit, 3": 3, "ud2": None, "1: jmp 1b": None}
    for text, status in endings.items():
        words = ["run", "--json", "--limit", "10k", elf(f"_start: {text}")]
        assert json.loads(call(words, capfd)[1])["status"] == status, text
