"""Random code on the bare machine: in real, protected and paged mode, under random tables, gates, segments and TSS."""

from __future__ import annotations

import struct
import time
from random import Random
from typing import Any

from sandbox.machine.bare import BareMachine
from sandbox.machine.delivery import NotModelled
from sandbox.machine.machine import Machine
from sandbox.machine.memory import Reason
from sandbox.machine.outcome import Exited, Halted, LimitReached, TripleFault
from sandbox.machine.turns import Run
from sandbox.x86.errors import SandboxError
from tests.fuzz import draws

LOAD, REAL = 0x100000, 0x8000
ROOT, DIRECTORY, TABLE, IDT, GDT, TSS = 0x200000, 0x201000, 0x202000, 0x300000, 0x310000, 0x320000
POINTERS = 2000
"""Offset in the image of what LIDT and, 10 bytes behind it, LGDT load."""
BLOCKS, SECONDS, LATE = 2_000, 0.2, 20.0
LOW, INT3 = 0xA0000, 0xCC
"""Where real mode's RAM ends, and what it is full of: zeros would be a straight line of code to that end."""
SEGMENTS = (
    0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00CFFA000000FFFF, 0x00CFF2000000FFFF, 0x00009A000000FFFF,
    0x000092000000FFFF, 0x00CF96000000FFFF, 0x00009E000000FFFF,
)  # fmt: skip
"""Flat code and data of both rings, 16-bit ones, expand-down, conforming."""
TASK_STATES = (0x00008932_00000067, 0x00008132_0000002B, 0x00008B32_00000067, 0x00008932_00002067)
"""Low and high words of TSS descriptors at ``TSS``: 32-bit, 16-bit, busy, with an IO bitmap; swapped below."""
ENDS = (b"\x0f\x0b", b"\xcd\x80", b"\xcc", b"\xf4", b"\xa1\0\0\0\xc0", b"\x0f\x22\xd8", b"\x8e\xd8", b"\xfb\xf4")


def control(register: int, value: int) -> bytes:
    """MOV EAX, value; MOV CRn, EAX."""
    return b"\xb8" + struct.pack("<I", value) + bytes((0x0F, 0x22, 0xC0 | register << 3))


def rom(draw: Random) -> dict[str, Any]:
    """One machine: image, tables by physical address, CPUs."""
    mode = draw.choice(("real", "protected", "paged", "paged"))
    pae = draw.random() < 0.6
    image = bytearray(draw.randbytes(4096))
    start = b"" if mode == "real" else _entry(draw, mode == "paged", pae)
    start += draws.code(draw, draw.randrange(8, 120)) + draw.choice(ENDS)
    image[: len(start)] = start
    idt = struct.pack("<HI", draw.choice((0x7FF, 0x3FF, 0x3F, 0)), IDT + draw.choice((0, 0, 0xFF8, 4)))
    image[POINTERS : POINTERS + 16] = idt + bytes(4) + struct.pack("<HI", draw.choice((0xFF, 0x17)), GDT)
    memory = _vectors(draw) if mode == "real" else _tables(draw, pae)
    return {
        "mode": mode, "image": image.hex(), "memory": {hex(at): data.hex() for at, data in memory.items()},
        "cpus": draw.choice((1, 1, 2)), "seed": draw.getrandbits(16),
    }  # fmt: skip


def _entry(draw: Random, paged: bool, pae: bool) -> bytes:
    """LIDT, LGDT, LTR mostly, then CR4, CR3 and CR0, then tables edited while they are in use."""
    parts = [control(4, draw.choice((0x20, 0x620, 0x6F0)) if pae else 0x10), control(3, ROOT)] if paged else []
    for modrm, at in ((0x1D, 0), (0x15, 10)):
        if draw.random() < 0.85:
            parts.append(bytes((0x0F, 0x01, modrm)) + struct.pack("<I", LOAD + POINTERS + at))
    if draw.random() < 0.6:
        parts.append(b"\x66\xb8" + struct.pack("<H", draw.choice((0x20, 0x28, 0x30, 0x38))) + b"\x0f\x00\xd8")
    if paged and draw.random() < 0.9:
        parts.append(control(0, 0x80000011 | draw.choice((0, 0x10000))))
    for _ in range(draw.randrange(3) if paged else 0):
        place = draw.choice((ROOT, DIRECTORY, TABLE)) + 4 * draw.randrange(8)
        parts.append(b"\xc7\x05" + struct.pack("<II", place, draws.number(draw)))
    if draw.random() < 0.4:
        parts.append(_inner(draw))
    return b"".join(parts)


