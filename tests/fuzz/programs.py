"""Programs and modules under the kernel: mutated ELF files, random code, random system calls."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from sandbox.image.assemble import assemble_source
from sandbox.image.build import manifests
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.drivers.console import BytesSource
from sandbox.runner.run import open_session
from sandbox.runner.session import Streams
from sandbox.runner.target import Target
from sandbox.x86.errors import SandboxError
from tests.fuzz import draws
from tests.robustness.storm import STRINGS, TABLE, make_table

BLOCKS, CALL_BLOCKS = 50_000, 5_000_000
"""What a guest may run before it is stopped; one that makes system calls more."""
SECONDS, LATE = 2.0, 20.0
"""What it may take, for a straight line of zeros, which is no block; and by how much a busy host may be late."""
LARGEST = 64 << 10
ROWS = (5, 60)
"""Calls of one input, between these."""
CODE = (16, 200)
GOOD = (
    ".intel_syntax noprefix\n.globl _start\n_start: mov ebx, [value]\nmov eax, 1\nint 0x80\n.skip 250, 0xcc\n"
    '.data\nvalue: .long 7\n.bss\n.skip 9000\n.section .note.GNU-stack,"",@progbits\n'
)
STORM = Path(__file__).with_name("calls.S")


@functools.cache
def corpus(kind: str) -> tuple[tuple[str, bytes], ...]:
    """Names and files of the collection's programs or modules that are not large."""
    found = [(each.name, each.image) for each in manifests() if each.kind == kind]
    return tuple((name, path.read_bytes()) for name, path in found if path.stat().st_size <= LARGEST)


@functools.cache
def built(source: str) -> bytes:
    """A program from a source's path, or text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(source if source.endswith(".S") else f"{folder}/p.S")
        if path != Path(source):
            path.write_text(source)
        assemble_source(path, Path(folder) / "p")
        return (Path(folder) / "p").read_bytes()


def machine(draw: Random) -> dict[str, Any]:
    """Options of a small machine."""
    made = {"paging": draw.choice(("pae", "legacy")), "ram": draw.choice((8, 16, 64)) << 20}
    return {**made, "cpus": draw.choice((1, 1, 1, 2)), "seed": draw.getrandbits(16)}


def elf(draw: Random) -> dict[str, Any]:
    """A program of the collection with a few bytes changed, most of them in its headers."""
    name, data = draw.choice(corpus("program"))
    return {"data": draws.mutate(draw, data, 260).hex(), "why": name, **machine(draw)}


def module(draw: Random) -> dict[str, Any]:
    """A module of the collection with a few bytes changed."""
    name, data = draw.choice(corpus("module"))
    return {"data": draws.mutate(draw, data, len(data)).hex(), "why": name, "kind": "module", **machine(draw)}


def code(draw: Random) -> dict[str, Any]:
    """A good program with random code at its entry."""
    good, text = built(GOOD), draws.code(draw, draw.randrange(*CODE))
    at = good.index(b"\x8b\x1d")
    return {"data": (good[:at] + text + good[at + len(text) :]).hex(), **machine(draw)}


def calls(draw: Random) -> dict[str, Any]:
    """Random system calls with hostile pointers; now and then the root is writable."""
    table = {"table": draw.getrandbits(32), "rows": draw.randrange(*ROWS), "writable": draw.random() < 0.25}
    return {"data": "storm", **table, **machine(draw)}


def _table(seed: int, rows: int) -> bytes:
    """What ``calls.S`` reads: the calls, exits behind them, how many they are, and paths."""
    made = bytearray(make_table(seed, rows))
    made[STRINGS - TABLE - 4 : STRINGS - TABLE] = rows.to_bytes(4, "little")
    return bytes(made)


def run(made: dict[str, Any], root: Path) -> str:
    """How the guest ends, in a word.  Raises AssertionError, and whatever is our own fault."""
    storm = made["data"] == "storm"
    data = built(str(STORM)) if storm else bytes.fromhex(made["data"])
    stdin = _table(made["table"], made["rows"]) if storm else b""
    kind, began = made.get("kind", "program"), time.monotonic()
    try:
        config = KernelConfig(
            paging=made["paging"], ram=made["ram"], cpus=made["cpus"], seed=made["seed"],
            block_limit=CALL_BLOCKS if storm else BLOCKS,
            time_limit=SECONDS, root=root / ("written" if made.get("writable") else "kept"),
            writable=bool(made.get("writable")), policies=made.get("policies", {}),
        )  # fmt: skip
        with open_session(Target("fuzzed", kind, data), config, Streams(BytesSource(stdin))) as session:
            result = session.finish()
    except SandboxError as error:
        if error.exit_status == 3:
            raise
        assert error.summary, error
        return "refused"
    took = time.monotonic() - began
    assert took < SECONDS + LATE, f"{took:.1f} seconds"
    if result.error:
        return "stopped"
    assert not result.summary.frames_lost, f"{result.summary.frames_lost} frames lost"
    return "killed" if result.signal else "ran"
