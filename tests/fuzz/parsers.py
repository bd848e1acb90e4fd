"""Readers alone: of symbols, objects, line numbers, call frames, manifests, recordings, MOO, expressions, packets.

They take a thousandth of a run, so these inputs are led by coverage: what reaches a new statement of a reader is
mutated on (``tests.fuzz.reach``).
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from sandbox.debug.expression import evaluate
from sandbox.debug.lines import LineTable, has_lines
from sandbox.debug.target import Refused
from sandbox.debug.unwind import FrameInfo
from sandbox.image import elf, manifest, relocatable
from sandbox.runner.recording import unpack
from sandbox.semantics import moo
from sandbox.x86.errors import SandboxError
from tests.debug.test_expression import Fixed
from tests.fuzz import draws, files, packets, texts
from tests.fuzz.moo import drawn
from tests.fuzz.reach import Reached, follow

SECONDS = 10.0
"""What one reading may take."""
SOURCE = """
struct pair { int first, second; };
static int twice(int n) { return n < 2 ? n : twice(n - 1) + twice(n - 2); }
static int sum(struct pair *p) { return p->first + p->second; }
void _start(void) { struct pair p = {1, twice(5)}; __asm__ volatile("int $0x80" :: "a"(1), "b"(sum(&p))); }
"""
ROUNDS, CORPUS = 40, 24
FOLLOWED = (
    "sandbox.debug.dwarf", "sandbox.debug.expression", "sandbox.debug.gdb.access", "sandbox.debug.gdb.files",
    "sandbox.debug.gdb.link", "sandbox.debug.gdb.objects", "sandbox.debug.gdb.packets", "sandbox.debug.gdb.processes",
    "sandbox.debug.gdb.replies", "sandbox.debug.gdb.resume", "sandbox.debug.gdb.running", "sandbox.debug.gdb.stub",
    "sandbox.debug.gdb.threads", "sandbox.debug.gdb.tls", "sandbox.debug.gdb.watchpoints", "sandbox.debug.lines",
    "sandbox.debug.unwind", "sandbox.image.elf", "sandbox.image.manifest", "sandbox.image.relocatable",
    "sandbox.image.symbols", "sandbox.runner.recording", "sandbox.semantics.moo", "elftools.construct.core",
    "elftools.dwarf.abbrevtable", "elftools.dwarf.callframe", "elftools.dwarf.compileunit", "elftools.dwarf.die",
    "elftools.dwarf.dwarfinfo", "elftools.dwarf.lineprogram", "elftools.dwarf.structs", "elftools.elf.elffile",
    "elftools.elf.relocation", "elftools.elf.sections", "elftools.elf.structs",
)  # fmt: skip
"""Modules of the readers, and of the library that reads ELF and DWARF for them."""
EXPRESSIONS = (
    b"(1 + $esp) * 2 % 7 - page", b"byte (page + 5) && *page || !child", b"<child+0x9> >> 'a' ^ 0804a000",
    b"qword page == 0x123456789 | ~1 & -2", b"0b101 << 010 <= word page",
)  # fmt: skip


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


def _expressions(data: bytes) -> None:
    """One a line."""
    for each in data.split(b"\n"):
        try:
            assert 0 <= evaluate(each.decode("latin-1"), Fixed()) < 1 << 64
        except Refused as error:
            assert error.summary
            assert "\n" not in error.summary, error.summary


TARGETS: dict[str, tuple[Callable[[bytes], object], Callable[[], bytes]]] = {
    "symbols": (_symbols, lambda: compiled("-static -no-pie")),
    "object": (_object, lambda: compiled("-c")),
    "lines": (_lines, lambda: compiled("-static -no-pie -gdwarf-5")),
    "lines-4": (_lines, lambda: compiled("-static -no-pie -gdwarf-4")),
    "placed": (_placed, lambda: compiled("-c")),
    "frames": (_frames, lambda: compiled("-static -no-pie -fasynchronous-unwind-tables")),
    "manifest": (_manifest, lambda: dict(texts.corpus())["cow-fork"].encode()),
    "recording": (lambda data: unpack(data), files.recording),
    "moo": (lambda data: moo.unpack(data), lambda: bytes.fromhex(drawn(Random(1))["data"])),
    "expression": (_expressions, lambda: b"\n".join(EXPRESSIONS)),
    "packets": (packets.answered, lambda: packets.GOOD),
}
"""Name, what reads a file's bytes, a good file."""


@functools.cache
def _manifest_words() -> tuple[bytes, ...]:
    """Lines of the collection's manifests, and values."""
    known = {each for _, text in texts.corpus() for each in text.encode().splitlines(keepends=True)}
    return (*sorted(known), *(each.encode() for each in texts.VALUES))


TEXTS: dict[str, Callable[[], tuple[bytes, ...]]] = {
    "manifest": _manifest_words,
    "expression": lambda: (
        b"(",
        b")",
        b"*",
        b"qword ",
        b"$",
        b"||",
        b"&&",
        b"/",
        b"%",
        b"<<",
        b"'(",
        b"<",
        b"+0x",
        b"\n",
    ),
    "packets": lambda: (*packets.WORDS, b",", b";", b":", b"=", b"p3.3", b"-1", b"0", b"ffffffff", b"\n", b"}", b"#"),
}
"""Readers of texts, and words that they know."""


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


def guided(draw: Random) -> dict[str, Any]:
    """A reader, and the seed by which its inputs are drawn: they depend on what those before have reached."""
    return {"target": draw.choice(sorted(TARGETS)), "seed": draw.getrandbits(32)}


def changed(draw: Random, name: str, data: bytes, dense: int) -> bytes:
    """Texts word by word mostly, else places that are bytes."""
    words = TEXTS.get(name)
    if words is None or draw.random() < 0.2:
        return draws.mutate(draw, data, dense)
    return draws.reword(draw, data, words())


def run(made: dict[str, Any]) -> str:
    """``ROUNDS`` inputs, each a mutation of one that reached something new; an input that is kept is read alone."""
    name = made["target"]
    if "data" in made:
        return read(name, bytes.fromhex(made["data"]))
    follow(*FOLLOWED)
    draw, reached = Random(made["seed"]), Reached()
    corpus = [TARGETS[name][1]()]
    reached.call(lambda: read(name, corpus[0]))
    for _ in range(ROUNDS):
        data = changed(draw, name, draw.choice(corpus), len(corpus[0]))
        try:
            new = reached.call(lambda data=data: read(name, data))  # type: ignore[misc]
        except Exception as error:
            raise AssertionError(f"{name}: {data.hex()}") from error
        if new:
            corpus = [*corpus[-CORPUS:], data]
    return f"{name}: {'much' if len(corpus) > 2 else 'little'} new"
