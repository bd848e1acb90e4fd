"""What is not compared, by one table with its sources (``undefined.toml``)."""

from __future__ import annotations

import functools
import struct
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from sandbox.records import dataclass, replace
from sandbox.semantics.vector import ECX, Fault, Result, Vector
from sandbox.x86.instruction import LEGACY_PREFIXES
from sandbox.x86.masks import AF, CF, OF, PF, RF, SF, ZF

FLAGS = {"CF": CF, "PF": PF, "AF": AF, "ZF": ZF, "SF": SF, "OF": OF, "RF": RF}
KERNEL = 0xC0000000
_ROUGH = 0xFFFFE000
"""Of a single-precision approximation: sign, exponent and the first ten bits."""
_SHAPES = {"fnstenv": (28, 12), "fnsave": (108, 12), "fxsave": (512, 8)}


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the table."""

    mnemonics: tuple[str, ...]
    flags: int
    parts: tuple[str, ...]
    when: str
    processor: str
    source: str


@functools.cache
def rules() -> tuple[Rule, ...]:
    """The table."""
    text = (Path(__file__).parent / "undefined.toml").read_text()
    return tuple(
        Rule(
            tuple(each["mnemonics"]),
            sum(FLAGS[name] for name in each.get("flags", ())),
            tuple(each.get("parts", ())),
            each.get("when", ""),
            each.get("processor", ""),
            each["source"],
        )
        for each in tomllib.loads(text)["undefined"]
    )


@functools.cache
def _rules_for(mnemonic: str, processor: str) -> tuple[Rule, ...]:
    return tuple(
        rule
        for rule in rules()
        if any(fnmatchcase(mnemonic, each) for each in rule.mnemonics) and rule.processor in ("", processor)
    )


@functools.lru_cache(1)
def _last(vector: Vector, processor: str, result: Result) -> tuple[int, tuple[str, ...]]:
    flags, parts = 0, list[str]()
    for rule in _rules_for(vector.form.partition(" ")[0], processor):
        if not rule.when or _holds(rule.when, vector, result):
            flags |= rule.flags
            parts += rule.parts
    return flags, tuple(parts)


def masked(vector: Vector, processor: str, theirs: Result, ours: Result) -> tuple[Result, Result]:
    """Both results without what the table leaves open; ``processor`` is the vendor of who gave ``theirs``."""
    flags, parts = _last(vector, processor, theirs)
    keep = ~flags
    if theirs.eflags != ours.eflags:
        theirs, ours = replace(theirs, eflags=theirs.eflags & keep), replace(ours, eflags=ours.eflags & keep)
    for part in parts:
        theirs, ours = _PARTS[part](vector, theirs, ours)
    return theirs, ours


def _holds(when: str, vector: Vector, result: Result) -> bool:
    if when == "ZF":
        return bool(result.eflags & ZF)
    count, size = _count(vector)
    return {
        "count>0": count > 0,
        "count!=1": count != 1,
        "count>=size": count >= size,
        "count>size": count > size,
    }[when]


def _count(vector: Vector) -> tuple[int, int]:
    """The count of a shift as the CPU takes it, and its operand's size, in bits."""
    operands = vector.form.partition(" ")[2].split(",")
    opcode = vector.code.lstrip(LEGACY_PREFIXES)
    narrow = 0x66 in vector.code[: len(vector.code) - len(opcode)]
    count = {"1": 1, "CL": vector.registers[ECX], "Ib": vector.code[-1]}[operands[-1]] & 31
    return count, 8 if operands[0] == "Eb" else 16 if narrow else 32


def _without_destination(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    """The first operand, or ModRM's register where it is the destination: what differs is taken from the other."""
    differing = [at for at in range(8) if theirs.registers[at] != ours.registers[at]]
    if len(differing) == 1:
        ours = replace(ours, registers=theirs.registers)
    if vector.operand and {at for at, _ in theirs.written + ours.written} <= set(_words_of(vector, 4)):
        ours = replace(ours, written=theirs.written)
    return theirs, ours


def _words_of(vector: Vector, size: int) -> Iterator[int]:
    return iter(range(vector.operand & ~3, vector.operand + size, 4))


def _approximate(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    return _rough(theirs), _rough(ours)


def _rough(result: Result) -> Result:
    if result.fpu is None:
        return result
    words = struct.unpack("<32I", result.fpu.xmm)
    xmm = struct.pack("<32I", *(each & _ROUGH for each in words))
    return replace(result, fpu=replace(result.fpu, xmm=xmm))


def _without_pointers(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    """x87's last instruction and operand in what is stored, and the upper halves of the words before them."""
    size, first = _SHAPES[vector.form.partition(" ")[0]]
    narrow = vector.code[0] == 0x66 or 0x66 in vector.code[:4]
    start = 6 if narrow and size != 512 else first
    end = start + (8 if narrow and size != 512 else 16)
    hidden = {vector.operand + at & ~3 for at in range(start, end)}
    if size == 512:
        hidden |= {vector.operand + at & ~3 for at in (6, 7)}
    return _without_words(theirs, hidden), _without_words(ours, hidden)


def _without_words(result: Result, hidden: set[int]) -> Result:
    return replace(result, written=tuple(each for each in result.written if each[0] not in hidden))


def _kernel_address(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    return _with_present(theirs), _with_present(ours)


def _with_present(result: Result) -> Result:
    fault = result.fault
    if fault is None or fault.vector != 14 or fault.address < KERNEL:
        return result
    return replace(result, fault=Fault(fault.vector, fault.error | 1, fault.address))


_PARTS = {
    "destination": _without_destination,
    "approximation": _approximate,
    "pointers": _without_pointers,
    "kernel-address": _kernel_address,
}
