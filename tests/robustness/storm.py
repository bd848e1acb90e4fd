"""Tables of hostile system calls for ``storm.S``: numbers, arguments and paths drawn by a seed."""

from __future__ import annotations

import random
import struct

from sandbox.kernel.abi.numbers import NUMBERS

TABLE, SIZE, STRINGS, COUNT = 0x3000_0000, 0x80000, 0x3007_0000, 0x3010_0000
ENDINGS = 200
"""Rows at the end that exit: each process of the storm takes one."""
_RARE = (
    "exit exit_group pause rt_sigsuspend sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
    "kill tkill tgkill execve nanosleep fork vfork clone"
)
RARE = frozenset(NUMBERS[name] for name in _RARE.split())
"""Calls that end a process, put it to sleep or make another: some, or there would be no storm."""
BASES = (COUNT, COUNT, 0x804_8000, 0xBFFF_F000, 0xBFFF_D000, 0x5000_0000, 0xBFFF_FFFC, 0xC000_0000, 0)
PATHS = (
    b"/", b".", b"..", b"", b"/etc/passwd", b"../../../../outside/secret", b"/outside", b"link-out/secret", b"loop",
    b"/tmp/a", b"/tmp/b", b"/tmp/a/c", b"/proc/self/maps", b"/proc/self/exe", b"/dev/null", b"/dev/zero", b"/bin/storm",
    b"a" * 255, b"a" * 256, b"/a" * 2047, b"\xff\xfe", b"/tmp/../tmp/./b/",
)  # fmt: skip


def make_table(seed: int, rows: int) -> bytes:
    """What ``storm.S`` reads: ``rows`` calls, exits behind them, paths at ``STRINGS``."""
    rng = random.Random(seed)
    pointers = _strings()[1]
    numbers = [number for number in NUMBERS.values() if number not in RARE]
    packed = bytearray()
    for _ in range(rows):
        draw = rng.random()
        if draw < 0.93:
            number = rng.choice(numbers)
        elif draw < 0.98:
            number = rng.choice(sorted(RARE - {NUMBERS["exit"], NUMBERS["exit_group"]}))
        else:
            number = rng.getrandbits(rng.choice((9, 32)))
        packed += struct.pack("<7I", number, *(_argument(rng, pointers) for _ in range(6)))
    packed += struct.pack("<7I", NUMBERS["exit"], *[0] * 6) * ENDINGS
    assert len(packed) < STRINGS - TABLE
    return bytes(packed.ljust(STRINGS - TABLE, b"\0") + _strings()[0])


def _strings() -> tuple[bytes, list[int]]:
    data, places = bytearray(), []
    for path in PATHS:
        places.append(STRINGS + len(data))
        data += path + b"\0"
    return bytes(data), places


def _argument(rng: random.Random, paths: list[int]) -> int:
    draw = rng.random()
    if draw < 0.25:
        return rng.randrange(12)
    if draw < 0.45:
        return rng.choice(paths)
    if draw < 0.65:
        return rng.choice(BASES) + rng.choice((0x100, 0x200, 0x800, 0xFF0, 0xFFC, 0xFFF)) & 0xFFFFFFFF
    if draw < 0.75:
        return 1 << rng.randrange(32)
    if draw < 0.85:
        return rng.randrange(64) << 12
    if draw < 0.92:
        return rng.choice((0xFFFFFFFF, 0xFFFFFF9C, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0x1000, 0x1001, 65536))
    return rng.getrandbits(32)
