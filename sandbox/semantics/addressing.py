"""ModRM, SIB and displacements: an operand at a chosen address, by any addressing form of 16 or 32 bits."""

from __future__ import annotations

import random
import struct

from sandbox.records import dataclass
from sandbox.semantics.vector import DATA, EBP, EBX, EDI, ESI, ESP, LOW, READ_ONLY
from sandbox.x86.paging import PAGE_SIZE

_PAIRS16 = ((EBX, ESI), (EBX, EDI), (EBP, ESI), (EBP, EDI), (ESI,), (EDI,), (EBP,), (EBX,))
"""SDM 2A, table 2-1."""
_WORD = 0xFFFFFFFF


@dataclass(slots=True)
class Encoded:
    """ModRM and what follows it, the operand's address (0: a register), and registers that it needs so."""

    code: bytes
    address: int = 0


def register(reg: int, rm: int) -> Encoded:
    return Encoded(bytes([0xC0 | reg << 3 | rm]))


def place(rng: random.Random, width: int, aligned: bool) -> int:
    """An address in the arena for an operand: mostly writable, now and then at an end of it."""
    kind = rng.randrange(40)
    if kind == 0:
        return READ_ONLY + rng.randrange(PAGE_SIZE - width)
    if kind == 1:
        return READ_ONLY - rng.randrange(1, width + 1)
    if kind == 2:
        return READ_ONLY + PAGE_SIZE - rng.randrange(1, width + 1)
    if kind == 3:
        return rng.choice((DATA - width, READ_ONLY + 2 * PAGE_SIZE, 0, 0xFFFFFF00, 0xC0000000))
    if kind == 4:
        return DATA + PAGE_SIZE - rng.randrange(1, width + 1)
    at = DATA + rng.randrange(0, 2 * PAGE_SIZE - max(width, 16))
    return at & ~15 if aligned or kind < 20 else at


def wide(rng: random.Random, reg: int, target: int, registers: list[int]) -> Encoded:
    """A 32-bit form with the operand at ``target`` or, where base and index are the same, near it."""
    mod, rm = rng.randrange(3), rng.randrange(8)
    size = (0, 1, 4)[mod]
    if rm != 4:
        if mod == 0 and rm == 5:
            return _encoded(mod, reg, rm, b"", 4, target, target)
        displacement = _displacement(rng, size)
        registers[rm] = target - displacement & _WORD
        return _encoded(mod, reg, rm, b"", size, displacement, target)
    return _with_sib(rng, mod, reg, target, registers)


def _with_sib(rng: random.Random, mod: int, reg: int, target: int, registers: list[int]) -> Encoded:
    scale, index, base = rng.randrange(4), rng.randrange(8), rng.randrange(8)
    sib = bytes([scale << 6 | index << 3 | base])
    size = (0, 1, 4)[mod]
    if index != ESP and index != base and rng.getrandbits(1):
        registers[index] = rng.getrandbits(32) if rng.getrandbits(2) == 0 else rng.randrange(64)
    scaled = 0 if index == ESP else registers[index] << scale
    if mod == 0 and base == EBP:
        return _encoded(mod, reg, 4, sib, 4, target - scaled, target)
    displacement = _displacement(rng, size)
    if index == base and index != ESP:
        registers[base] = (target - displacement & _WORD) // (1 + (1 << scale))
        target = registers[base] * (1 + (1 << scale)) + displacement
    else:
        registers[base] = target - scaled - displacement & _WORD
    return _encoded(mod, reg, 4, sib, size, displacement, target)


def narrow(rng: random.Random, reg: int, width: int, registers: list[int]) -> Encoded:
    """A 16-bit form with the operand in LOW."""
    mod, rm = rng.randrange(3), rng.randrange(8)
    target = LOW + rng.randrange(0, 2 * PAGE_SIZE - width)
    target = target & ~15 if rng.getrandbits(1) else target
    if mod == 0 and rm == 6:
        return Encoded(bytes([reg << 3 | rm]) + struct.pack("<H", target), target)
    size = (0, 1, 2)[mod]
    displacement = _displacement(rng, size)
    first, *second = _PAIRS16[rm]
    rest = target - displacement - sum(registers[each] for each in second)
    registers[first] = registers[first] & 0xFFFF0000 | rest & 0xFFFF
    tail = displacement.to_bytes(size, "little", signed=True)
    return Encoded(bytes([mod << 6 | reg << 3 | rm]) + tail, target)


def _displacement(rng: random.Random, size: int) -> int:
    return rng.randrange(-(1 << 8 * size - 1), 1 << 8 * size - 1) if size else 0


def _encoded(mod: int, reg: int, rm: int, sib: bytes, size: int, displacement: int, target: int) -> Encoded:
    tail = (displacement & (1 << 8 * size) - 1).to_bytes(size, "little")
    return Encoded(bytes([mod << 6 | reg << 3 | rm]) + sib + tail, target & _WORD)
