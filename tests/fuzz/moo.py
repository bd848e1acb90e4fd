"""MOO files: tests with any code and registers, whole or mutated."""

from __future__ import annotations

from random import Random
from typing import Any

from sandbox.semantics import moo, moo_run
from sandbox.semantics.moo import NAMES_16, NAMES_32, REACH
from sandbox.x86.errors import SandboxError
from tests.fuzz import draws
from tests.semantics.moo_files import case, file


def drawn(draw: Random) -> dict[str, Any]:
    """A file in hexadecimal."""
    wide = draw.random() < 0.5
    tests = [_test(draw, wide) for _ in range(draw.randrange(1, 4))]
    data = file(*tests, processor="386E" if wide else "C286", mnemonic=draw.choice(("add", "shl", "div", "")))
    return {"data": (data if draw.random() < 0.5 else draws.mutate(draw, data, 200)).hex()}


def _test(draw: Random, wide: bool) -> bytes:
    names, mask = (NAMES_32, 0xFFFFFFFF) if wide else (NAMES_16, 0xFFFF)
    before = {name: draws.number(draw) & mask for name in names}
    code = draws.code(draw, draw.randrange(0, 12))
    start = (before["cs"] & 0xFFFF) * 16 + (before["eip" if wide else "ip"] & 0xFFFF)
    memory = {start + at: value for at, value in enumerate(code + b"\xf4")}
    memory |= {draw.randrange(REACH): draw.getrandbits(8) for _ in range(draw.randrange(8))}
    after = {name: draws.number(draw) & mask for name in draw.sample(names, 3)}
    exception = (draw.getrandbits(8), draw.getrandbits(32)) if draw.random() < 0.3 else None
    return case(code + b"\xf4", before, memory, after, {draw.getrandbits(32): 1}, exception=exception)


def run(made: dict[str, Any]) -> str:
    """Refused, or executed and compared."""
    try:
        parsed = moo.unpack(bytes.fromhex(made["data"]), "f")
    except SandboxError:
        return "refused"
    tally = moo_run.run(parsed)
    return f"{tally.ways.total()} of {tally.vectors.total()} differ"
