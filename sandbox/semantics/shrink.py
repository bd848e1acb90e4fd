"""A smaller vector that differs in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sandbox.records import replace
from sandbox.semantics.vector import ESP, RESET_FPU, STACK, Fpu, Vector

Differs = Callable[[Vector], tuple[str, ...]]
"""The parts in which a vector differs, () for none."""


def shrink(vector: Vector, differs: Differs) -> Vector:
    """Take away whatever is not needed, one thing after the other, until nothing more can go."""
    parts, smaller = differs(vector), True
    while smaller:
        smaller = False
        for candidate in _simpler(vector):
            if differs(candidate) == parts:
                vector, smaller = candidate, True
                break
    return vector


def _simpler(vector: Vector) -> Iterator[Vector]:
    if vector.fpu is not None:
        for fpu in _simpler_fpu(vector.fpu):
            yield replace(vector, fpu=fpu)
    for at in range(len(vector.memory)):
        yield replace(vector, memory=vector.memory[:at] + vector.memory[at + 1 :])
    if vector.eflags != 0x202:
        yield replace(vector, eflags=0x202)
    for at, value in enumerate(vector.registers):
        plain = STACK + 0x1000 if at == ESP else 0
        if value != plain:
            registers = (*vector.registers[:at], plain, *vector.registers[at + 1 :])
            yield replace(vector, registers=registers)


def _simpler_fpu(fpu: Fpu) -> Iterator[Fpu]:
    for name in ("control", "status", "tags", "mxcsr"):
        if getattr(fpu, name) != getattr(RESET_FPU, name):
            yield replace(fpu, **{name: getattr(RESET_FPU, name)})
    for name, size in (("stack", 10), ("xmm", 16)):
        data = getattr(fpu, name)
        for at in range(0, 8 * size, size):
            if any(data[at : at + size]):
                yield replace(fpu, **{name: data[:at] + bytes(size) + data[at + size :]})
