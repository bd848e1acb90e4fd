"""MOO files against the sandbox's CPU in real mode: a test becomes a vector and a result, and is compared as others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sandbox.engine import mends
from sandbox.records import dataclass, replace
from sandbox.semantics import moo, undefined
from sandbox.semantics.campaign import Chunk, Tally, timed
from sandbox.semantics.compare import compare
from sandbox.semantics.moo import BadMoo, Head, MooFile, MooTest
from sandbox.semantics.processor import Processor
from sandbox.semantics.realmode import RealModeCpu
from sandbox.semantics.vector import REGISTERS, Fault, Result, Vector
from sandbox.x86.instruction import LEGACY_PREFIXES

HLT = b"\xf4"
_COUNTS = {0xC0: "Ib", 0xC1: "Ib", 0xD0: "1", 0xD1: "1", 0xD2: "CL", 0xD3: "CL"}
_DOUBLE_COUNTS = {0xA4: "Ib", 0xA5: "CL", 0xAC: "Ib", 0xAD: "CL"}
"""Shifts, and behind 0F: what their last operand is."""
_ALIASES = {"sal": "shl"}
FLAGS = {"C286": 0x0FFF, "386E": 0xFFFF}
"""Bits of the flags that there are in real mode: the 286 keeps IOPL and NT clear (80286 Programmer's Reference, 1985,
5.1), the 386 has nothing above 17, and VM and RF are not for real mode (SingleStepTests, README of 80286 and 80386)."""
POINTER = {"C286": 0xFFFF, "386E": 0xFFFFFFFF}
"""Bits of the instruction pointer: behind a HLT at FFFFh the 286's is 0."""
BATCH = 256
CHUNK = 1024
"""Tests between two looks at the clock, and lost when a run is cut."""


def processor_of(file: MooFile | Head) -> Processor:
    """Who gave the results."""
    return Processor(file.processor, moo.PROCESSORS[file.processor], "none")


def vector_of(file: MooFile, test: MooTest) -> Vector:
    """A test's state before it, ``memory`` in physical pieces, without the HLT behind its code."""
    before, code = test.before.registers, test.code.removesuffix(HLT) or HLT
    return Vector(
        form_of(file, test, code),
        code,
        before["eip"],
        tuple(before[name] for name in REGISTERS),
        before["eflags"] & FLAGS[file.processor],
        tuple(_pieces(test.before.ram)),
        None,
        0,
        tuple(before.get(name, 0) for name in moo.SEGMENTS),
    )


def form_of(file: MooFile, test: MooTest, code: bytes) -> str:
    """Mnemonic and opcode; of shifts their operands, as the table of what is undefined has them."""
    mnemonic = file.mnemonic or (test.name.split() or ["?"])[0]
    mnemonic = _ALIASES.get(mnemonic, mnemonic)
    opcode = code.lstrip(LEGACY_PREFIXES) or code
    count = _COUNTS.get(opcode[0]) or (_DOUBLE_COUNTS.get(opcode[1]) if opcode[:1] == b"\x0f" and opcode[1:] else None)
    if count is not None:
        wide = opcode[0] & 1 or opcode[0] == 0x0F
        return f"{mnemonic} {'Ew' if wide else 'Eb'},{count}"
    return f"{mnemonic} {opcode[: 1 + (opcode[0] == 0x0F)].hex().upper()}"


def _pieces(ram: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, bytes]]:
    """Bytes put together where they follow each other; the last of an address counts."""
    first, data = 0, bytearray()
    for address, value in sorted(dict(ram).items()):
        if data and address != first + len(data):
            yield first, bytes(data)
            data = bytearray()
        if not data:
            first = address
        data.append(value)
    if data:
        yield first, bytes(data)


