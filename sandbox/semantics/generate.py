"""Vectors by seed: for each form edge values first, then random ones, in all its encodings."""

from __future__ import annotations

import functools
import random
import struct
import zlib
from collections.abc import Callable, Iterator

from sandbox.semantics import addressing, integer_table, setups, simd_table, values, x87_table
from sandbox.semantics.forms import Form, explicit, parse
from sandbox.semantics.setups import Draft
from sandbox.semantics.vector import (
    CODE,
    CODE16_SELECTOR,
    EDI,
    ESI,
    ESP,
    LOW,
    SELECTORS,
    SLOT,
    STACK,
    Fpu,
    Vector,
    slot_address,
)
from sandbox.x86.masks import DF, EFLAGS_FIXED, IF, STATUS_FLAGS
from sandbox.x86.paging import PAGE_SIZE

TABLES = {
    "integer": integer_table.TEXT,
    "x87": x87_table.TEXT,
    "mmx": simd_table.MMX,
    "sse": simd_table.SSE,
    "sse2": simd_table.SSE2,
}
FAMILIES = tuple(TABLES)
_SEGMENTS = (0x26, 0x2E, 0x36, 0x3E, 0x26, 0x36, 0x3E, 0x64, 0x65)
_STRING = ("ins", "outs", "movs", "cmps", "stos", "lods", "scas")
_POOL = 8192
_SLOTS16 = 0x10000 // SLOT - 1
"""Places of code in a segment of 64 KB."""
_UNALIGNED = ("movup", "movdqu", "movlp", "movhp")


@functools.cache
def forms(family: str) -> tuple[Form, ...]:
    """Every form of a family, in the table's order."""
    return tuple(parse(family, TABLES[family]))


