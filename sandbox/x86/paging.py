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

from sandbox.records import dataclass, field
from sandbox.x86.bits import Bits
from sandbox.x86.masks import CR3_FRAME, CR3_PAE_TABLE

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = -PAGE_SIZE
"""Cuts an address down to its page."""
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


P, RW, US, PWT, PCD, A, D, PS, G, NX = (int(bit) for bit in EntryBits)
"""The same as plain numbers, for code that runs often."""
PAT, PAT_LARGE = 1 << 7, 1 << 12
"""The PAT bit of a PTE, and of an entry that maps a large page."""

FRAME_MASK = (1 << PHYSICAL_BITS) - PAGE_SIZE
"""Where a PAE entry holds a 4 KB frame or table: bits 39 to 12."""
ABOVE_PHYSICAL = (1 << 63) - (1 << PHYSICAL_BITS)
"""Bits 62 to 40: reserved in every present PAE entry."""
PDPTE_RESERVED = NX | ABOVE_PHYSICAL | 0x1E6
"""Reserved in a present PDPTE: bits 1, 2, 5 to 8, and from MAXPHYADDR up (table 4-8)."""
PSE36 = 0x1FE000
"""Where an entry that maps a 4 MB page holds bits 39 to 32 of its physical address."""
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
    mask: int = field(init=False)
    """The mask of an index, after the shift."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", (1 << self.width) - 1)

    @property
    def entries(self) -> int:
        """Entries of a table of this level."""
        return 1 << self.width

    @property
    def span(self) -> int:
        """Bytes of linear addresses that one entry stands for."""
        return 1 << self.shift

    def index(self, linear: int) -> int:
        """The index of the entry for a linear address."""
        return linear >> self.shift & self.mask


@dataclass(frozen=True, slots=True)
class PagingFormat:
    """A paging mode: what its entries hold, and levels from the root.

    Bits that both formats have are the module's: ``P``, ``PS`` and the others.
    """

    name: str
    entry_size: int
    """Bytes of an entry; a table of the lower levels is a frame full of them."""
    levels: tuple[Level, ...]
    cr3_mask: int
    """Where CR3 holds the root's physical address."""
    frame_mask: int
    """Where an entry holds the physical address of a 4 KB frame or a table."""
    nx: int
    """The bit that forbids fetches, 0 where there is none."""

    @property
    def directory(self) -> Level:
        """The level whose entries name tables or map large pages."""
        return self.levels[-2]

    @property
    def table(self) -> Level:
        """The level whose entries map 4 KB pages."""
        return self.levels[-1]

    @property
    def table_entries(self) -> int:
        """Entries in a frame full of them: 1024, PAE 512."""
        return PAGE_SIZE // self.entry_size

    @property
    def table_shift(self) -> int:
        """A frame number shifted left by this is the number of its first entry, counted from physical address 0."""
        return self.table.width

    @property
    def large_page(self) -> int:
        """Bytes of a large page: 4 MB, PAE 2 MB."""
        return self.directory.span

    def index(self, depth: int, linear: int) -> int:
        """The table index of a linear address at a depth, 0 being the root."""
        return self.levels[depth].index(linear)

    def frame(self, entry: int) -> int:
        """The number of the 4 KB frame or table in an entry; for a large page see ``target``."""
        return (entry & self.frame_mask) >> PAGE_SHIFT

    def entry(self, frame: int, flags: int) -> int:
        """An entry that holds a frame number."""
        return frame << PAGE_SHIFT | flags


LEGACY = PagingFormat(
    name="legacy",
    entry_size=4,
    levels=(Level("PDE", 22, 10, True), Level("PTE", 12, 10, False)),
    cr3_mask=CR3_FRAME,
    frame_mask=0xFFFFF000,
    nx=0,
)
PAE = PagingFormat(
    name="pae",
    entry_size=8,
    levels=(Level("PDPTE", 30, 2, False), Level("PDE", 21, 9, True), Level("PTE", 12, 9, False)),
    cr3_mask=CR3_PAE_TABLE,
    frame_mask=FRAME_MASK,
    nx=NX,
)


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
        return entry & fmt.frame_mask
    base = entry & fmt.frame_mask & -fmt.large_page
    return base if fmt is PAE else base | (entry & PSE36) << 19


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
    words = EntryBits(entry & (shown | fmt.nx) & ~reserved).names()
    if leaf and entry & (PAT_LARGE if large else PAT):
        words.append("PAT")
    if reserved:
        words.append(f"reserved={reserved:#x}")
    return f"{' '.join(words)}  {'frame' if leaf else 'table'} {target(fmt, depth, entry, large) >> PAGE_SHIFT:#x}"
