"""One stopped guest of each kind, and all that looking at it must leave alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandbox.debug.debugger import Debugger
from sandbox.debug.open import open_target
from sandbox.debug.target import Target
from sandbox.debug.worker import Remote
from sandbox.runner.rom import rom_config
from sandbox.runner.target import resolve
from tests import ram

KINDS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("cow-fork", {"ram": 16 << 20}, ("break child", "continue")),
    ("cow-fork", {"ram": 16 << 20, "paging": "legacy"}, ("run to fault 3",)),
    ("kmalloc", {"ram": 16 << 20}, ("step 3",)),
    ("rom-stale-tlb", {"ram": 8 << 20}, ("break 0x1001c0", "continue")),
    ("rom-double-fault", {"ram": 8 << 20}, ("run to fault 1",)),
]
"""Image, machine, and commands to the place where it stands: running code, and before the answer of a fault."""
NAMES = [f"{name}{'-legacy' * (changes.get('paging') == 'legacy')}" for name, changes, _ in KINDS]


LOOKS = (
    "regs", "info registers", "info cr", "info segments", "info gdt", "info ldt", "info idt", "info tss", "info cpus",
    "info topics", "info points", "info faults", "info frames", "info zones", "info vmalloc", "info kmap", "info kva",
    "info modules", "info signals", "info tasks",
    "code", "code $eip 30", "x $esp", "x/8xw $esp", "xp 0x100000", "x/4i $eip", "print *$esp", "backtrace", "list",
    "walk $eip x", "walk $esp w as user", "walk $esp w as supervisor", "walk $eip r cr3 $cr3", "walk 0xfffff000 w",
    "walk $eip x mm 3", "dump", "dump cr3 $cr3", "dump cr3 0x1234567f", "dump mm 3", "tlb", "tlb 0",
    "page 0", "page 0x100", "page 0x101", "page 0xfffff", "who $eip", "who $esp", "who 0", "who 0xc0100000",
    "who frame 0x102", "who 0xfee00000", "maps", "tasks", "explain", "explain fault 2", "explain fault 1", "when",
)  # fmt: skip
"""All that there is to look at, with right and wrong words."""


@contextmanager
def stopped(name: str, changes: dict[str, Any], commands: tuple[str, ...]) -> Iterator[Remote]:
    image = resolve(f"images/{name}")
    config = rom_config(image, **changes) if image.kind == "rom" else image.config(**changes)
    config.time_limit = 0
    with Remote(lambda: open_target(image, config)) as made:
        for line in commands:
            assert not made.execute(line).error
        yield made


def run(remote: Remote, *commands: str) -> list[str]:
    """The last one's lines."""
    for line in commands:
        answer = remote.execute(line)
        assert not answer.error, answer.error
    return answer.lines


def to_the_end(target: Target, *commands: str) -> None:
    """From its beginning by the commands, and then on until it is over."""
    debugger = Debugger(target)
    debugger.begin()
    for line in commands:
        assert not debugger.execute(line).error
    while target.result is None:
        debugger.execute("continue")


def everything(debugger: Debugger) -> tuple[Any, ...]:
    """All of RAM (so every A and D bit), every byte of the CPUs' states, the clock, the points, what is looked at."""
    target = debugger.target
    assert debugger.stop is not None
    registers = tuple(bytes(cpu.context.data) for cpu in target.machine.cpus)
    memory = ram.digest(target.machine.memory)
    points = [each.to_dict() for each in debugger.points]
    return debugger.stop.moment, target.now, target.fault_count, registers, memory, points, target.viewed_cpu
