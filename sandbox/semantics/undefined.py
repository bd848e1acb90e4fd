"""What is not compared, by one table with its sources (``undefined.toml``)."""

from __future__ import annotations

import functools
import struct
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from sandbox.records import dataclass, replace
from sandbox.semantics.vector import CODE16_SELECTOR, ECX, Fault, Result, Vector, word_before
from sandbox.x86.instruction import LEGACY_PREFIXES
from sandbox.x86.masks import AF, CF, OF, PF, RF, SF, ZF

FLAGS = {"CF": CF, "PF": PF, "AF": AF, "ZF": ZF, "SF": SF, "OF": OF, "RF": RF}
KERNEL = 0xC0000000
_ROUGH = 0xFFFFE000
"""Of a single-precision approximation: sign, exponent and the first ten bits."""
_LIMIT = 0xF0000
_RESERVED = (*range(28, 32), *(at for first in range(42, 160, 16) for at in range(first, first + 6)), *range(288, 512))
"""Offsets in FXSAVE's area, the mask's among them."""


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


def flags_of(vector: Vector, processor: str, result: Result) -> int:
    """The flags that the table leaves open."""
    return _last(vector, processor, result)[0]


def _holds(when: str, vector: Vector, result: Result) -> bool:
    if when == "ZF":
        return bool(result.eflags & ZF)
    if when == "repeated":
        return not {0xF2, 0xF3}.isdisjoint(_prefixes(vector))
    count, size = _count(vector)
    return {
        "count>0": count > 0,
        "count!=1": count != 1,
        "count>=size": count >= size,
        "count>size": count > size,
    }[when]


def _count(vector: Vector) -> tuple[int, int]:
    """The count of a shift as the CPU takes it, and its operand's size, in bits; Ew: 16, or 32 with 66h; 0 for
    what is none, as a MOO file may call anything a shift."""
    operands = vector.form.partition(" ")[2].split(",")
    narrow = _narrow(vector) != (operands[0] == "Ew")
    count = {"1": 1, "CL": vector.registers[ECX], "Ib": vector.code[-1]}.get(operands[-1], 0) & 31
    return count, 8 if operands[0] == "Eb" else 16 if narrow else 32


def _narrow(vector: Vector) -> bool:
    """Operands have 16 bits: by 66h, or in code of 16 bits without it."""
    return (0x66 in _prefixes(vector)) != (vector.selectors[0] == CODE16_SELECTOR)


def _prefixes(vector: Vector) -> bytes:
    return vector.code[: len(vector.code) - len(vector.code.lstrip(LEGACY_PREFIXES))]


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


def _without_reserved(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    """What FXSAVE stores, without its mask and reserved bytes."""
    hidden = {vector.operand + at for at in _RESERVED}
    return tuple(replace(each, written=_visible(vector, each, hidden)) for each in (theirs, ours))  # type: ignore[return-value]


def _visible(vector: Vector, result: Result, hidden: set[int]) -> tuple[tuple[int, int], ...]:
    """The words that the operand touches, changed or not, hidden bytes 0."""
    touched = {at & ~3 for at in hidden}
    words = dict(result.written)
    for address in touched:
        value = words.get(address, word_before(vector, address))
        keep = sum(0xFF << 8 * at for at in range(4) if address + at not in hidden)
        words[address] = value & keep
    return tuple(sorted(words.items()))


def _kernel_address(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    return _with_present(theirs), _with_present(ours)


def _with_present(result: Result) -> Result:
    fault = result.fault
    if fault is None or fault.vector != 14 or fault.address < KERNEL:
        return result
    return replace(result, fault=Fault(fault.vector, fault.error | 1, fault.address))


def _access_rights(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    return _without_limit(theirs, ours), ours


def _without_limit(theirs: Result, ours: Result) -> Result:
    """Registers of one, where the other's differ in bits 16 to 19 alone."""
    pairs = zip(theirs.registers, ours.registers, strict=True)
    return replace(theirs, registers=tuple(b if (a ^ b) & ~_LIMIT == 0 else a for a, b in pairs))


def _trap_address(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    if theirs.fault == ours.fault == Fault(1) and theirs.eip == vector.eip:
        theirs = replace(theirs, eip=theirs.eip + len(vector.code))
    return theirs, ours


def _branch(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    return theirs, replace(ours, eip=theirs.eip)


def _reloaded_selectors(vector: Vector, theirs: Result, ours: Result) -> tuple[Result, Result]:
    if not theirs.restarts:
        return theirs, ours
    return tuple(
        replace(each, selectors=tuple(at | 3 if at > 3 else 0 for at in each.selectors)) for each in (theirs, ours)
    )  # type: ignore[return-value]


_PARTS = {
    "reloaded-selectors": _reloaded_selectors,
    "branch": _branch,
    "trap-address": _trap_address,
    "access-rights": _access_rights,
    "destination": _without_destination,
    "approximation": _approximate,
    "reserved": _without_reserved,
    "kernel-address": _kernel_address,
}
