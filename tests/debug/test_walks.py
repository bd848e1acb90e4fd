"""Random walks forwards and back: wherever a moment comes a second time, the whole machine is what it was.

Whole: all of RAM, every CPU's registers, the clock, and every event that was reported until then.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.open import open_target
from sandbox.debug.target import Target
from sandbox.debug.worker import Remote
from sandbox.image.manifest import IMAGES
from sandbox.machine.events import Event
from sandbox.runner.outside import Input, outside
from sandbox.runner.rom import rom_config
from sandbox.runner.target import resolve
from sandbox.x86.errors import ConfigurationError
from tests import ram
from tests.campaign import WHOLE

MOST_BLOCKS = 5_000_000
"""An image that waits or turns for ever is at its end then: a limit is a stop."""
SECONDS = 5.0
"""For a walk over one of all images."""
FORWARDS = ("step", "step 3", "step 40", "into", "into 7", "into 300", "next", "next 5", "finish", "continue")
BACKWARDS = ("reverse-step", "reverse-step 4", "reverse-next", "reverse-continue", "reverse-finish", "goto")
POINTS = {
    "program": ("catch fault", "catch flush", "catch syscall", "catch switch", "catch cow-copy", "catch irq"),
    "module": ("catch fault", "catch flush", "catch map"), "rom": ("catch fault", "catch trap", "catch delivery"),
}  # fmt: skip
DOZEN: list[tuple[str, dict[str, Any]]] = [
    ("cow-fork", {}), ("fork-tree", {"paging": "legacy"}), ("smp-refill", {"cpus": 2, "seed": 3}),
    ("race-cow", {"cpus": 2, "seed": 5, "races": ()}), ("module-asm", {}), ("vmalloc-sync", {}), ("stack-catch", {}),
    ("rom-smp-shootdown", {"cpus": 2}), ("rom-interrupt-window", {}), ("smp-refill", {"sanitize": frozenset({"tlb"})}),
    ("rom-stale-tlb", {"sanitize": frozenset({"tlb"})}), ("death-signals", {}),
]  # fmt: skip


class Told:
    """A check sum over all that was reported; each copy of the process has its own."""

    def __init__(self, target: Target) -> None:
        self.sum = 0
        target.machine.bus.subscribe(self._event, Event)

    def _event(self, event: Event) -> None:
        self.sum = zlib.crc32(repr(event).encode(), self.sum)


def whole(debugger: Debugger) -> tuple[str, ...]:
    """What must be equal: moment, registers, RAM, clock and faults, events, and what the sanitizer has said."""
    target, told = debugger.target, debugger.target.told  # type: ignore[attr-defined]
    registers = [
        (cpu.context.general(), cpu.context.eip, cpu.context.eflags, cpu.context.cr0, cpu.context.cr2, cpu.context.cr3)
        for cpu in target.machine.cpus
    ]
    assert debugger.stop is not None
    memory = ram.digest(target.machine.memory)
    clock = f"{target.control.time_at(target.cpu)} {target.fault_count}"
    reports = "" if isinstance(target, KernelTarget) and not target.session.sanitizer else repr(target.reports())
    return str(debugger.stop.moment), repr(registers), memory, clock, str(told.sum), reports


@contextmanager
def walker(name: str, changes: dict[str, Any]) -> Iterator[tuple[Remote, str]]:
    image = resolve(f"images/{name}")
    config = rom_config(image, **changes) if image.kind == "rom" else image.config(**changes)
    config.time_limit, config.block_limit = 0, config.block_limit or MOST_BLOCKS
    given = image.manifest.stdin.encode() if image.manifest is not None else b""

    def build() -> Target:
        made = open_target(image, config, outside(Input(given)) if image.kind != "rom" else None)
        made.told = Told(made)  # type: ignore[attr-defined]
        return made

    with Remote(build) as remote:
        yield remote, image.kind


def walk(name: str, changes: dict[str, Any], length: int, seed: int, seconds: float = inf) -> int:
    """How often a moment came again, on so many steps or in so many seconds of the host's time."""
    chosen, seen, again = random.Random(f"{name} {seed}"), dict[str, tuple[str, ...]](), 0
    end = time.monotonic() + seconds
    with walker(name, changes) as (remote, kind):
        remote.execute(chosen.choice(POINTS[kind]))
        for _ in range(length):
            if time.monotonic() > end:
                break
            line = chosen.choice(chosen.choice((FORWARDS, BACKWARDS)))
            if line == "goto":
                line = f"goto {chosen.choice(list(seen.values()))[-1]}" if seen else "goto start"
            answer = remote.execute(line)
            if answer.stop is None or answer.stop.ended:
                continue
            now = remote.call(whole)
            before = seen.setdefault(now[0], (*now, answer.stop.moment.text()))
            again += before[:-1] == now
            assert before[:-1] == now, f"{name}, seed {seed}: {line}: {answer.lines}"
    return again


@pytest.mark.parametrize(("name", "changes"), DOZEN, ids=lambda each: str(each))
def test_the_same_moment_is_the_same_machine(name: str, changes: dict[str, Any]) -> None:
    assert walk(name, changes, 24, 1) > 3


EVERY = sorted(path.parent.name for path in IMAGES.glob("*/manifest.toml"))


@pytest.mark.campaign
@pytest.mark.skipif(not WHOLE, reason="minutes an image: make campaign")
@pytest.mark.parametrize("name", EVERY)
def test_every_image(name: str) -> None:
    for seed in range(2, 5):
        try:
            walk(name, {}, 40, seed, SECONDS)
        except ConfigurationError as error:
            pytest.skip(error.summary)
