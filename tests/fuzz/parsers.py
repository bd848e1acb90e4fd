"""Readers of files, alone: symbols, objects, line numbers, call frames, manifests, recordings, multi-part headers.

They take a thousandth of a run, so these inputs are led by coverage: what reaches a new line of a reader is mutated on.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from sandbox.debug.lines import LineTable, has_lines
from sandbox.debug.unwind import FrameInfo
from sandbox.image import elf, manifest, relocatable
from sandbox.runner.recording import unpack
from sandbox.x86.errors import SandboxError
from tests.fuzz import draws, files, texts

SECONDS = 10.0
"""What one reading may take."""
SOURCE = """
struct pair { int first, second; };
static int twice(int n) { return n < 2 ? n : twice(n - 1) + twice(n - 2); }
static int sum(struct pair *p) { return p->first + p->second; }
void _start(void) { struct pair p = {1, twice(5)}; __asm__ volatile("int $0x80" :: "a"(1), "b"(sum(&p))); }
"""
ROUNDS, CORPUS = 10, 24


@functools.cache
def compiled(flags: str) -> bytes:
    """A small program, or object, with line numbers and call frames."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "p.c", Path(folder) / "p"
        source.write_text(SOURCE)
        base = ["gcc", "-m32", "-g", "-O0", "-fno-pic", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-w"]
        subprocess.run([*base, *flags.split(), "-o", str(out), str(source)], check=True, capture_output=True)
        return out.read_bytes()


def _symbols(data: bytes) -> None:
    table = elf.symbols(data)
    table.find(0x8048000)
    elf.parse_executable(data, "f")
    elf.code_ranges(data, "f")


def _object(data: bytes) -> None:
    relocatable.relocatable(data, "f")


def _lines(data: bytes) -> None:
    if has_lines(data):
        table = LineTable(data)
        table.at(0x8049000)
        table.address("p.c", 3)


def _placed(data: bytes) -> None:
    if has_lines(data):
        LineTable(data, {".text": 0x1000})


def _frames(data: bytes) -> None:
    bool(FrameInfo(data))


def _manifest(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.toml"
        path.write_bytes(data)
        manifest.load(path)


TARGETS: dict[str, tuple[Callable[[bytes], object], Callable[[], bytes]]] = {
    "symbols": (_symbols, lambda: compiled("-static -no-pie")),
    "object": (_object, lambda: compiled("-c")),
    "lines": (_lines, lambda: compiled("-static -no-pie -gdwarf-5")),
    "lines-4": (_lines, lambda: compiled("-static -no-pie -gdwarf-4")),
    "placed": (_placed, lambda: compiled("-c")),
    "frames": (_frames, lambda: compiled("-static -no-pie -fasynchronous-unwind-tables")),
    "manifest": (_manifest, lambda: dict(texts.corpus())["cow-fork"].encode()),
    "recording": (lambda data: unpack(data), files.recording),
}
"""Name, what reads a file's bytes, a good file."""


def read(name: str, data: bytes) -> str:
    """Refused with a line, or read."""
    began = time.monotonic()
    try:
        TARGETS[name][0](data)
    except SandboxError as error:
        if error.exit_status == 3:
            raise
        assert error.summary, error
        return "refused"
    finally:
        assert time.monotonic() - began < SECONDS
    return "read"


class Reached:
    """The lines of the package, and of the library that reads ELF for it, that a call comes to."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if "sandbox/" not in name and "elftools/" not in name:
            return None
        if event == "line":
            self.lines.add((name, frame.f_lineno))
        return self._trace

    def call(self, name: str, data: bytes) -> str:
        """Read, watched."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return read(name, data)
        finally:
            sys.settrace(before)


def guided(draw: Random) -> dict[str, Any]:
    """A reader, and the seed by which its inputs are drawn: they depend on what those before have reached."""
    return {"target": draw.choice(sorted(TARGETS)), "seed": draw.getrandbits(32)}


def run(made: dict[str, Any]) -> str:
    """``ROUNDS`` inputs, each a mutation of one that reached something new; an input that is kept is read alone."""
    name = made["target"]
    if "data" in made:
        return read(name, bytes.fromhex(made["data"]))
    draw, reached = Random(made["seed"]), Reached()
    corpus = [TARGETS[name][1]()]
    reached.call(name, corpus[0])
    for _ in range(ROUNDS):
        data = draws.mutate(draw, draw.choice(corpus), len(corpus[0]))
        known = len(reached.lines)
        try:
            reached.call(name, data)
        except Exception as error:
            raise AssertionError(f"{name}: {data.hex()}") from error
        if len(reached.lines) > known:
            corpus = [*corpus[-CORPUS:], data]
    return f"{name}: {'much' if len(corpus) > 2 else 'little'} new"
