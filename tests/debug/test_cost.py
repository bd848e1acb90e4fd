"""What a debugger costs who goes on: Python calls of a page fault, which are counted and so the same on any host."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import greenlet
import pytest

from benchmarks.programs import build
from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.open import open_target
from sandbox.engine import stubs
from sandbox.engine.cpu import Cpu
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.rom import rom_config
from sandbox.runner.run import Session
from sandbox.runner.target import resolve

PAGES = 2000
TOUCH = f"mov edi, offset buffer\n2: mov [edi], edi\nadd edi, 4096\ncmp edi, offset buffer + {PAGES * 4096}\njb 2b\n"
ELSEWHERE = 0x7000_0000
"""Nothing is there."""


def calls(points: tuple[str, ...] | None) -> float:
    """Python calls of a page fault, in a free run (None), or under a debugger with these points, none of them hit."""
    session = Session("t", build(TOUCH, PAGES * 4096), [], KernelConfig(time_limit=0))
    if points is None:
        session.load()
        found = counted(session.finish)
        session.close()
    else:
        target = KernelTarget("t", session)
        debugger = Debugger(target)
        debugger.begin()
        assert not any(debugger.execute(line).error for line in points)
        found = counted(debugger.go)
        assert target.result is not None
        target.close()
    return found / PAGES


def counted(action: Any) -> int:
    """Calls of Python functions that ``action`` comes to, in whatever greenlet."""
    seen = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal seen
        seen += event == "call"

    def switched(event: str, where: object) -> None:
        sys.setprofile(profile)

    before = greenlet.settrace(switched)
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
        greenlet.settrace(before)
    return seen


@pytest.mark.parametrize(
    ("points", "most"),
    [
        ((), 2),
        (("catch module",), 3),
        (("catch sigsegv", "catch cow-copy"), 3),
        (("catch fault if $write && 0", "disable 1"), 2),
    ],
)
def test_a_fault_that_no_point_is_for_costs_no_more_than_this(points: tuple[str, ...], most: float) -> None:
    """Attached it is the note of the fault; for a catch its emitter asks whether it is for them; no event is made."""
    assert calls(points) - calls(None) <= most


@pytest.mark.skipif(not stubs.native_host(), reason="watchpoints are x86-64 Linux code")
@pytest.mark.parametrize("point", [f"watch {ELSEWHERE:#x}", "watch physical 0x2000"])
def test_a_watch_of_another_page_costs_a_look_at_each_end_and_at_each_store_into_tables(point: str) -> None:
    assert calls((point,)) - calls(None) <= 1 + 2 + 2 + 1 + 1, "the run, both words of an entry and the frame"


def test_nothing_stands_in_the_way_of_a_run_for_which_nothing_is_asked() -> None:
    target = KernelTarget("t", Session("t", build(TOUCH, PAGES * 4096), [], KernelConfig(time_limit=0)))
    debugger = Debugger(target)
    debugger.begin()
    ways: list[bool] = []
    target.fault = lambda task, context, trap: ways.append(bare(target))
    debugger.go()
    target.close()
    assert ways.count(False) <= 1, "the first one belongs to the run that led to the first instruction"


def bare(target: KernelTarget) -> bool:
    """The CPU's ``run`` is the engine's own."""
    return getattr(target.running_cpu.run, "__func__", None) is Cpu.run


def test_a_breakpoint_that_is_set_inside_a_run_of_the_engine_stops_it() -> None:
    """A device's answer is an event inside a run (interrupt-window.S: no_ticks, then puts)."""
    image = resolve("images/rom-interrupt-window")
    target = open_target(image, rom_config(image, ram=8 << 20))
    debugger = Debugger(target)
    debugger.begin()
    assert not debugger.execute("catch port").error
    found = debugger.execute("continue").stop
    assert found is not None and found.kind == "catch"
    behind = target.address_of("puts")
    for line in ("delete 1", f"break {behind:#x}"):
        assert not debugger.execute(line).error
    stop = debugger.execute("continue").stop
    assert stop is not None and (stop.kind, stop.moment.eip) == ("breakpoint", behind)
    target.close()
