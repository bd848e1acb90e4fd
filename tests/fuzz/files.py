"""Recordings, snippets, vectors: files that somebody has changed, texts for the assembler, code for a CPU by itself."""

from __future__ import annotations

import copy
import functools
import json
import re
import zlib
from pathlib import Path
from random import Random
from typing import Any

from sandbox import api
from sandbox.image.snippet import SnippetError, snippet
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.recording import HEADER, VERSION, Ending, Recording, unpack
from sandbox.runner.target import Target
from sandbox.x86.errors import SandboxError
from tests.fuzz import draws, programs

LINES = Path(__file__).parents[1] / "image" / "keystone_lines.txt"
ODD = (
    "[",
    "]",
    "+",
    "*8",
    ",",
    "ptr",
    "byte",
    "0x",
    "-",
    "1e9",
    "(",
    "$",
    "%",
    "st(9)",
    "lock ",
    ";",
    "#",
    "\x00",
    "é",
    "fs:",
)
REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
VALUES: tuple[Any, ...] = (
    None, 0, -1, 1.5, "", "x", [], {}, [1], {"a": 1}, True, 1 << 40, 1 << 80, float("nan"), "\ud800",
)  # fmt: skip


@functools.cache
def recording() -> bytes:
    """A good one."""
    target = Target("good", "program", programs.built(programs.GOOD), ["a"])
    return Recording(target, KernelConfig(files={"/etc/x": b"x"}), ending=Ending(10, 7)).pack()


def changed_recording(draw: Random) -> dict[str, Any]:
    """Bytes changed anywhere; or its description, and all checksums right."""
    data = recording()
    if draw.random() < 0.3:
        return {"data": draws.mutate(draw, data, HEADER.sizeof() + 16).hex()}
    head = HEADER.parse(data)
    body = zlib.decompress(data[HEADER.sizeof() :])
    told, rest = json.loads(body[: head.description]), body[head.description :]
    for _ in range(draw.randrange(1, 4)):
        place: Any = told
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and draw.random() < 0.7:
                place = place[key]
                continue
            break
        if draw.random() < 0.2 and isinstance(place, dict):
            del place[key]
        else:
            place[key] = copy.deepcopy(draw.choice((*VALUES, draws.number(draw))))  # else it is changed for the next
        if not told:
            break
    text = json.dumps(told).encode()
    if draw.random() < 0.1:
        text = draws.mutate(draw, text, len(text))
    packed = zlib.compress(text + rest)
    sizes = {"packed": len(packed), "unpacked": len(text + rest), "description": len(text)}
    if draw.random() < 0.1:
        sizes[draw.choice(sorted(sizes))] = draws.number(draw)
    return {"data": (HEADER.build({"version": VERSION, "crc": zlib.crc32(packed), **sizes}) + packed).hex()}


def read(made: dict[str, Any]) -> str:
    """Refused in a line, or read."""
    try:
        unpack(bytes.fromhex(made["data"]))
    except SandboxError as error:
        if error.exit_status == 3:
            raise
        assert "\n" not in error.summary, error.summary
        return "refused"
    return "read"


@functools.cache
def lines() -> tuple[str, ...]:
    """Instructions in Intel syntax."""
    return tuple(line.split("\t")[0] for line in LINES.read_text().splitlines())


def text(draw: Random) -> dict[str, Any]:
    """A few instructions, with words changed, added and lost."""
    made = []
    for _ in range(draw.randrange(1, 4)):
        words = re.split(r"(?<=[ ,\[\]+*])", draw.choice(lines()))
        for _ in range(draw.randrange(3)):
            at = draw.randrange(len(words))
            other = re.split(r"(?<=[ ,\[\]+*])", draw.choice(lines()))
            words[at : at + draw.choice((0, 1, 1, 2))] = [draw.choice((*other, *ODD, str(draws.number(draw))))]
            words = words or [""]
        made.append("".join(words))
    return {"text": draw.choice(("\n", ";")).join(made), "address": draws.number(draw)}


def assemble(made: dict[str, Any]) -> str:
    """Refused with its line, or assembled."""
    try:
        snippet(made["text"], made["address"])
    except SnippetError as error:
        assert error.exit_status == 2
        assert "\n" not in error.summary, error.summary
        return "refused"
    return "assembled"


def vector(draw: Random) -> dict[str, Any]:
    """A few bytes of code, and registers."""
    registers = {
        name: draws.number(draw) if draw.random() < 0.5 else 0x500000 + draw.randrange(0x10000) for name in REGISTERS
    }
    if draw.random() < 0.2:
        registers["eflags"] = draw.getrandbits(32)
    return {"code": draws.code(draw, draw.randrange(1, 24)).hex(), "registers": registers}


def execute(made: dict[str, Any]) -> str:
    """Done, faulted, or stopped."""
    done = api.execute(bytes.fromhex(made["code"]), made["registers"])
    return "stopped" if not done.ended else "done" if done.vector is None else f"vector {done.vector}"
