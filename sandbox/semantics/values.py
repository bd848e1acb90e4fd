"""Operands: values at which instructions change what they do, and random ones."""

from __future__ import annotations

import random
import struct

EDGES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x55555555)
"""Of 32 bits; their low halves and bytes are edges too."""
_FLOATS32: tuple[int, ...] = (
    0,
    0x80000000,
    0x3F800000,
    0xBF800000,
    0x7F800000,
    0xFF800000,
    0x7FC00000,
    0x7F800001,
    1,
    0x80000001,
)
_FLOATS32 += (0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x3F000000, 0x4F000000, 0xCF000000, 0x4EFFFFFF, 0x5F000000)
_FLOATS64: tuple[int, ...] = (
    0,
    1 << 63,
    0x3FF << 52,
    0xBFF << 52,
    0x7FF << 52,
    0xFFF << 52,
    0x7FF8 << 48,
    0x7FF << 52 | 1,
    1,
)
_FLOATS64 += (0xFFFFFFFFFFFFF, 1 << 52, 0x7FEFFFFFFFFFFFFF, 0x3FE << 52, 0x41E << 52, 0xC1E0000000000000)
_FLOATS64 += (0x41DFFFFFFFC00000, 0x43E << 52, 0x47EFFFFFE0000000, 0x3810000000000000)
_ONE = 0x3FFF
_FLOATS80 = (
    (0, 0), (0x8000, 0), (_ONE, 1 << 63), (0xBFFF, 1 << 63), (0x7FFF, 1 << 63), (0xFFFF, 1 << 63),
    (0x7FFF, 3 << 62), (0x7FFF, 1 << 63 | 1), (0xFFFF, 3 << 62), (0, 1), (0, (1 << 63) - 1), (0, 1 << 63), (1, 1 << 63),
    (0x7FFE, (1 << 64) - 1), (_ONE - 1, 1 << 63), (0x4000, 0xC90FDAA22168C235), (0x403E, 1 << 63), (0xC03E, 1 << 63),
    (0x401E, 1 << 63), (0x403D, (1 << 64) - 1), (1, 1), (0x7FFF, 1), (_ONE, 0), (0x43FF, 1 << 63), (0x3C00, 1 << 63),
)  # fmt: skip
"""Sign and exponent, significand: zeros, ones, infinities, NaNs, denormals, limits of integers, unsupported ones."""


def integer(rng: random.Random, at: int) -> int:
    """32 bits: an edge while ``at`` counts through them, then mostly random."""
    if at < len(EDGES):
        return EDGES[at]
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(EDGES)
    if kind == 1:
        return rng.getrandbits(rng.randrange(1, 33))
    return rng.getrandbits(32)


def single(rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind < 3:
        value = rng.choice(_FLOATS32)
    elif kind == 3:
        value = rng.getrandbits(32)
    elif kind == 4:
        value = rng.getrandbits(31) & 0x807FFFFF
    else:
        value = rng.getrandbits(1) << 31 | (0x3F800000 + rng.randrange(-0x8000000, 0x8000000))
    return struct.pack("<I", value)


def double(rng: random.Random) -> bytes:
    kind = rng.randrange(8)
    if kind < 3:
        value = rng.choice(_FLOATS64)
    elif kind == 3:
        value = rng.getrandbits(64)
    elif kind == 4:
        value = rng.getrandbits(52) | rng.getrandbits(1) << 63
    else:
        value = rng.getrandbits(1) << 63 | (rng.randrange(0x3DF, 0x421) << 52) + rng.getrandbits(52)
    return struct.pack("<Q", value)


def extended(rng: random.Random) -> bytes:
    """Ten bytes: mostly normal ones of like size, a third from the list."""
    kind = rng.randrange(6)
    if kind < 2:
        exponent, significand = rng.choice(_FLOATS80)
    elif kind == 2:
        exponent, significand = rng.getrandbits(16), rng.getrandbits(64)
    elif kind == 3:
        exponent, significand = _ONE + rng.randrange(70), 1 << 63 | rng.getrandbits(8) << 55
    else:
        exponent, significand = _ONE + rng.randrange(-40, 70), 1 << 63 | rng.getrandbits(63)
        exponent |= rng.getrandbits(1) << 15
    return struct.pack("<QH", significand, exponent)


def decimal(rng: random.Random) -> bytes:
    """Ten bytes of packed BCD."""
    return bytes(rng.randrange(10) | rng.randrange(10) << 4 for _ in range(9)) + bytes([rng.getrandbits(1) << 7])


def packed(rng: random.Random) -> bytes:
    """Sixteen bytes of one kind: singles, doubles, integers' edges, or anything."""
    kind = rng.randrange(4)
    if kind == 0:
        return b"".join(single(rng) for _ in range(4))
    if kind == 1:
        return double(rng) + double(rng)
    if kind == 2:
        return struct.pack("<4I", *(integer(rng, 99) for _ in range(4)))
    return rng.randbytes(16)


def operand(rng: random.Random, width: int, at: int) -> bytes:
    """What a memory operand of so many bytes holds."""
    if width <= 2:
        return integer(rng, at).to_bytes(4, "little")[:width]
    if width == 4:
        return integer(rng, at).to_bytes(4, "little") if rng.getrandbits(1) else single(rng)
    if width == 8:
        return double(rng) if rng.getrandbits(1) else packed(rng)[:8]
    if width == 10:
        return extended(rng) if rng.getrandbits(2) else decimal(rng)
    return packed(rng) if width == 16 else rng.randbytes(width)
