"""What inputs are drawn from: bytes that occur in code, extreme numbers, mutations of good files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

COMMON = bytes.fromhex(
    "0f0f89 8b01 c7 83 81 ff f7 d9 dd f3 f2 66 67 64 cd cf 9a ea e8 e9 eb 50 58 a4 a5 aa ab ad c8 c9 cc f0"
)
"""Bytes with which instructions begin more often than by chance."""
STARTS = [
    bytes.fromhex(each)
    for each in """
    0f01 0f20 0f22 0f23 0f30 0f00 0fae 0fc7 0f0b f30f 660f 0f38 0f3a d9 db df f0 f3a4 f2ae f7f9 f7f1
    f6f9 cf cb ca ea 9a 62 63 c5 c4 8e 0fb2 c8 e4 ec 6c 6f cd f1 9b 0f05 0f34 0f35 f4 fa fb 0f08 0f09 0f06
    0fa2 0f31 cd80 0fb4 0fb5 0fa1 0fa9 0f02 0f03 9c 9d 07 1f 17 0fc0 0fb1 d6 37 27
    """.split()
]
NUMBERS = (
    0, 1, 2, 3, 4, 7, 8, 0xFF, 0x7F, 0x80, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF,
    0x80000000, 0xBFFFF000, 0xBFFFFFFF, 0xC0000000, 0xFFFFF000, 0xFFFFFFFC, 0xFFFFFFFF,
)  # fmt: skip


def code(draw: Random, length: int) -> bytes:
    """A third uniform bytes, a third of bytes that occur in code, a third instructions with a delicate beginning."""
    kind = draw.randrange(3)
    if kind == 0:
        return draw.randbytes(length)
    if kind == 1:
        return bytes(draw.choices(COMMON, k=length))
    made = b""
    while len(made) < length:
        made += draw.choice(STARTS) + draw.randbytes(draw.randrange(1, 6))
    return made[:length]


def number(draw: Random) -> int:
    """32 bits: extreme, or any."""
    return draw.choice(NUMBERS) if draw.random() < 0.8 else draw.getrandbits(32)


def mutate(draw: Random, data: bytes, dense: int) -> bytes:
    """A few places changed, most of them among the first ``dense`` bytes; sometimes cut, doubled, or a piece moved."""
    made = bytearray(data)
    for _ in range(draw.randrange(1, 7)):
        reach = min(dense, len(made)) if draw.random() < 0.7 else len(made)
        if not reach:
            break
        at, width = draw.randrange(reach), draw.choice((1, 2, 4))
        made[at : at + width] = number(draw).to_bytes(4, "little")[:width]
    turn = draw.random()
    if turn < 0.05 and made:
        del made[draw.randrange(len(made)) :]
    elif turn < 0.08 and made:
        at, to = draw.randrange(len(made)), draw.randrange(len(made))
        piece = made[at : at + draw.randrange(1, 64)]
        made[to : to + len(piece)] = piece
    elif turn < 0.1:
        made += draw.randbytes(draw.randrange(64))
    return bytes(made)


_PARTS = re.compile(rb"[A-Za-z_]+|[0-9]+|\s+|.", re.DOTALL)


def reword(draw: Random, data: bytes, words: Sequence[bytes]) -> bytes:
    """A few words or signs of a text changed for others of it, of a list, or numbers; lost, doubled, put in."""
    parts = _PARTS.findall(data)
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(len(parts) + 1)
        others = (draw.choice(words), draw.choice(parts or [b"0"]), b"%d" % number(draw), b"%#x" % number(draw))
        parts[at : at + draw.choice((0, 1, 1, 2))] = draw.choice((*((each,) for each in others), others[:2], ()))
    return b"".join(parts)
