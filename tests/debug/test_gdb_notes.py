"""What gdb has no word for is said on its console: which of ``monitor``'s points, why the run is about to end."""

from __future__ import annotations

import re

from tests.debug.test_gdb import gdb, needs_gdb, serving


@needs_gdb
def test_a_point_of_monitors_is_named() -> None:
    """cow-fork's child stores 8 at 0x804a000 (its source): a fault at a page without W, then a store into its entry."""
    with serving("images/cow-fork") as where:
        told = gdb(
            where, "monitor catch fault if $pid == 4", "continue", "monitor watch pte 0x804a000", "continue",
            "reverse-continue", "monitor delete", "break *0x804814a", "continue", "kill",
        )  # fmt: skip
    fault = r"catch fault: page fault \d+ at 0804a000, user write protection"
    said = re.findall(rf"^({fault}|watch pte 0x804a000: watchpoint \d+: write of 8 bytes of PTE|breakpoint.*)", told, re.M)
    assert [each.split(":")[0] for each in said] == ["catch fault", "watch pte 0x804a000", "catch fault"]
    assert "Breakpoint 1, 0x0804814a in child ()" in told, "of gdb's own nothing is said beside it"


@needs_gdb
def test_an_end_that_is_no_exit() -> None:
    """bug-guard's module runs into the guard page behind its buffer (its source): the kernel oopses, nothing exits."""
    with serving("images/bug-guard") as where:
        told = gdb(where, "continue", "reverse-stepi", "continue", "continue")
    assert told.count("kernel code is about to end the run, in memcpy") == 2
    assert re.search(r"^kernel page fault at 0xc5005000 \(kernel write not-present\)", told, re.M)
    assert "exited normally" not in told
