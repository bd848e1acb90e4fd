"""Two results of one vector: which parts differ, and whether that is known."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from sandbox.records import dataclass
from sandbox.semantics.undefined import FLAGS, masked
from sandbox.semantics.vector import CODE16_SELECTOR, HANG, REGISTERS, Fpu, Result, Vector
from sandbox.x86.instruction import LEGACY_PREFIXES
from sandbox.x86.masks import AC, DF, TF

VECTORS = {
    0: "#DE", 1: "#DB", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS", 11: "#NP", 12: "#SS",
    13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM", 254: "stopped", 255: "endless",
}  # fmt: skip
_STATUS = FLAGS | {"DF": DF}
AT_FAULT = "at fault: "
"""Before parts of a state at a fault behind which the vector went on."""
_OVERFLOWS = 0xC00
"""OM and UM of MXCSR (SDM 1, 10.2.3)."""
_LAST = 0xFFFFFFF0
"""Behind it an operand may end beyond 4 GB."""
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")


@dataclass(frozen=True, slots=True)
class Divergence:
    """A vector that two oracles do not execute alike.  ``parts`` say in what; ``cause`` is '' for one not listed."""

    vector: Vector
    theirs: Result
    ours: Result
    parts: tuple[str, ...]
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """An entry of ``known.toml``: forms and parts are patterns, ``prefix`` a byte that the code must begin with among
    its prefixes (-1: any), ``wraps``: only where the operand ends beyond 4 GB.  One with ``processors`` is for these
    alone, and they have no others; ``registers``: only where they are so at first,
    ``restarts``: only where pages were absent, ``when``: only so (CONDITIONS); ``rare``: a run may not see it.  Parts
    at a fault behind which a vector goes on are listed as those of its end."""

    forms: tuple[str, ...]
    parts: tuple[str, ...]
    prefix: int
    engine: str
    wraps: bool
    cause: str
    code: bytes
    processors: tuple[str, ...] = ()
    registers: tuple[tuple[str, int], ...] = ()
    restarts: bool = False
    when: str = ""
    rare: bool = False


CONDITIONS: dict[str, Callable[[Vector, bool], bool]] = {
    "faulted": lambda vector, faulted: faulted,
    "single-stepped": lambda vector, faulted: bool(vector.eflags & TF),
    "alignment checked": lambda vector, faulted: bool(vector.eflags & AC),
    "code of 16 bits": lambda vector, faulted: vector.selectors[0] == CODE16_SELECTOR,
    "writes code": lambda vector, faulted: vector.writes_code,
    "overflow or underflow unmasked": lambda vector, faulted: (
        vector.fpu is not None and vector.fpu.mxcsr & _OVERFLOWS != _OVERFLOWS
    ),
}
"""Of a vector, and whether the CPU that was asked faulted."""


@functools.cache
def known(path: Path | None = None) -> tuple[Known, ...]:
    """The listed divergences."""
    text = (path or Path(__file__).parent / "known.toml").read_text()
    return tuple(
        Known(
            tuple(each["forms"]),
            tuple(each["parts"]),
            int(each.get("prefix", "-1"), 16) if "prefix" in each else -1,
            each.get("engine", ""),
            each.get("wraps", False),
            each["cause"],
            bytes.fromhex(each["code"]),
            tuple(each.get("processors", ())),
            tuple(each.get("registers", {}).items()),
            each.get("restarts", False),
            each.get("when", ""),
            each.get("rare", False),
        )
        for each in tomllib.loads(text).get("known", [])
    )


def compare(
    vector: Vector, theirs: Result, ours: Result, processor: str = "", engine: str = "mended"
) -> Divergence | None:
    """None where they agree in all that is defined."""
    if theirs == ours:
        return None
    parts = tuple(_all_parts(vector, processor, theirs, ours))
    faulted = bool(theirs.restarts) or theirs.fault is not None
    cause = cause_of(vector, parts, engine, processor, faulted) if parts else ""
    return Divergence(vector, theirs, ours, parts, cause) if parts else None


def listed_causes(engine: str) -> list[str]:
    """Of this host's entries, but for rare ones."""
    mine = (each for each in known() if not each.processors and not each.rare and each.engine in ("", engine))
    return list(dict.fromkeys(each.cause for each in mine))


