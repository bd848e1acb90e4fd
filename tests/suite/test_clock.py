"""The clock is the same however a run is watched: every image free, stepped and with breakpoints, event for event."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.debug.goals import Steps
from sandbox.debug.run_control import RunControl
from sandbox.debug.stops import StopKind
from sandbox.engine.cpu import Cpu
from sandbox.image.assemble import SOURCES, assemble_source
from sandbox.image.elf import symbols
from sandbox.kernel.base.config import KernelConfig
from sandbox.machine.events import Event
from sandbox.runner.run import Session
from tests.campaign import part

IMAGES = sorted(path for path in (SOURCES / "images").glob("*/*") if path.suffix in (".S", ".asm"))
OTHERS = ("rom", "modules", "libc", "include")
PROGRAMS = [path for path in IMAGES if path.parent.name not in OTHERS and path.stem != "oom"]
STRIDES = (1, 3, 7, 50)
STEP_LIMITS = (12_000, 60_000)
"""Stops of a run, roughly; the larger number is for the campaign."""


def observe(program: bytes, stride: int | None, breakpoints: tuple[int, ...] = (), slice_: int = 0) -> list[Event]:
    """All events of a run that is stopped every ``stride`` instructions and at each breakpoint."""
    events: list[Event] = []
    with Session("image", program, [], KernelConfig(time_limit=0)) as session:
        session.kernel.bus.subscribe(events.append)
        session.load()
        kernel = session.kernel
        stops = 0

        def stopped(cpu: Cpu, kind: StopKind, eip: int) -> None:
            nonlocal stops
            stops += 1
            control.goal = None if stride is None else Steps(stride, None)

        control = RunControl(
            session.machine.cpus, lambda: kernel.clock.now, lambda cpu: 0, stopped, lambda cpu, at: True
        )
        control.attach()
        control.goal = None if stride is None else Steps(stride, None)
        control.set_breakpoints(set(breakpoints))
        if slice_:
            kernel.sched._engine_run = slice_
            kernel.sched.adapt = lambda blocks, seconds: None  # type: ignore[method-assign]
        session.finish()
    assert stops or slice_ or stride == max(STRIDES) or not (stride or breakpoints)
    return events


@pytest.mark.parametrize("limit", part(STEP_LIMITS, 1))
@pytest.mark.parametrize("source", PROGRAMS, ids=lambda path: path.stem)
def test_same_events_at_every_stride(source: Path, limit: int, tmp_path: Path) -> None:
    built = tmp_path / "image"
    assemble_source(source, built)
    program = built.read_bytes()
    free = observe(program, None)
    table = symbols(program)
    places = tuple(address for _, address in table.items() if 0x08048000 <= address < 0x08049000)
    assert observe(program, None, places) == free
    assert observe(program, None, slice_=997) == free
    blocks = free[-1].time
    for stride in STRIDES:
        if blocks / stride < limit:
            assert observe(program, stride) == free, stride
