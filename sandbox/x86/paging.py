"""Page-table entries of both 32-bit formats, as data (SDM 3A, 4.3 and 4.4).

::

    two-level      linear  31      22 21      12 11       0
                           |  PDE    |  PTE     | offset  |    4-byte entries, 4 KB pages
                           |  PDE    |      offset        |    PS and CR4.PSE: 4 MB pages

    PAE            linear  31 30 29    21 20   12 11       0
                           |PDPTE| PDE   | PTE   | offset  |   8-byte entries, 4 KB pages
                           |PDPTE| PDE   |     offset      |   PS: 2 MB pages

Physical addresses have 40 bits, as on the engine's CPU model: PAE frames, and 4 MB pages by PSE-36, whose bits
20 to 13 are bits 39 to 32 of the address.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.x86.bits import Bits

PAGE_SIZE = 4096
PHYSICAL_BITS = 40
"""MAXPHYADDR of the engine's CPU model."""


class EntryBits(Bits):
    """The flags of an entry, at whatever level (SDM 3A, tables 4-4 to 4-6 and 4-8 to 4-11)."""

    P = 1 << 0
    RW = 1 << 1
    US = 1 << 2
    PWT = 1 << 3
    PCD = 1 << 4
    A = 1 << 5
    D = 1 << 6
    PS = 1 << 7
    """Page size, in a directory; in a PTE the same bit is PAT."""
    G = 1 << 8
    NX = 1 << 63
    """XD in the manual.  PAE only, and reserved unless EFER.NXE."""


P, RW, US, PWT, PCD, A, D, PS, G = (1 << bit for bit in range(9))
NX = 1 << 63
PAT, PAT_LARGE = 1 << 7, 1 << 12
"""The PAT bit of a PTE, and of an entry that maps a large page."""

FRAME_MASK = (1 << PHYSICAL_BITS) - PAGE_SIZE
"""Where an entry holds a 4 KB frame or table: bits 39 to 12 (a two-level entry ends at 31 by itself)."""
ABOVE_PHYSICAL = (1 << 63) - (1 << PHYSICAL_BITS)
"""Bits 62 to 40: reserved in every present PAE entry."""
PDPTE_RESERVED = NX | ABOVE_PHYSICAL | 0x1E6
"""Reserved in a present PDPTE: bits 1, 2, 5 to 8, and from MAXPHYADDR up (table 4-8)."""
LARGE_LEGACY_RESERVED = 1 << 21
LARGE_PAE_RESERVED = 0x1FE000
"""Reserved in an entry that maps a 4 MB page (bit 21), or a 2 MB page (bits 20 to 13)."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of tables: an address shifted right by ``shift`` and masked to ``width`` bits indexes it."""

    name: str
    shift: int
    width: int
    large: bool
    """An entry of this level may map a page itself."""


@dataclass(frozen=True, slots=True)
class PagingFormat:
    """A paging mode: entry size in bytes, and levels from the root."""

    name: str
    entry_size: int
    levels: tuple[Level, ...]

    def index(self, depth: int, linear: int) -> int:
        """The table index of a linear address at a depth, 0 being the root."""
        level = self.levels[depth]
        return linear >> level.shift & (1 << level.width) - 1


LEGACY = PagingFormat("legacy", 4, (Level("PDE", 22, 10, True), Level("PTE", 12, 10, False)))
PAE = PagingFormat("pae", 8, (Level("PDPTE", 30, 2, False), Level("PDE", 21, 9, True), Level("PTE", 12, 9, False)))


def is_leaf(fmt: PagingFormat, depth: int, entry: int, pse: bool = True) -> bool:
    """The entry maps a page: the last level, or PS where large pages exist (two-level: only with CR4.PSE)."""
    return depth == len(fmt.levels) - 1 or (fmt.levels[depth].large and bool(entry & PS) and (pse or fmt is PAE))


def reserved_bits(fmt: PagingFormat, depth: int, large: bool, nxe: bool) -> int:
    """The bits that must be zero in a present entry (SDM 3A, 4.3, 4.4.2)."""
    if fmt is LEGACY:
        return LARGE_LEGACY_RESERVED if large else 0
    if depth == 0:
        return PDPTE_RESERVED
    bits = ABOVE_PHYSICAL if nxe else ABOVE_PHYSICAL | NX
    return bits | LARGE_PAE_RESERVED if large else bits


def target(fmt: PagingFormat, depth: int, entry: int, large: bool) -> int:
    """Physical address of the table or page that an entry points to."""
    if not large:
        return entry & FRAME_MASK
    if fmt is PAE:
        return entry & FRAME_MASK & -(1 << 21)
    return entry & 0xFFC00000 | (entry & 0x1FE000) << 19


def describe_entry(fmt: PagingFormat, depth: int, entry: int, pse: bool = True, nxe: bool = True) -> str:
    """``P RW US A D  frame 0x123``; what a not-present entry holds is shown as a number.

    Bits that the processor ignores at this level are left out, reserved ones are named as such.  Frames and tables
    are frame numbers, also for a large page, whose first frame it is.
    """
    if not entry & P:
        return f"not present ({entry:#x})" if entry else "not present"
    leaf = is_leaf(fmt, depth, entry, pse)
    large = leaf and depth < len(fmt.levels) - 1
    shown = P | PWT | PCD
    if len(fmt.levels) - depth < 3:
        shown |= RW | US | A
    if leaf:
        shown |= D | G
    if large:
        shown |= PS
    reserved = reserved_bits(fmt, depth, large, nxe) & entry
    words = EntryBits(entry & (shown | (NX if fmt is PAE else 0)) & ~reserved).names()
    if leaf and entry & (PAT_LARGE if large else PAT):
        words.append("PAT")
    if reserved:
        words.append(f"reserved={reserved:#x}")
    return f"{' '.join(words)}  {'frame' if leaf else 'table'} {target(fmt, depth, entry, large) >> 12:#x}"
