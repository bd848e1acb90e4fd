"""Watches on a whole machine: programs, the kernel's own routines, and a run that ends as it would have."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.engine import stubs
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Exit, Watched
from sandbox.engine.watch import READ, WRITE, Hit, Watches
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import Event
from sandbox.runner.run import Session

COW_FORK = Path(__file__).parents[2] / "images" / "cow-fork" / "cow-fork.elf"
WORD = 0x804A000
"""Where the image's two processes store 7, 8 and 9 (its source; also the README's first example)."""
KERNEL = 0xC0000000
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="watchpoints are x86-64 Linux code")


def observe(first: int | None, flags: int = READ | WRITE, physical: bool = False) -> tuple[list[Event], list[Hit]]:
    """All events of a run, and what a watch on a word saw."""
    events: list[Event] = []
    stops = 0
    with Session("image", COW_FORK.read_bytes(), [], KernelConfig(time_limit=0)) as session:
        session.kernel.bus.subscribe(events.append)
        session.load()
        watches = Watches(session.machine.cpus)

        def through(cpu: Cpu, blocks: int, steps: int | None = None) -> Exit:
            nonlocal stops
            while isinstance(exit_ := Cpu.run(cpu, blocks, steps), Watched):
                stops, blocks = stops + 1, cpu.blocks_left
            return exit_

        for cpu in session.machine.cpus:
            cpu.run_by(through)
        if first is not None:
            watches.add(first, first + 4, flags, physical=physical)
        session.finish()
        hits = watches.hits()
    assert stops <= len(hits)
    return events, hits


def test_a_linear_watch_follows_the_mapping_through_copy_on_write() -> None:
    free, none = observe(None)
    events, hits = observe(WORD, WRITE)
    assert events == free and not none, "a watched run ends as one without"
    assert [(hit.old, hit.new) for hit in hits] == [(0, 7), (7, 8), (7, 9)]
    assert len({hit.physical for hit in hits}) == 2, "the second writer got a frame of its own"


def test_a_physical_watch_sees_the_kernels_routines() -> None:
    """The frame is cleared for the first process, written, and read for the copy of the second one."""
    _, (first, *_) = observe(WORD, WRITE)
    assert first.physical is not None
    free, _ = observe(None)
    events, hits = observe(first.physical, physical=True)
    assert events == free
    seen = [(hit.eip >= KERNEL, hit.write, hit.new) for hit in hits]
    at = seen.index((False, True, 7))
    assert (True, True, 0) in seen[:at] and (True, False, 7) in seen[at:]
    assert all(hit.physical is not None and hit.physical <= first.physical + 3 for hit in hits)
