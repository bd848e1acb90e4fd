"""Time as a program sees it: it goes on while the program asks for it, from an epoch that can be chosen."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sandbox.kernel.base.time import SECOND, TRAP_BLOCKS, Clock
from sandbox.kernel.fs.hostfs import HostTree
from sandbox.x86.errors import ConfigurationError
from tests.conftest import Run

SPIN = """
_start: sys time, 0
        lea ebp, [eax + 1]
1:      mov eax, 13
        xor ebx, ebx
        int 0x80
        cmp eax, ebp
        jb 1b
        pass
"""
SHOW = """
        .set SYS_time, 13
_start: sys time, 0
        mov [value], eax
        sys write, 1, "offset value", 4
        pass
        .bss
value:  .skip 4
"""


@pytest.mark.parametrize("clock", ["virtual", "host"])
def test_a_program_that_spins_on_time_ends(run: Run, clock: str) -> None:
    result = run("        .set SYS_time, 13\n" + SPIN, clock=clock)
    assert result.status == 0
    assert not result.error
    if clock == "virtual":
        assert result.summary.system_calls <= SECOND // TRAP_BLOCKS + 3, "after a second of the machine's time"


@pytest.mark.parametrize("epoch", [0, 1_000_000_000, (1 << 31) - 10])
def test_the_epoch_is_what_the_clock_shows_first(run: Run, epoch: int) -> None:
    assert int.from_bytes(run(SHOW, epoch=epoch).stdout, "little") == epoch


def test_the_hosts_clock(run: Run) -> None:
    before = int(time.time())
    assert before <= int.from_bytes(run(SHOW, clock="host").stdout, "little") <= time.time()


def test_sleeping_with_the_hosts_clock_takes_its_time(run: Run) -> None:
    text = """
        .set SYS_nanosleep, 162
_start: sys nanosleep, "offset wanted", 0
        pass
        .data
wanted: .long 0, 300000000
"""
    began = time.monotonic()
    assert run(text, clock="host").status == 0
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("values", [{"clock": "mine"}, {"epoch": -1}, {"epoch": 1 << 31}])
def test_impossible_clocks(run: Run, values: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        run(SHOW, **values)


def test_limits_count_blocks_and_not_what_traps_cost() -> None:
    clock = Clock([])
    clock.charged += 5
    clock.skip(7)
    assert (clock.now, clock.blocks) == (12, 7)


def test_files_of_the_host_are_not_in_the_future(tmp_path: Path) -> None:
    """make(1) compares a source's time with the clock, and with that of a target that it has just made."""
    for name, seconds in (("old", 500), ("new", 2000), ("made", 2000)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (seconds, seconds))
    tree = HostTree(writable=True, latest=1000 * SECOND, now=lambda: 1003 * SECOND)
    root = tree.directory(tmp_path)
    times = {name: root.lookup(name).stat().mtime // SECOND for name in (b"old", b"new")}
    assert times == {b"old": 500, b"new": 1000}
    made = root.lookup(b"made")
    made.write_block(0, b"MADE")
    assert made.stat().mtime == 1003 * SECOND
    made.set_times(None, 1001 * SECOND)
    assert root.lookup(b"made").stat().mtime == 1001 * SECOND
