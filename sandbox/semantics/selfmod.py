"""Code that stores into itself: the next instructions, its own later bytes, across the border of two pages.

From the P6 on, and on AMD's CPUs, a store to the address from which code is fetched is seen by the very next
instruction (SDM 3A, 8.1.3 and 11.6).  A vector is a store and, behind it, instructions of one byte, some of which it
turns into others; or the same in a loop, where the store is executed once more as it has changed itself.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator

from sandbox.semantics.vector import (
    CODE,
    CODE_PAGES,
    DATA,
    EAX,
    EBX,
    ECX,
    EDI,
    EDX,
    ESI,
    ESP,
    STACK,
    Fpu,
    Vector,
    slot_address,
)
from sandbox.x86.masks import CF, EFLAGS_FIXED, IF, STATUS_FLAGS
from sandbox.x86.paging import PAGE_SIZE

FAMILY = "self-modifying"
_STORES = (
    ("mov Eb,Gb", "8807", 0), ("mov Ev,Gv", "8907", 0), ("mov Ew,Gw", "668907", 0), ("mov Eb,Ib", "c607", 1),
    ("mov Ev,Iz", "c707", 4), ("mov Ew,Iw", "66c707", 2), ("stosb", "aa", 0), ("stosd", "ab", 0), ("stosw", "66ab", 0),
    ("rep stosb", "f3aa", 0), ("rep stosd", "f3ab", 0), ("movsb", "a4", 0), ("movsd", "a5", 0),
    ("rep movsb", "f3a4", 0), ("rep movsd", "f3a5", 0),  ("or Ev,Gv", "0907", 0),
    ("and Eb,Ib", "8027", 1), ("xor Eb,Ib", "8037", 1),  ("xchg Ev,Gv", "8707", 0),
     ("cmpxchg Ev,Gv", "0fb10f", 0), ("cmpxchg8b", "0fc70f", 0),
    ("not Eb", "f617", 0),
     ("inc Eb", "fe07", 0), ("dec Ev", "ff0f", 0),
    ("rcr Ev,1", "d11f", 0),
      ("setz Eb", "0f9407", 0), ("push", "50", 0),
    ("push Iz", "68", 4),  ("movups W,V", "0f1107", 0), ("movd E,V", "660f7e07", 0),
    ("movq Q,P", "0f7f07", 0), ("fstp Md", "d91f", 0), ("fistp Mq", "df3f", 0), ("fnstcw", "d93f", 0),
)  # fmt: skip
"""What is told of it, code that stores at EDI (or pushes), bytes of its immediate."""
_VICTIMS = bytes(each for each in range(0x40, 0x50) if each & 7 not in (ECX, ESP))
"""INC and DEC of each register but ESP, and ECX, by which loops end."""
_ENDS = b"\x90\xcc\xf4\xf8\xf9\xfc\x9e\x99"
"""NOP, INT3, HLT, CLC, STC, CLD, SAHF, CDQ."""
_ROOM = 14
_AGAIN = {"mov Eb,Gb": 1, "mov Ew,Gw": 2, "mov Eb,Ib": 1, "mov Ev,Iz": 4, "mov Ew,Iw": 2, "stosb": 1, "stosw": 2}
"""Stores that fit into themselves, in bytes: what decides when the loop ends is left alone."""


def vectors(family: str, seed: int, first: int, count: int) -> Iterator[Vector]:
    """As ``generate.vectors``: store by store, and round again."""
    salt = zlib.crc32(FAMILY.encode())
    for number in range(first, first + count):
        rng = random.Random(seed << 64 | salt << 32 | number)
        yield _make(rng, number, *_STORES[number % len(_STORES)], number // len(_STORES))


def _make(rng: random.Random, number: int, name: str, code: str, immediate: int, at: int) -> Vector:
    store = bytes.fromhex(code) + _immediate(rng, name, immediate)
    again = at % 4 == 3 and name in _AGAIN
    tail = b"\x49\x75" + struct.pack("b", -len(store) - 3) if again else b""  # DEC ECX; JNZ to the store
    whole = store + tail + bytes(rng.choices(_VICTIMS, k=_ROOM - len(tail)))
    eip = _place(rng, number, len(store), at)
    target = eip + (rng.randrange(len(store) - _AGAIN[name] + 1) if again else len(store) + rng.randrange(6))
    registers = _registers(rng, name, target, again)
    memory = ((DATA, _opcodes(rng, 32)),)
    flags = EFLAGS_FIXED | IF | rng.getrandbits(32) & STATUS_FLAGS
    if name.startswith("rcr"):
        whole, flags = _to_be_rotated(rng, whole, target - eip), flags & ~CF
    state = Fpu(tags=0xFF, stack=_opcodes(rng, 80), xmm=_opcodes(rng, 128)) if store[0] in b"\x0f\x66\xd9\xdf" else None
    return Vector(name, whole, eip, registers, flags, memory, state, target, writes_code=True)


def _immediate(rng: random.Random, name: str, size: int) -> bytes:
    """Of AND and XOR one that makes INC and DEC of INC and DEC: other instructions leave flags undefined."""
    if name.startswith("and"):
        return bytes([rng.choice(_VICTIMS)])
    return bytes([rng.randrange(16)]) if name.startswith("xor") else _opcodes(rng, size)


def _to_be_rotated(rng: random.Random, code: bytes, at: int) -> bytes:
    """With a double word that RCR by 1, CF being clear, makes opcodes of; once more, with the CF that it leaves, it
    would make others."""
    word = int.from_bytes(bytes(rng.choices(_VICTIMS, k=4)), "little") << 1 | 1
    return code[:at] + (word & 0xFFFFFFFF).to_bytes(4, "little") + code[at + 4 :]


def _place(rng: random.Random, number: int, size: int, at: int) -> int:
    """A third have the border of two pages behind the store or in it."""
    if at % 3:
        return slot_address(number)
    return CODE + (1 + number % (CODE_PAGES - 2)) * PAGE_SIZE - rng.randrange(1, size + 4)


def _registers(rng: random.Random, name: str, target: int, again: bool) -> tuple[int, ...]:
    made = [int.from_bytes(_opcodes(rng, 4), "little") for _ in range(8)]
    made[EDI], made[ESI], made[ESP] = target, DATA, STACK + 0x1000
    made[ECX] = rng.randrange(1, 3) if again or "sd" in name else rng.randrange(1, 7)
    if name.startswith("or"):
        made[EAX] &= 0x07070707  # what it turns INC and DEC into is one, too
    if name.startswith("push"):
        made[ESP] = target + 4
    if name.startswith("cmpxchg"):
        made[EBX], made[ECX] = (int.from_bytes(_opcodes(rng, 4), "little") for _ in range(2))
        made[EAX], made[EDX] = (rng.getrandbits(32) for _ in range(2))
    return tuple(made)


def _opcodes(rng: random.Random, size: int) -> bytes:
    """Mostly INC and DEC."""
    return bytes(rng.choice(_ENDS if rng.randrange(6) == 0 else _VICTIMS) for _ in range(size))
