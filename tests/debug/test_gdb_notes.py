"""What gdb has no word for is said on its console: which of ``monitor``'s points, why the run is about to end."""

from __future__ import annotations

import re

import pytest

from tests.debug.test_gdb import gdb, needs_gdb, serving
from tests.debug.test_gdb_connections import lasting


@needs_gdb
def test_a_point_of_monitors_is_named() -> None:
    """cow-fork's child stores 8 at 0x804a000 (its source): a fault at a page without W, then a store into its entry."""
    with serving("images/cow-fork") as where:
        told = gdb(
            where, "monitor catch fault if $pid == 4", "continue", "monitor watch pte 0x804a000", "continue",
            "reverse-continue", "monitor delete", "break *0x804814a", "continue", "kill",
        )  # fmt: skip
    fault = r"catch fault: page fault \d+ at 0804a000, user write protection"
    said = re.findall(
        rf"^({fault}|watch pte 0x804a000: watchpoint \d+: write of 8 bytes of PTE|breakpoint.*)", told, re.M
    )
    assert [each.split(":")[0] for each in said] == ["catch fault", "watch pte 0x804a000", "catch fault"]
    assert "Breakpoint 1, 0x0804814a in child ()" in told, "of gdb's own nothing is said beside it"


@needs_gdb
def test_an_end_that_is_no_exit() -> None:
    """bug-guard's module runs into the guard page behind its buffer (its source): the kernel oopses, nothing exits."""
    with serving("images/bug-guard") as where:
        told = gdb(where, "continue", "continue", "reverse-stepi", "continue", "continue", "info threads", "continue")
    assert told.count("kernel code is about to end the run, in memcpy") == 2
    assert len(re.findall(r"^kernel page fault at 0xc5005000 \(kernel write not-present\)", told, re.M)) == 2
    assert "Thread 1 (insmod" in told, "there it can be looked at"
    assert "exited with code 01]" in told


@needs_gdb
@pytest.mark.parametrize("mode", ["tasks", "processes"])
def test_back_from_the_end(mode: str) -> None:
    """bug-cow frees a frame twice (its source), which ends the run; back from there to the write before it."""
    with serving("images/bug-cow", "--threads", mode) as where:
        told = gdb(where, "continue", "info registers eip", "tbreak exit", "reverse-continue", "continue", "continue")
    assert told.count("frame 0x100e is freed and has no user") == 2
    assert re.search(r"eip +0x80481\w\w", told)
    assert "Temporary breakpoint 1, " in told
    assert "exited with code 04" in told


@needs_gdb
def test_whoever_comes_behind_the_end() -> None:
    """The machine is still there: gdb finds it at its end, and may go back."""
    with lasting("images/cow-fork") as (_, where):
        assert "exited normally" in gdb(where, "continue")
        told = gdb(where, "break child", "reverse-continue", "info symbol $eip", "delete", "continue", "info threads")
    assert "child in section .text" in told
    assert "exited normally" in told
    assert "No threads." in told
