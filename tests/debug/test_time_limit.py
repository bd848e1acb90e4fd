"""The time limit holds while a debugger stops often: a stop uses up no blocks, so that no run of a CPU ends by itself.

Counted are the engine's runs, not seconds: the limit is over before the first of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.rom_target import RomTarget
from sandbox.debug.run_control import RUNS_BETWEEN_LOOKS
from sandbox.debug.target import Target
from sandbox.engine.cpu import Cpu
from sandbox.image.assemble import assemble_text
from sandbox.runner import target as targets
from sandbox.runner.rom import RomConfig, RomSession
from tests.conftest import MakeSession

SPIN = "inc eax\n1: inc ecx\n nop\n jmp 1b\n"
LIMIT = 60.0
WAYS = [
    ("next 1000000",),
    ("step",) * (2 * RUNS_BETWEEN_LOOKS),
    ("break *$eip+1 if $ebx", "continue"),
    ("watch 0x7000 if 0", "catch cr3 if $ebx", "next 1000000"),
]


def ended_after(target: Target, lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs of the engine from when the time is over to the guest's end by that."""
    runs, run = [0], Cpu.run

    def counted(*arguments: Any, **named: Any) -> Any:
        runs[0] += 1
        return run(*arguments, **named)

    debugger = Debugger(target)
    debugger.begin()
    target.excuse(-2 * LIMIT)
    monkeypatch.setattr(Cpu, "run", counted)
    for line in lines:
        if target.result is None:
            assert not debugger.execute(line).error, line
    assert target.result is not None
    assert target.result.error in ("limit reached: 60 s of host time", "stopped after 60 seconds")
    return runs[0]


@pytest.fixture(params=["kernel", "rom"])
def make(request: pytest.FixtureRequest, session: MakeSession) -> Callable[[], Target]:
    if request.param == "kernel":
        return lambda: KernelTarget("t", session("_start: " + SPIN, time_limit=LIMIT))
    rom = targets.Target("t", "rom", assemble_text(SPIN, 0x100000))
    return lambda: RomTarget("t", RomSession(rom, RomConfig(ram=4 << 20, time_limit=LIMIT)))


@pytest.mark.parametrize("lines", WAYS, ids=lambda lines: lines[0])
def test_it_ends_a_guest_that_stops_at_every_instruction(
    make: Callable[[], Target], lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(make()) as target:
        assert ended_after(target, lines, monkeypatch) <= 4 * RUNS_BETWEEN_LOOKS
