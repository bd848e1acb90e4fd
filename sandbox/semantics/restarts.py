"""Vectors that fault on the way and go on: pages of operand, stack and code come back at their first fault.

Each memory form has its operand across the border of two pages at each of its bytes, and its code too, while pages are
absent (as before demand paging) or only read (as before a copy on write).  What is compared is the state at each fault,
from which nothing may have changed that the instruction does not do again, and the end.  Some of those that read flags
have an instruction before them that leaves flags.
"""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Iterator

from sandbox.records import replace
from sandbox.semantics import generate
from sandbox.semantics.forms import Form
from sandbox.semantics.vector import (
    CODE,
    CODE_PAGES,
    DATA,
    EDI,
    ESI,
    NOTHING,
    READING,
    STACK,
    Vector,
)
from sandbox.x86.instruction import LEGACY_PREFIXES
from sandbox.x86.paging import PAGE_SIZE

SUFFIX = "-restarts"
"""Behind a family's name."""
_STRINGS = ("movs", "cmps", "stos", "lods", "scas")
_STACK = ("push", "pop", "call", "ret", "iret", "enter", "leave")
_READERS = ("set", "rcl", "rcr", "adc", "sbb", "cmov")
_CELL = (STACK + 0x100).to_bytes(4, "little")
_BEFORE = (
    b"\x39\xd9", b"\x39\xd9\xeb\x00", b"\x01\x05" + _CELL, b"\x29\x05" + _CELL, b"\x11\x05" + _CELL,
    b"\xff\x05" + _CELL, b"\xf7\x1d" + _CELL, b"\x01\x05" + _CELL + b"\xeb\x00",
)  # fmt: skip
"""CMP, and with JMP behind it; ADD, SUB, ADC, INC and NEG of memory: none leaves a flag undefined."""
_PAGES = (DATA, DATA + PAGE_SIZE, STACK, STACK + PAGE_SIZE)
WAYS: tuple[tuple[tuple[int, ...], int, bool], ...] = (
    (_PAGES, NOTHING, False),
    (_PAGES, READING, False),
    (_PAGES[1::2], NOTHING, False),
    (_PAGES[0::2], READING, False),
    ((), NOTHING, True),
    (_PAGES, NOTHING, True),
)
"""Pages, what there is of them at first, and whether the code's second page is absent too."""


@functools.cache
def forms(family: str) -> tuple[Form, ...]:
    """Those that reach memory."""
    return tuple(each for each in generate.forms(family) if each.memory or _implied(each))


def _implied(form: Form) -> bool:
    return form.family == "integer" and form.mnemonic.startswith((*_STRINGS, *_STACK)) and not form.modrm


def vectors(family: str, seed: int, first: int, count: int) -> Iterator[Vector]:
    """As ``generate.vectors``: form by form, each way and byte in turn."""
    table = forms(family)
    salt = zlib.crc32(f"restarts {family}".encode())
    for number in range(first, first + count):
        rng = random.Random(seed << 64 | salt << 32 | number)
        yield _make(table[number % len(table)], rng, number // len(table), number)


def _make(form: Form, rng: random.Random, at: int, number: int) -> Vector:
    pages, left, code = WAYS[at % len(WAYS)]
    byte = at // len(WAYS)
    vector = draw(form, rng, at, number, byte)
    absent = [(page, left) for page in pages]
    if code:
        second = CODE + (1 + number % (CODE_PAGES - 2)) * PAGE_SIZE
        vector = replace(vector, eip=second - 1 - byte % len(vector.code))
        absent.append((second, NOTHING))
    return replace(vector, absent=tuple(absent))


def _before(form: Form, code: bytes, rng: random.Random) -> bytes:
    """An instruction that leaves flags, before those that read some: an emulator may have them in a form of its own."""
    if not form.mnemonic.startswith(_READERS) or code[0] in LEGACY_PREFIXES or rng.randrange(2):
        return b""
    return rng.choice(_BEFORE)


def draw(form: Form, rng: random.Random, at: int, number: int, byte: int) -> Vector:
    """A vector whose operand has so many bytes (and round again) before the border of two pages."""
    width = form.width(form.memory) if form.memory else 4
    border = DATA + PAGE_SIZE
    vector = generate.make(form, rng, at, number, border - byte % (width + 1) if form.memory else 0)
    if not form.memory and form.mnemonic.startswith(_STRINGS):
        return _at_border(vector, rng, border)
    return replace(vector, code=_before(form, vector.code, rng) + vector.code)


def _at_border(vector: Vector, rng: random.Random, border: int) -> Vector:
    """Both of a string instruction's operands near the border, to either side of which it may go."""
    registers = list(vector.registers)
    for each in (ESI, EDI):
        registers[each] = border + rng.randrange(-40, 41)
    return replace(vector, registers=tuple(registers), memory=())
