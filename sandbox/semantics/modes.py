"""The same vectors under other conditions: single-stepped, with alignment checked, in code of 16 bits."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator

from sandbox.records import replace
from sandbox.semantics import generate
from sandbox.semantics.forms import Form
from sandbox.semantics.vector import Vector
from sandbox.x86.masks import AC, TF

STEP, ALIGNMENT, CODE16 = "-step", "-alignment", "-code16"
Make = Callable[[Form, random.Random, int, int], Vector]


def _stepped(form: Form, rng: random.Random, at: int, number: int) -> Vector:
    """With TF: #DB behind the instruction, or behind one step of a repeated one (SDM 3B, 17.3.1.4)."""
    vector = generate.make(form, rng, at, number)
    return replace(vector, eflags=vector.eflags | TF)


def _checked(form: Form, rng: random.Random, at: int, number: int) -> Vector:
    """With AC, under which CR0.AM asks for aligned operands in ring 3 (SDM 3A, 6.15, interrupt 17)."""
    vector = generate.make(form, rng, at, number)
    return replace(vector, eflags=vector.eflags | AC)


def _narrow(form: Form, rng: random.Random, at: int, number: int) -> Vector:
    """In a code segment whose D is 0 (SDM 1, 3.6): 66h and 67h are for 32 bits."""
    return generate.make(form, rng, at, number, code16=True)


MODES: dict[str, Make] = {STEP: _stepped, ALIGNMENT: _checked, CODE16: _narrow}


def vectors(mode: str, family: str, seed: int, first: int, count: int) -> Iterator[Vector]:
    """As ``generate.vectors``: form by form."""
    table, make = generate.forms(family), MODES[mode]
    salt = zlib.crc32(f"{mode} {family}".encode())
    for number in range(first, first + count):
        rng = random.Random(seed << 64 | salt << 32 | number)
        yield make(table[number % len(table)], rng, number // len(table), number)