@functools.cache
def _listed_for(processor: str) -> tuple[Known, ...]:
    alone = any(processor in each.processors for each in known())
    return tuple(each for each in known() if (processor in each.processors if alone else not each.processors))


def cause_of(vector: Vector, parts: tuple[str, ...], engine: str, processor: str = "", faulted: bool = False) -> str:
    """Of a listed divergence, or ''.  ``faulted``: the CPU that was asked did, on the way or at the end."""
    opcode = vector.code.lstrip(LEGACY_PREFIXES)
    prefixes = vector.code[: len(vector.code) - len(opcode)]
    for each in _listed_for(processor):
        if (
            each.engine in ("", engine)
            and (each.prefix < 0 or each.prefix in prefixes)
            and (not each.when or CONDITIONS[each.when](vector, faulted))
            and _matches(each, vector, parts)
        ):
            return each.cause
    return ""


def _matches(entry: Known, vector: Vector, parts: tuple[str, ...]) -> bool:
    if not any(fnmatchcase(vector.form, each) for each in entry.forms):
        return False
    if entry.restarts and not vector.absent:
        return False
    if entry.wraps and vector.operand <= _LAST:
        return False
    if any(vector.registers[REGISTERS.index(name)] != value for name, value in entry.registers):
        return False
    return all(any(fnmatchcase(part.removeprefix(AT_FAULT), pattern) for pattern in entry.parts) for part in parts)


def _all_parts(vector: Vector, processor: str, theirs: Result, ours: Result) -> Iterator[str]:
    """Those at its end, and at each fault behind which it went on; where it ends in another fault, that alone."""
    end = list(_parts(*masked(vector, processor, theirs, ours)))
    yield from end
    if theirs.other != ours.other:
        yield "memory of the other process"
    if end and end[0].startswith("fault "):
        return
    found: dict[str, None] = {}
    for one, other in zip(theirs.restarts, ours.restarts, strict=False):
        found |= dict.fromkeys(AT_FAULT + each for each in _parts(*masked(vector, processor, one, other)))
    yield from found
    if len(theirs.restarts) != len(ours.restarts):
        yield "restarts" if theirs.fault is None else f"restarts before {_name(theirs)}"


def _name(result: Result) -> str:
    return VECTORS.get(result.fault.vector, "?") if result.fault else "none"


def _parts(theirs: Result, ours: Result) -> Iterator[str]:
    """Names of what differs; where the exceptions do, all else follows from that."""
    names = [_name(theirs), _name(ours)]
    if names[0] != names[1]:
        yield f"fault {names[0]} not {names[1]}"
        return
    if theirs.fault is not None and ours.fault is not None:
        if theirs.fault.vector == HANG:
            return  # each was stopped somewhere
        if theirs.fault.error != ours.fault.error:
            yield f"error code of {names[0]}"
        if theirs.fault.address != ours.fault.address:
            yield "cr2"
    if theirs.eip != ours.eip:
        yield "eip"
    if theirs.registers != ours.registers:
        yield "registers"
    yield from (name for name, bit in _STATUS.items() if (theirs.eflags ^ ours.eflags) & bit)
    if (theirs.eflags ^ ours.eflags) & ~sum(_STATUS.values()):
        yield "eflags"
    yield from (name for at, name in enumerate(_SEGMENTS) if theirs.selectors[at] != ours.selectors[at])
    if theirs.written != ours.written:
        yield "memory"
    if theirs.fpu is not None and ours.fpu is not None and theirs.fpu != ours.fpu:
        yield from _fpu_parts(theirs.fpu, ours.fpu)


def _fpu_parts(theirs: Fpu, ours: Fpu) -> Iterator[str]:
    for name in ("control", "status", "tags", "mxcsr"):
        if getattr(theirs, name) != getattr(ours, name):
            yield name
    if theirs.stack != ours.stack:
        alike = all(theirs.stack[at : at + 8] == ours.stack[at : at + 8] for at in range(0, 80, 10))
        yield "st exponent" if alike else "st"
    if theirs.xmm != ours.xmm:
        yield "xmm"