def result_of(file: MooFile, test: MooTest, vector: Vector) -> Result:
    """What the processor left: ``written`` are bytes, ``eip`` is behind the HLT."""
    after = {**test.before.registers, **test.after.registers}
    was = dict(test.before.ram)
    written = {address: value for address, value in test.after.ram if value != was.get(address, 0)}
    return Result(
        tuple(after[name] for name in REGISTERS),
        after["eip"],
        after["eflags"],
        tuple(after.get(name, 0) & 0xFFFF for name in moo.SEGMENTS),
        tuple(sorted(written.items())),
        None if test.exception is None else Fault(test.exception[0]),
    )


def visible(file: MooFile, test: MooTest, vector: Vector, theirs: Result, mine: Result) -> Result:
    """One of both results without what neither is judged by: the file's own masks, flags that there are not, and
    undefined ones in the flags that an exception has pushed."""
    masks = {**file.masks, **test.after.masks}
    flags = FLAGS[file.processor] & masks.get("eflags", 0xFFFFFFFF)
    written = mine.written
    if test.exception is not None:
        pushed = flags & ~undefined.flags_of(vector, file.processor, theirs)
        after = {**test.before.registers, **test.after.registers}
        at = (after["ss"] << 4) + (
            after["esp"] + 4 & 0xFFFF
        )  # the file's own address is a bus cycle's, one less if odd
        kept = {at: pushed & 0xFF, at + 1: pushed >> 8 & 0xFF}
        was = dict(test.before.ram)
        now = {each: dict(written).get(each, was.get(each, 0)) & keep for each, keep in kept.items()}
        written = tuple(sorted((dict(written) | now).items()))
    registers = tuple(
        value & masks.get(name, 0xFFFFFFFF) for name, value in zip(REGISTERS, mine.registers, strict=True)
    )
    eip = mine.eip & POINTER[file.processor]
    return replace(mine, registers=registers, eip=eip, eflags=mine.eflags & flags, written=written)


@dataclass(frozen=True, slots=True)
class MooPlan:
    """Files of one processor: path, tests, digest of each."""

    files: tuple[tuple[str, int, str], ...]
    processor: Processor
    engine: str

    def chunks(self) -> list[Chunk]:
        """Path, first test, tests."""
        return [
            (path, first, min(CHUNK, count - first))
            for path, count, _ in self.files
            for first in range(0, count, CHUNK)
        ]

    def do(self, chunk: Chunk) -> Tally:
        path, first, count = chunk
        return run(moo.read(Path(path), slice(first, first + count)))


def plan(paths: Sequence[Path], engine: str) -> MooPlan:
    """Raises BadMoo, also for files of different processors."""
    heads = [moo.head(path) for path in paths]
    for path, head in zip(paths, heads, strict=True):
        if head.processor != heads[0].processor:
            raise BadMoo(f"{path}: is of another processor than {paths[0]}")
    files = tuple((str(path), head.count, head.digest) for path, head in zip(paths, heads, strict=True))
    return MooPlan(files, processor_of(heads[0]), engine)


def run(file: MooFile) -> Tally:
    """Execute and compare all tests of a file."""
    tally, ours = Tally(), RealModeCpu()
    try:
        for first in range(0, len(file.tests), BATCH):
            _batch(file, file.tests[first : first + BATCH], ours, tally)
    finally:
        ours.close()
    return tally


def _batch(file: MooFile, tests: tuple[MooTest, ...], ours: RealModeCpu, tally: Tally) -> None:
    vectors = [vector_of(file, each) for each in tests]
    for test, vector, got in zip(tests, vectors, timed(ours.run, vectors, tally, "sandbox"), strict=True):
        theirs = result_of(file, test, vector)
        pair = [visible(file, test, vector, theirs, each) for each in (theirs, got)]
        tally.vectors[vector.form] += 1
        divergence = compare(vector, pair[0], pair[1], file.processor, mends.chosen())
        if divergence is not None:
            tally.note(divergence)


def run_file(path: str) -> dict[str, Any]:
    """The tally of a file as plain data: work for a campaign's item."""
    return run(moo.read(Path(path))).to_dict()
