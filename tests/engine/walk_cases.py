"""Page walks to order: random tables, one access, and the cell of the truth table that it hits.

A cell is (format, page size, stop level, reason, ring, CR0.WP, EFER.NXE, access).  Cases are drawn cell by cell, so
that rare corners are hit as often as common ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from sandbox.x86.paging import NX, PS, RW, US, A, D, G, P
from sandbox.x86.walk import Reason

ROOT, DIRECTORY, TABLE = 0x101, 0x102, 0x103
"""Frame numbers of the tables of every case."""
FIRST_TARGET, TARGETS = 0x800, 0x3800
"""Frames [FIRST_TARGET, TARGETS) can be mapped; each holds its own number."""
ACCESSES = ("read", "write", "fetch")
_SOFT = 0xE00
_CACHE = 0x18
_ABOVE = [1 << bit for bit in range(40, 63)]


@dataclass(frozen=True, slots=True)
class Cell:
    """One corner of the truth table; ``level`` is the depth at which the walk stops, ``size`` the page size in KB."""

    fmt: str
    size: int
    level: int
    reason: Reason
    ring: int
    wp: bool
    nxe: bool
    access: str


@dataclass(frozen=True, slots=True)
class Case:
    """Entries of each level, root first, and the linear address whose walk meets them."""

    cell: Cell
    linear: int
    entries: tuple[int, ...]


def impossible(cell: Cell) -> str:
    """Why nothing can hit a cell, or nothing when something can."""
    last = 1 if cell.fmt == "legacy" else 2
    leaf = last if cell.size == 4 else last - 1
    if cell.fmt == "legacy" and cell.nxe:
        return "two-level entries have no NX bit"
    if (cell.size == 2048 and cell.fmt == "legacy") or (cell.size == 4096 and cell.fmt == "pae"):
        return "the other format's large page"
    if cell.level > leaf:
        return "below the leaf"
    if cell.reason is Reason.NOT_PRESENT:
        return "a directory entry that is not present has no page size" if cell.size != 4 and cell.level == leaf else ""
    if cell.reason is Reason.RESERVED:
        if cell.fmt == "legacy":
            return "" if cell.size == 4096 and cell.level == leaf else "no reserved bit in this entry"
        return ""
    if cell.level != leaf:
        return "rights are judged at the leaf"
    if cell.reason is Reason.SUPERVISOR and cell.ring == 0:
        return "supervisor code may use supervisor pages"
    if cell.reason is Reason.READ_ONLY and (cell.access != "write" or (cell.ring == 0 and not cell.wp)):
        return "only writes, and in ring 0 only with WP"
    if cell.reason is Reason.NO_EXECUTE and (cell.access != "fetch" or not cell.nxe):
        return "only fetches, and only with NXE"
    return ""


def cells() -> list[Cell]:
    """Every cell, the impossible ones too."""
    return [
        Cell(*each)
        for each in product(
            ("legacy", "pae"), (4, 2048, 4096), range(3), Reason, (0, 3), (False, True), (False, True), ACCESSES
        )
    ]


def cases(seed: int, count: int) -> Iterator[Case]:
    """``count`` cases, the possible cells in turn."""
    draw = random.Random(seed)
    possible = [cell for cell in cells() if not impossible(cell)]
    for number in range(count):
        yield _case(draw, possible[number % len(possible)])


def _noise(draw: random.Random) -> int:
    return draw.getrandbits(12) & (_SOFT | _CACHE | A | D | G)


def _case(draw: random.Random, cell: Cell) -> Case:
    pae = cell.fmt == "pae"
    leaf = (2 if pae else 1) if cell.size == 4 else (1 if pae else 0)
    linear = draw.randrange(0x1000, 0xBFFFF) << 12
    if cell.size != 4:
        linear = linear & ~((cell.size << 10) - 1) | draw.randrange(cell.size // 4) << 12
    rights = _rights(draw, cell, leaf)
    entries: list[int] = []
    for depth in range(leaf + 1):
        if pae and depth == 0:
            entry = P | DIRECTORY << 12 | draw.getrandbits(12) & (_SOFT | _CACHE)
        else:
            entry = P | rights[depth] | _noise(draw)
            if depth < leaf:
                entry = entry & ~PS | TABLE << 12
            else:
                entry |= _target(draw, cell)
            if pae and not cell.nxe:
                entry &= ~NX
        if depth == cell.level:
            if cell.reason is Reason.NOT_PRESENT:
                entry = draw.choice((0, entry & ~P, draw.getrandbits(63 if pae else 31) & ~P))
            elif cell.reason is Reason.RESERVED:
                entry |= _reserved_bit(draw, cell, depth, leaf)
        entries.append(entry)
    return Case(cell, linear, tuple(entries))


def _target(draw: random.Random, cell: Cell) -> int:
    if cell.size == 4:
        return draw.randrange(FIRST_TARGET, TARGETS) << 12
    frames = cell.size // 4
    return draw.randrange(FIRST_TARGET // frames, TARGETS // frames) * frames << 12 | PS


def _rights(draw: random.Random, cell: Cell, leaf: int) -> list[int]:
    """RW, US and NX of each level so that the walk ends as the cell says (rights combine over the levels)."""
    first = 1 if cell.fmt == "pae" else 0
    depths = list(range(first, leaf + 1))
    need_user = cell.ring == 3 and cell.reason in (Reason.MAPPED, Reason.READ_ONLY, Reason.NO_EXECUTE)
    need_write = cell.access == "write" and (cell.ring == 3 or cell.wp)
    rights = [0] * (leaf + 1)
    for depth in depths:
        rights[depth] = (
            draw.choice((0, RW)) | draw.choice((0, US)) | draw.choice((0, NX) if cell.fmt == "pae" else (0,))
        )
        if need_user:
            rights[depth] |= US
        if need_write and cell.reason in (Reason.MAPPED, Reason.NO_EXECUTE):
            rights[depth] |= RW
        if cell.access == "fetch" and cell.reason is not Reason.NO_EXECUTE:
            rights[depth] &= ~NX
    if cell.reason is Reason.SUPERVISOR:
        rights[draw.choice(depths)] &= ~US
    elif cell.reason is Reason.READ_ONLY:
        rights[draw.choice(depths)] &= ~RW
    elif cell.reason is Reason.NO_EXECUTE:
        rights[draw.choice(depths)] |= NX
    return rights


def _reserved_bit(draw: random.Random, cell: Cell, depth: int, leaf: int) -> int:
    if cell.fmt == "legacy":
        return 1 << 21
    choices = list(_ABOVE)
    if depth == 0 or not cell.nxe:
        choices.append(NX)
    if depth == leaf and cell.size == 2048:
        choices += [1 << bit for bit in range(13, 21)]
    return draw.choice(choices)