def vectors(family: str, seed: int, first: int, count: int) -> Iterator[Vector]:
    """Vectors ``first`` to ``first + count`` of a family: form by form, and round again.

    Each depends on family, seed and its own number alone, so that a run may be cut anywhere.
    """
    table = forms(family)
    salt = zlib.crc32(family.encode())
    for number in range(first, first + count):
        rng = random.Random(seed << 64 | salt << 32 | number)
        yield make(table[number % len(table)], rng, number // len(table), number)


def make(form: Form, rng: random.Random, at: int, number: int, target: int = 0, code16: bool = False) -> Vector:
    """The ``at``-th vector of a form; ``number`` says where its code lies, ``target`` where its memory operand does
    (0: anywhere, or in a register), ``code16``: for a code segment of 16 bits."""
    eip = slot_address(number % _SLOTS16) - CODE if code16 else slot_address(number)
    draft = Draft(form, rng, at, eip, target_operand=target, code16=code16)
    draft.registers = _registers(rng, at)
    draft.fpu = None if form.family == "integer" else _fpu(form, rng)
    setups.prepare(draft)
    _encode(draft)
    flags = EFLAGS_FIXED | IF | rng.getrandbits(32) & STATUS_FLAGS | (DF if rng.getrandbits(2) == 0 else 0)
    registers = tuple(each & 0xFFFFFFFF for each in draft.registers)
    memory = tuple(draft.memory)
    selectors = (CODE16_SELECTOR, *SELECTORS[1:]) if code16 else SELECTORS
    return Vector(form.name, draft.code, draft.eip, registers, flags, memory, draft.fpu, draft.operand, selectors)


def _registers(rng: random.Random, at: int) -> list[int]:
    edges = values.EDGES
    if at < len(edges) ** 2:
        step = at // len(edges)
        made = [edges[(at + each * (1 + step)) % len(edges)] for each in range(8)]
    else:
        made = [values.integer(rng, at) for _ in range(8)]
    made[ESP] = STACK + 0x1000 + rng.randrange(-64, 64) * (4 if rng.getrandbits(2) else 1)
    return made


def _encode(draft: Draft) -> None:
    form, rng = draft.form, draft.rng
    narrow = form.sized and rng.randrange(4) == 0 and not draft.whole
    often = 2 if draft.code16 else 8
    short = (bool(form.memory) or _is_string(form)) and rng.randrange(often) == 0 and not draft.whole
    if draft.code16 and short and _is_string(form):
        for each in (ESI, EDI):
            draft.registers[each] = draft.registers[each] & ~0xFFFF | LOW + rng.randrange(2 * PAGE_SIZE)
    short = short and not draft.target_operand
    opcode = bytearray(form.opcode)
    if form.added:
        opcode[-1] += rng.randrange(8)
    body = bytes(opcode) + (_modrm(draft, narrow, short) if form.modrm else b"")
    body += b"".join(_immediate(draft, each, narrow, short) for each in form.operands)
    draft.code = _prefixes(draft, narrow, short) + form.prefix + body


def _modrm(draft: Draft, narrow: bool, short: bool) -> bytes:
    form, rng = draft.form, draft.rng
    reg = form.extension if form.extension >= 0 else draft.reg if draft.reg >= 0 else rng.randrange(8)
    operand = form.memory
    if not operand or (operand[0] != "M" and rng.getrandbits(1) and not draft.target_operand):
        return addressing.register(reg, rng.randrange(8)).code
    width = form.width(operand, narrow)
    if short:
        encoded = addressing.narrow(rng, reg, max(width, 16), draft.registers)
    else:
        sloppy = form.mnemonic.startswith(_UNALIGNED) or width < 16
        target = draft.target_operand or addressing.place(rng, width, not sloppy and rng.randrange(16) > 0)
        encoded = addressing.wide(rng, reg, target, draft.registers)
    draft.operand = encoded.address
    draft.put(encoded.address, draft.content or values.operand(rng, width, draft.at))
    return encoded.code


def _immediate(draft: Draft, operand: str, narrow: bool, short: bool) -> bytes:
    """Bytes of an operand that is part of the code."""
    rng, kind = draft.rng, operand[0] if explicit(operand) else ""
    if kind == "J":
        return draft.jump(1 if operand[1] == "b" else 2 if narrow else 4)
    if kind == "A":
        return draft.far_pointer(narrow)
    if kind == "O":
        draft.operand = LOW + rng.randrange(4096) if short else addressing.place(rng, 4, False)
        draft.put(draft.operand, values.operand(rng, 4, draft.at))
        return struct.pack("<H" if short else "<I", draft.operand)
    if kind != "I":
        return b""
    width = draft.form.width(operand, narrow)
    value = draft.immediate if draft.immediate >= 0 else values.integer(rng, draft.at)
    return (value & (1 << 8 * width) - 1).to_bytes(width, "little")


def _prefixes(draft: Draft, narrow: bool, short: bool) -> bytes:
    form, rng = draft.form, draft.rng
    if draft.code16:
        narrow, short = form.sized and not narrow, not short
    made = [0x66] * narrow + [0x67] * short
    if form.memory and rng.randrange(8) == 0:
        made.append(rng.choice(_SEGMENTS))
    plain = form.family == "integer" and form.opcode[0] != 0x0F and not draft.whole
    if rng.randrange(32) < (16 if _is_string(form) else plain):
        made.append(rng.choice((0xF2, 0xF3)))
    if form.family == "integer" and rng.randrange(24) == 0:
        made.append(0xF0)
    rng.shuffle(made)
    return bytes(made)


def _is_string(form: Form) -> bool:
    return form.family == "integer" and form.mnemonic[:-1] in _STRING and not form.modrm


@functools.cache
def _pool(kind: Callable[[random.Random], bytes]) -> list[bytes]:
    """Values of a kind to choose registers' contents from: making each anew would take most of a vector's time."""
    rng = random.Random(kind.__name__)
    return [kind(rng) for _ in range(_POOL)]


def _fpu(form: Form, rng: random.Random) -> Fpu:
    if form.family == "x87":
        return _x87(rng)
    mxcsr = 0x1F80 if rng.randrange(3) else rng.getrandbits(6) << 7
    mxcsr |= rng.getrandbits(16) & 0xE040 if rng.randrange(3) == 0 else 0
    mxcsr |= rng.getrandbits(6) if rng.randrange(3) == 0 else 0
    stack = b"".join(each[:10] for each in rng.choices(_pool(values.packed), k=8))
    tags = rng.choice((0, 0xFF, rng.getrandbits(8)))
    status = rng.choice((0, 0, rng.randrange(8) << 11 | rng.getrandbits(16) & 0x4700))
    return Fpu(0x37F, status, tags, mxcsr, stack, b"".join(rng.choices(_pool(values.packed), k=8)))


def _x87(rng: random.Random) -> Fpu:
    """Two thirds with all exceptions masked; a third of the stacks have holes; an eighth have an exception pending."""
    control = 0x7F | rng.choice((0x300, 0x300, 0, 0x200)) | rng.randrange(4) << 10 if rng.getrandbits(1) else 0x37F
    if rng.randrange(3) == 0:
        control = control & ~0x3F | rng.getrandbits(6)
    top = rng.randrange(8)
    status = top << 11 | rng.getrandbits(16) & 0x4700
    if rng.randrange(4) == 0:
        status |= rng.getrandbits(6)
        status &= 0xFFFF if rng.getrandbits(1) else ~0x3F | control
    if status & ~control & 0x3F:
        status |= 0x8080
    depth = rng.randrange(9) if rng.getrandbits(1) else 6
    tags = sum(1 << (top + each & 7) for each in range(depth)) if rng.randrange(3) else rng.getrandbits(8)
    return Fpu(control, status, tags, 0x1F80, b"".join(rng.choices(_pool(values.extended), k=8)), bytes(128))
