"""What an entry of a program's table can be: the one place that tells, for both formats.

::

    kind        P  bit 7   the rest
    NONE        0    0     all zero
    PRESENT     1    -     frame and rights, as the manual has them
    PROT_NONE   0    1     frame and rights: nobody may touch the page, which is there (2.2 and later)
    SWAPPED     0    0     device and slot
    MIGRATING   0    0     device 31 and the frame that is being moved (2.6.18)

A swap entry keeps its device in bits 1 to 5 and its slot from bit 8 on in a two-level table (2.4), in the upper word
under PAE, 5 bits of device below 27 of slot, so that the lower word, which hardware reads first, is 0 (2.6).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from sandbox.x86.paging import FRAME_MASK, PAGE_SHIFT, PS, P

PROTNONE = PS
MAPPED = P | PROTNONE
"""An entry with one of these names a frame that it holds a reference on."""
MIGRATION = 31
"""The device of entries whose frame is being moved."""
_DEVICE = 0x1F


class Kind(Enum):
    """See the table above."""

    NONE = "none"
    PRESENT = "present"
    PROT_NONE = "PROT_NONE"
    SWAPPED = "swapped"
    MIGRATING = "migrating"


class Pte(NamedTuple):
    """An entry, told apart.  ``where`` is a frame number, of a SWAPPED one the slot on ``device``."""

    kind: Kind
    where: int
    device: int = 0


def decode(entry: int) -> Pte:
    """What an entry is."""
    if not entry:
        return Pte(Kind.NONE, 0)
    if entry & MAPPED:
        kind = Kind.PRESENT if entry & P else Kind.PROT_NONE
        return Pte(kind, (entry & FRAME_MASK) >> PAGE_SHIFT)
    device, slot = (entry >> 32 & _DEVICE, entry >> 37) if entry >> 32 else (entry >> 1 & _DEVICE, entry >> 8)
    return Pte(Kind.MIGRATING if device == MIGRATION else Kind.SWAPPED, slot, device)


def is_present(entry: int) -> bool:
    """Hardware uses it: PRESENT."""
    return bool(entry & P)


def is_mapped(entry: int) -> bool:
    """It names a frame that it holds a reference on: PRESENT or PROT_NONE."""
    return bool(entry & MAPPED)


def is_away(entry: int) -> bool:
    """A page is there that no frame of this entry holds: SWAPPED or MIGRATING."""
    return bool(entry) and not entry & MAPPED


def no_access(entry: int) -> int:
    """The same frame as PROT_NONE."""
    return entry & ~P | PROTNONE


def access(entry: int) -> int:
    """The same frame as PRESENT."""
    return entry & ~PROTNONE | P


def swap_entry(device: int, slot: int, pae: bool) -> int:
    """The entry of a page on a swap device.  Raises ValueError where slot or device do not fit, or make no entry."""
    if not 0 <= device <= MIGRATION or not 0 <= slot < 1 << (27 if pae else 24) or not device | slot:
        raise ValueError(f"device {device}, slot {slot:#x}")
    return (device | slot << 5) << 32 if pae else device << 1 | slot << 8


def migration_entry(pfn: int, pae: bool) -> int:
    """The entry of a page that is being moved from a frame."""
    return swap_entry(MIGRATION, pfn, pae)