def _inner(draw: Random) -> bytes:
    """IRETD to ring 3, virtual-8086 mode or wherever, by a frame on a stack in the image."""
    flags = draw.choice((0x2, 0x202, 0x20002, 0x3202, 0x102, draw.getrandbits(32)))
    frame = (draw.choice((0x23, 0x2B, 0x10)), LOAD + 0xF00, flags, draw.choice((0x1B, 0x13, 8, 0x1000)), LOAD + 512)
    pushes = b"".join(b"\x68" + struct.pack("<I", each) for each in frame)
    return b"\xbc" + struct.pack("<I", LOAD + 0xF00) + pushes + b"\xcf"


def _gate(draw: Random) -> bytes:
    kind = draw.choice((0x8E00, 0x8F00, 0xEE00, 0x8600, 0xE700, 0xE500, 0xEC00, draw.getrandbits(16)))
    selector = draw.choice((8, 16, 0, 0x20, draw.getrandbits(16)))
    return struct.pack("<4H", draw.getrandbits(10), selector, kind, 0x10) if draw.random() < 0.8 else draw.randbytes(8)


def _task_state(draw: Random) -> int:
    whole = draw.choice(TASK_STATES)
    return whole & 0xFFFFFFFF | TSS << 16 & 0xFFFF0000 | whole >> 32 << 32


def _tables(draw: Random, pae: bool) -> dict[int, bytes]:
    """Descriptor tables, a TSS, page tables of which a few entries are anything."""

    def entry(index: int, bits: int, usual: int) -> int:
        return usual if not index or draw.random() < 0.8 else draw.getrandbits(bits)

    known = [0, *SEGMENTS[:4], _task_state(draw), _task_state(draw), _task_state(draw)]
    others = [draw.choice((*SEGMENTS, draw.getrandbits(64), int.from_bytes(_gate(draw), "little"))) for _ in range(24)]
    found = {
        IDT: b"".join(_gate(draw) for _ in range(256)),
        GDT: struct.pack("<32Q", *(each if draw.random() < 0.9 else draw.getrandbits(64) for each in known + others)),
        TSS: struct.pack("<26I", *(draws.number(draw) for _ in range(26))) + draw.randbytes(64),
    }
    wide = "Q" if pae else "I"
    count, bits, large = (512, 64, 21) if pae else (1024, 32, 22)
    if pae:
        pointers = (draw.choice((0, DIRECTORY | 1, draw.getrandbits(64), 1 << 63 | 1)) for _ in range(3))
        found[ROOT] = struct.pack("<4Q", DIRECTORY | 1, *pointers)
    directory = [TABLE | 7 if draw.random() < 0.2 else entry(index, bits, index << large | 0x87) for index in range(8)]
    found[DIRECTORY if pae else ROOT] = struct.pack(f"<8{wide}", *directory)
    found[TABLE] = struct.pack(f"<{count}{wide}", *(entry(index, bits, index << 12 | 7) for index in range(count)))
    return found


def _vectors(draw: Random) -> dict[int, bytes]:
    """Real mode's 256 far pointers."""
    pointers = (draw.choice((REAL, draw.getrandbits(20), draw.getrandbits(32))) for _ in range(256))
    return {0: struct.pack("<256I", *((each & 15 | each >> 4 << 16) & 0xFFFFFFFF for each in pointers))}


def run(made: dict[str, Any]) -> str:
    """How one machine ends, in a word."""
    machine = Machine(16 << 20, made["cpus"])
    began = time.monotonic()
    try:
        real = made["mode"] == "real"
        bare = BareMachine(machine, bytes.fromhex(made["image"]), REAL if real else LOAD, seed=made["seed"])
        if real:
            machine.memory.host_fill(0, LOW, INT3, Reason.IMAGE)
            machine.memory.host_write(REAL, bytes.fromhex(made["image"]), Reason.IMAGE)
        for at, data in made["memory"].items():
            machine.memory.host_write(int(at, 16), bytes.fromhex(data), Reason.IMAGE)
        if real:
            bare.cpus[0].state = Run.WAITING
            bare.cpus[0].start_up(REAL >> 12)
        outcome = bare.run(BLOCKS, SECONDS)
        assert outcome.headline()
        outcome.lines()
    except NotModelled:
        return "not modelled"
    except SandboxError as error:
        if error.exit_status == 3:
            raise
        return "refused"
    finally:
        machine.close()
        took = time.monotonic() - began
        assert took < SECONDS + LATE, f"{took:.1f} seconds"
    words = {Exited: "exited", Halted: "halted", LimitReached: "stopped", TripleFault: "triple fault"}
    return words.get(type(outcome), "nobody answers")
