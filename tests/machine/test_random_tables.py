"""Random page tables, gates and segments, edited while they are in use: whatever comes, it is an end of the guest's."""

from __future__ import annotations

import struct
from random import Random

import pytest

from sandbox.machine.bare import LOAD_ADDRESS, BareMachine
from sandbox.machine.delivery import NotModelled
from sandbox.machine.machine import Machine
from sandbox.machine.memory import Reason
from sandbox.machine.outcome import Outcome

ROOT, DIRECTORY, IDT, GDT = 0x200000, 0x201000, 0x300000, 0x310000
POINTERS = 2000
"""Offset in the image of what LIDT and, 10 bytes behind it, LGDT load."""
LIDT, LGDT = (
    code + struct.pack("<I", LOAD_ADDRESS + POINTERS + at) for code, at in ((b"\x0f\x01\x1d", 0), (b"\x0f\x01\x15", 10))
)
ENDS = (b"\x0f\x0b", b"\xcd\x80", b"\xcc", b"", b"\xf4", b"\xa1\0\0\0\xc0", b"\x0f\x22\xd8", b"\x8e\xd8")
"""UD2, INT 0x80, INT3, whatever is behind, HLT, a load, MOV CR3, MOV DS."""
PDPTES = (0, 1, DIRECTORY | 1, DIRECTORY | 3, 0x80000001)
SEGMENTS = (0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00CFFA000000FFFF)


def load_control(number: int, value: int) -> bytes:
    """MOV EAX, value; MOV CRn, EAX."""
    return b"\xb8" + struct.pack("<I", value) + bytes((0x0F, 0x22, 0xC0 | number << 3))


def code(random: Random, pae: bool) -> bytes:
    """Paging on, and tables, mostly; then the PDPTEs edited; then something that faults."""
    parts = [load_control(4, 0x20 if pae else 0x10), load_control(3, ROOT)]
    parts += [each for each in (LIDT, LGDT) if random.random() < 0.8]
    if random.random() < 0.9:
        parts.append(load_control(0, 0x80000011 | random.choice((0, 0x10000))))
    for _ in range(random.randrange(4)):
        value = random.choice((*PDPTES, random.getrandbits(32)))
        parts.append(b"\xc7\x05" + struct.pack("<II", ROOT + 4 * random.randrange(8), value))
    return b"".join((*parts, random.choice(ENDS)))


def image(random: Random, pae: bool) -> bytes:
    made = bytearray(random.randbytes(4096))
    start = code(random, pae)
    made[: len(start)] = start
    idt = struct.pack("<HI", random.choice((0x7FF, 0x3F, 0)), IDT + random.choice((0, 0xFF8, 4)))
    made[POINTERS : POINTERS + 16] = idt + bytes(4) + struct.pack("<HI", random.choice((0xFF, 0x17)), GDT)
    return bytes(made)


def tables(random: Random, pae: bool) -> dict[int, bytes]:
    """Physical addresses and what lies there."""

    def gate() -> bytes:
        kind = random.choice((0x8E00, 0x8F00, 0xEE00, 0x8600, random.getrandbits(16)))
        known = struct.pack("<4H", 0, random.choice((8, 16, 0, random.getrandbits(16))), kind, 0x10)
        return known if random.random() < 0.7 else random.randbytes(8)

    def entry(index: int, bits: int) -> int:
        return (
            index << (21 if bits == 64 else 22) | 0x83
            if not index or random.random() < 0.7
            else random.getrandbits(bits)
        )

    found = {
        IDT: b"".join(gate() for _ in range(256)),
        GDT: struct.pack("<32Q", *(random.choice((*SEGMENTS, random.getrandbits(64))) for _ in range(32))),
    }
    if pae:
        others = (random.choice((0, DIRECTORY | 1, random.getrandbits(64), 1 << 63 | 1)) for _ in range(3))
        found[ROOT] = struct.pack("<4Q", DIRECTORY | 1, *others)
        found[DIRECTORY] = struct.pack("<8Q", *(entry(index, 64) for index in range(8)))
    else:
        found[ROOT] = struct.pack("<4I", *(entry(index, 32) for index in range(4)))
    return found


def run(seed: int) -> Outcome | None:
    """How one random machine ends, None for what is not modelled."""
    random = Random(seed)
    machine, pae = Machine(16 << 20, random.choice((1, 2))), random.random() < 0.7
    try:
        bare = BareMachine(machine, image(random, pae))
        for at, data in tables(random, pae).items():
            machine.memory.host_write(at, data, Reason.IMAGE)
        return bare.run(20_000, 5.0)
    except NotModelled:
        return None
    finally:
        machine.close()


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_every_machine_comes_to_an_end_of_its_own(first: int) -> None:
    outcomes = [run(seed) for seed in range(first, first + 50)]
    told = [[outcome.headline(), *outcome.lines()] for outcome in outcomes if outcome is not None]
    assert len(told) > 40
