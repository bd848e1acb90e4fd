"""What a translation grants, and what the tables grant now, from the entries that a walk used (SDM 3A, 4.6 and 4.10).

A path is flat: physical address of an entry, the entry, and so on from the root to the leaf.  An entry is as it was
when the walk was over, its accessed and dirty bits set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sandbox.records import dataclass
from sandbox.x86.masks import CR4_PAE, CR4_PSE
from sandbox.x86.paging import LEGACY, NX, PAE, PAGE_SIZE, RW, US, D, G, P, is_leaf, target
from sandbox.x86.walk import Read

Path = tuple[int, ...]


class Held(NamedTuple):
    """A translation that a CPU may hold: ``physical`` is where its page begins, ``size`` and addresses in bytes."""

    physical: int
    size: int
    path: Path
    attributes: int
    """The engine's own, of the fill."""

    @property
    def is_global(self) -> bool:
        """Its leaf has G; whether that means something is CR4.PGE's to say."""
        return bool(self.path[-1] & G)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a translation lets a CPU do.  ``write`` without asking the tables again: RW at each level, and D set."""

    user: bool
    write: bool
    execute: bool

    def covers(self, other: Grant) -> bool:
        """Everything that the other grants."""
        return self.user >= other.user and self.write >= other.write and self.execute >= other.execute


def grant(path: Sequence[int], pae: bool) -> Grant:
    """The rights of a whole path; under PAE the PDPTE has none."""
    entries = path[3 if pae else 1 :: 2]
    both = -1
    for each in entries:
        both &= each
    return Grant(bool(both & US), bool(both & RW and path[-1] & D), not any(each & NX for each in entries))


class Now(NamedTuple):
    """What a walk would find now; ``physical`` is None where it would stop."""

    physical: int | None
    size: int
    path: Path


def walk_now(read: Read, cr3: int, cr4: int, pdptes: Sequence[int], linear: int) -> Now:
    """A walk that touches nothing; PDPTEs come from their registers, as hardware has it (4.4.1)."""
    fmt = PAE if cr4 & CR4_PAE else LEGACY
    table = cr3 & fmt.cr3_mask
    path: Path = ()
    for depth, level in enumerate(fmt.levels):
        at = table + (linear >> level.shift & level.mask) * fmt.entry_size
        entry = pdptes[linear >> level.shift] if fmt is PAE and depth == 0 and pdptes else read(at, fmt.entry_size)
        path = (*path, at, entry)
        if not entry & P:
            return Now(None, PAGE_SIZE, path)
        leaf = is_leaf(fmt, depth, entry, bool(cr4 & CR4_PSE))
        table = target(fmt, depth, entry, leaf and depth < len(fmt.levels) - 1)
        if leaf:
            size = level.span
            return Now(table + (linear & size - 1 & -PAGE_SIZE), size, path)
    raise AssertionError(path)


def is_stale(held: Held, linear: int, now: Now, pae: bool) -> bool:
    """The translation leads elsewhere than the tables, or grants what they do not.

    One that grants less is none: it costs a fault that finds everything in order (SDM 3A, 4.10.4.3).
    """
    if now.physical is None or now.physical != held.physical + (linear & held.size - 1 & -PAGE_SIZE):
        return True
    return not grant(now.path, pae).covers(grant(held.path, pae))


def difference(held: Held, now: Now) -> tuple[int, int, int]:
    """The first entry of a stale path that reads otherwise now: its physical address, then and now.

    A path that begins in another root (a global page's, after a load of CR3) is compared from the leaf.
    """
    then, present = (zip(path[::2], path[1::2], strict=True) for path in (held.path, now.path))
    for (at, entry), (at_now, entry_now) in zip(then, present, strict=False):
        if at == at_now and (entry ^ entry_now) & ~_MARKS:
            return at, entry, entry_now
    return held.path[-2], held.path[-1], now.path[-1]


_MARKS = 1 << 5
"""A: no right depends on it."""
