"""Images of the collection on random machines: sizes, CPUs, policies, devices, races, failures, left-out steps."""

from __future__ import annotations

import functools
import time
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from sandbox.debug.commands import COMMANDS
from sandbox.debug.debugger import Debugger
from sandbox.debug.open import open_target
from sandbox.image.build import manifests
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.inject import SWITCHES
from sandbox.kernel.base.policies import POLICIES
from sandbox.kernel.base.races import POINTS
from sandbox.machine.switches import SWITCHES as BARE_SWITCHES
from sandbox.runner.machine import DEVICES
from sandbox.runner.rom import RomConfig, rom_config, run_rom
from sandbox.runner.run import run_target
from sandbox.runner.target import Target, resolve
from sandbox.x86.errors import SandboxError
from tests.fuzz import draws

BLOCKS, SECONDS, LATE = 150_000, 2.0, 20.0
STEPPED = 0.3
"""Seconds of a session: a command that steps over a long way costs a hundred times what running it does."""
BOOTS = (
    "",
    "mem=16m",
    "mem=4m",
    "mem=1G",
    "memexclude=14m-16m",
    "vmalloc=8m",
    "nosuch",
    "mem=x",
    "mem=0x1000000",
    "a=b c",
)
ROMS = ("ram", "cpus", "seed", "switches")
WORDS = (
    "$eip", "$esp", "$eax", "_start", "0", "1", "-1", "0x8048000", "0xc0100000", "0xffffffff", "fault 1", "fault 2",
    "to",
    "if", "r", "w", "x", "q", "pte", "cr3", "physical", "mode",
    "syscall", "all", "pid 1", "1 2", "/4x", "/s", "/i", "*",
    "+",
    "$eip+4", "a", "mark", "gdt", "idt", "tss", "regs", "as user", "mm 1", "=", "1000", "ring", "kernel", "2", "",
)  # fmt: skip
STOPS = ("goto", "reverse-step", "reverse-next", "reverse-continue", "reverse-finish", "quit", "restart")
"""What needs checkpoints, which are forks, or ends it all."""


@functools.cache
def names() -> tuple[str, ...]:
    """The collection's images that can be run by themselves."""
    return tuple(str(each.path) for each in manifests() if not each.helper)


def machine(draw: Random) -> dict[str, Any]:
    """An image and a few options, each of them sensible or not."""
    options: dict[str, Any] = {
        "ram": draw.choice((4, 8, 14, 16, 17, 64, 128, 900, 1024, 3072, 4096)) << 20,
        "cpus": draw.choice((1, 1, 2, 3, 8)),
        "paging": draw.choice(("pae", "legacy")),
        "highmem": draw.choice(("", "", "off", "4G", "64G")),
        "direct_map": draw.choice((0, 8 << 20, 12 << 20, 800 << 20, 896 << 20, 897 << 20)),
        "boot": draw.choice(BOOTS),
        "policies": {
            name: draw.choice([*POLICIES[name], "x"][: draw.choice((-1, 9))]) for name in _some(draw, POLICIES)
        },
        "devices": [name + draw.choice(("", "", "@d0000000", "@100000", "@x")) for name in _some(draw, DEVICES)],
        "switches": draw.sample(sorted({*SWITCHES, *BARE_SWITCHES}), draw.choice((0, 0, 1, 1, 2))),
        "races": [[draw.choice(POINTS), draw.randrange(1, 5)] for _ in range(draw.randrange(4))],
        "fail_allocation": draw.choice((1, 2, 3, 10, 50, draw.randrange(500))),
        "seed": draw.getrandbits(16),
        "quantum": draw.choice((10_000, 20_000, 1)),
        "holes": [[draw.choice((0, 0x100000, 0xF00000, 0x1000, 1)), draw.choice((0x1000, 0x100000, 1))]],
        "stack_limit": draw.choice((0, 4096, 1 << 20, 1 << 31)),
    }
    kept = draw.sample(sorted(options), draw.randrange(1, 6))
    return {"image": Path(draw.choice(names())).parent.name, "options": {name: options[name] for name in kept}}


def _some(draw: Random, table: dict[str, Any]) -> list[str]:
    return draw.sample(sorted(table), min(draw.choice((0, 1, 2)), len(table)))


def _image(name: str) -> Target:
    return resolve(f"images/{name}")


def _config(target: Target, options: dict[str, Any]) -> KernelConfig | RomConfig:
    given = {**options, "block_limit": BLOCKS, "time_limit": SECONDS}
    given["switches"] = frozenset(options.get("switches", ()))
    if target.kind == "rom":
        return rom_config(
            target, **{name: given[name] for name in (*ROMS, "block_limit", "time_limit") if name in given}
        )
    for name in ("devices", "races", "holes"):
        if name in given:
            given[name] = tuple(tuple(each) if isinstance(each, list) else each for each in given[name])
    return target.config(**given)


def run(made: dict[str, Any]) -> str:
    """Refused in a line, or run to an end or a limit; a machine with a step left out may end by any error."""
    began = time.monotonic()
    try:
        target = _image(made["image"])
        config = _config(target, made["options"])
        result = run_rom(target, config) if isinstance(config, RomConfig) else run_target(target, config)
    except SandboxError as error:
        if error.exit_status == 3 and not made["options"].get("switches"):
            raise
        return "refused" if error.exit_status == 2 else "broken"
    took = time.monotonic() - began
    assert took < SECONDS + LATE, f"{took:.1f} seconds"
    return "stopped" if result.error else "killed" if result.signal else "ran"


def session(draw: Random) -> dict[str, Any]:
    """An image, and lines for the debugger."""
    verbs = [name for name in COMMANDS if name not in STOPS]
    lines = []
    for _ in range(draw.randrange(3, 14)):
        words = " ".join(draw.choice(WORDS) for _ in range(draw.choice((0, 1, 1, 2, 3))))
        line = f"{draw.choice(verbs)} {words}".strip()
        lines.append(draws.mutate(draw, line.encode(), 40).decode("latin-1") if draw.random() < 0.1 else line)
    return {"image": Path(draw.choice(names())).parent.name, "lines": lines}


def debug(made: dict[str, Any]) -> str:
    """Every line is answered; what is refused in one line."""
    target = _image(made["image"])
    refused = 0
    config = _config(target, {})
    config.time_limit = STEPPED
    with closing(open_target(target, config)) as opened:
        debugger = Debugger(opened)
        debugger.begin()
        for line in made["lines"]:
            answer = debugger.execute(line)
            assert "\n" not in answer.error, (line, answer.error)
            refused += bool(answer.error)
    return "all refused" if refused == len(made["lines"]) else "answered"
