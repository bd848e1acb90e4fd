"""Page walks to order: tables, one access, and the cell of the truth table that they hit.

A cell is (format, page size, level of the last entry read, reason, ring, CR0.WP, EFER.NXE, access).  Possible cells
are dealt in turn, so that rare corners are hit as often as common ones; everything else about a case is drawn: both
tables' places, page frames below and above 4 GB, unused and ignored bits, accessed and dirty bits, which level
withholds a right, what a not-present entry holds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from sandbox.x86.paging import LARGE_LEGACY_RESERVED, NX, PAT, PAT_LARGE, PCD, PS, PWT, RW, US, A, D, G, P
from sandbox.x86.registers import Cr0, Cr4, Efer
from sandbox.x86.walk import Reason

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30

TABLE_BLOCK = 64 * KB
LOW_TABLES = (0x0001_0000, 0xFE00_0000)
HIGH_TABLES = (0x1_0001_0000, 0x40_8000_0000, 0xFF_7FFF_0000)
"""Physical addresses of blocks of RAM for tables; above 4 GB for what PAE can reach there."""
CODE_FRAMES = (0x0080_0000, 0xC080_0000)
"""Physical and linear address of the two code pages: a case uses the one that its own entries do not map."""
PAGE_BLOCK = 4 * MB
PAGES = (
    0x0040_0000, 0x3F00_0000, 0x7FC0_0000, 0xFFC0_0000, 0x1_0040_0000, 0x2_8000_0000, 0xF_0000_0000,
    0x40_0000_0000, 0xFF_FFC0_0000,
)  # fmt: skip
"""Physical addresses of blocks of RAM that cases map."""

PAE_ROOTS, LEGACY_ROOT, CODE_TABLES, DIRECTORIES, TABLES = (0x20, 0xFE0), 0x1000, 0x2000, range(8, 12), range(12, 16)
"""What is where in a table block: offsets, and page numbers.  Code's own tables are in the first block only."""

FORMATS = ("off", "legacy", "legacy-pse", "pae")
STOPS = ("none", "PDPTE", "PDE", "PTE")
SIZES = (0, 4 * KB, 2 * MB, 4 * MB)
RINGS = (0, 1, 2, 3)
ACCESSES = ("read", "write", "fetch", "modify")
STORES = ("write", "modify")
_LEAVES = (
    ("legacy", "PTE", 4 * KB),
    ("legacy-pse", "PTE", 4 * KB),
    ("legacy-pse", "PDE", 4 * MB),
    ("pae", "PTE", 4 * KB),
    ("pae", "PDE", 2 * MB),
)
_WILD = {"legacy": 0xF7F, "legacy-pse": 0x20_0F7F, "pae": 0xFFFF_FF00_0000_0F7F}
"""Bits that can be flipped and leave the address and the page size alone."""
PAGED = (Reason.SUPERVISOR, Reason.READ_ONLY, Reason.NO_EXECUTE, Reason.MAPPED)
_ANSWERED = {start & -PAGE_BLOCK for start in (*PAGES, *CODE_FRAMES, *LOW_TABLES, *HIGH_TABLES)}
_AVAILABLE = 0xE00
_PROTECTED, _MP, _WP, _PG = int(Cr0.PE | Cr0.ET | Cr0.NE), int(Cr0.MP), int(Cr0.WP), int(Cr0.PG)
_NO_MATTER, _OSFXSR, _PSE, _PAE = int(Cr4.PGE | Cr4.DE | Cr4.MCE), int(Cr4.OSFXSR), int(Cr4.PSE), int(Cr4.PAE)
_NXE, _SCE = int(Efer.NXE), int(Efer.SCE)


@dataclass(frozen=True, slots=True)
class Cell:
    """One corner of the truth table; ``size`` is that of the page reached in bytes, or 0."""

    format: str
    size: int
    stop: str
    reason: Reason
    ring: int
    wp: bool
    nxe: bool
    access: str


@dataclass(slots=True)
class Case:
    """Entries (physical address, value) root first, the control registers, and the linear address to use."""

    cell: Cell
    linear: int
    entries: list[tuple[int, int]]
    cr0: int
    cr3: int
    cr4: int
    efer: int
    code: int
    """Which of CODE_FRAMES is mapped for the instruction."""


def cells() -> list[Cell]:
    """The whole product, impossible cells too."""
    sides = (FORMATS, SIZES, STOPS, Reason, RINGS, (False, True), (False, True), ACCESSES)
    return [Cell(*each) for each in product(*sides)]


def impossible(cell: Cell) -> str:
    """Why nothing can hit a cell; empty when something can."""
    if cell.reason is Reason.BAD_PDPTE:
        return "the engine makes it a page fault; hardware refuses it when CR3 is loaded"
    return _impossible_place(cell) or _impossible_right(cell)


def _impossible_place(cell: Cell) -> str:
    if cell.format == "off":
        if (cell.size, cell.stop, cell.reason) != (0, "none", Reason.MAPPED):
            return "without paging there are no entries and no faults"
        return ""
    if cell.stop == "none":
        return "a walk reads at least one entry"
    if cell.stop == "PDPTE" and cell.format != "pae":
        return "two-level paging has no PDPTE"
    if cell.stop == "PTE" and cell.size != 4 * KB:
        return "a PTE maps 4 KB"
    if cell.stop != "PTE" and cell.size == 4 * KB:
        return "4 KB pages end in a PTE"
    if cell.stop == "PDPTE" and cell.size:
        return "no page is that large"
    if cell.size in (2 * MB, 4 * MB) and (cell.format, cell.size) not in (("pae", 2 * MB), ("legacy-pse", 4 * MB)):
        return "the format has no page of that size"
    return ""


def _impossible_right(cell: Cell) -> str:
    reason = cell.reason
    if reason in PAGED and cell.format != "off" and not cell.size:
        return "rights are judged, and addresses made, where a page was reached"
    if reason is Reason.NOT_PRESENT and cell.stop == "PDE" and cell.size:
        return "an entry that is not present has no page size"
    if reason is Reason.RESERVED and cell.format != "pae" and cell.size != 4 * MB:
        return "in two-level paging only a 4 MB entry has a reserved bit"
    if reason is Reason.SUPERVISOR and cell.ring != 3:
        return "rings 0 to 2 may use supervisor pages"
    if reason is Reason.READ_ONLY and cell.access not in STORES:
        return "only a write needs RW"
    if reason is Reason.READ_ONLY and cell.ring != 3 and not cell.wp:
        return "without WP rings 0 to 2 write anywhere"
    if reason is Reason.NO_EXECUTE and cell.access != "fetch":
        return "only a fetch minds NX"
    if reason is Reason.NO_EXECUTE and cell.format != "pae":
        return "two-level entries have no NX"
    if reason is Reason.NO_EXECUTE and not cell.nxe:
        return "without NXE bit 63 is reserved"
    return ""


def dealt(chunk: int, count: int) -> Iterator[Cell]:
    """The cells of a chunk's ``count`` cases: all possible ones in turn, going on where the chunk before ended."""
    possible = [cell for cell in cells() if not impossible(cell)]
    for number in range(chunk * count, (chunk + 1) * count):
        yield possible[number % len(possible)]


def cases(chunk: int, count: int) -> Iterator[Case]:
    """``count`` cases, cell by cell; the chunk's number is the seed."""
    draw = random.Random(chunk)
    for cell in dealt(chunk, count):
        yield _Maker(draw, cell).case()


def wild_cases(seed: int, count: int) -> Iterator[Case]:
    """Cases whose entries have random bits and aim at no cell; the format, ring and access of ``cell`` are right."""
    draw = random.Random(f"wild {seed}")
    for _ in range(count):
        paging, stop, size = draw.choice(_LEAVES)
        registers = draw.choice(RINGS), draw.random() < 0.5, draw.random() < 0.5, draw.choice(ACCESSES)
        case = _Maker(draw, Cell(paging, size, stop, Reason.MAPPED, *registers)).case()
        entries = []
        for physical, entry in case.entries:
            flips = draw.getrandbits(64) & draw.getrandbits(64) & draw.getrandbits(64) & _WILD[paging]
            if draw.getrandbits(1):
                flips &= 0x8000_0000_0000_0007 if paging == "pae" else 7
            entries.append((physical, entry ^ flips))
        case.entries = entries
        yield case


def physical_is_ram(physical: int) -> bool:
    """A page block holds the address."""
    return any(start <= physical < start + PAGE_BLOCK for start in PAGES)


class _Maker:
    """Draws one case of a cell."""

    def __init__(self, draw: random.Random, cell: Cell) -> None:
        self.draw = draw
        self.cell = cell
        self.pae = cell.format == "pae"
        self.entries: list[tuple[int, int]] = []
        self.code = 0

    def case(self) -> Case:
        cell, noise = self.cell, self.draw.getrandbits(32)
        off = cell.format == "off"
        cr0 = _PROTECTED | noise & _MP | (_WP if cell.wp else 0) | (0 if off else _PG)
        cr4 = noise & _NO_MATTER | _OSFXSR
        if cell.format == "legacy-pse":
            cr4 |= _PSE
        elif cell.format != "legacy":
            cr4 |= noise & _PSE
            cr4 |= _PAE if self.pae else noise & _PAE
        efer = (_NXE if cell.nxe else 0) | noise & _SCE
        linear, cr3 = (self._address(1 << 32), noise) if off else self._tables()
        return Case(cell, linear, self.entries, cr0, cr3, cr4, efer, self.code)

    # -- where things are ----------------------------------------------------------------------------------------

    def _address(self, end: int) -> int:
        """A slot's physical address below ``end`` in a block of pages; one in 16 is no RAM.

        Slots have 16 bytes; a fetch uses the odd pages, so that stores do not hit translated code.  What reads and
        writes stays in RAM: where nothing answers, its read fails on the bus before its write is judged.
        """
        draw = self.draw
        if self.cell.access == "modify" or draw.getrandbits(4):
            base = draw.choice([start for start in PAGES if start < end])
        else:
            base = draw.randrange(end) & -PAGE_BLOCK
            while base in _ANSWERED:
                base = draw.randrange(end) & -PAGE_BLOCK
        page = draw.getrandbits(10)
        page = page | 1 if self.cell.access == "fetch" else page & ~1
        return base + page * 4 * KB + draw.getrandbits(8) * 16

    def _tables(self) -> tuple[int, int]:
        """Fill ``entries``; linear address and CR3."""
        cell, draw = self.cell, self.draw
        target = self._address(1 << (40 if self.pae or cell.size == 4 * MB else 32))
        keep = (cell.size or 4 * KB) - 1
        linear = draw.getrandbits(32) & ~keep | target & keep
        block = draw.choice(LOW_TABLES)
        blocks = LOW_TABLES + HIGH_TABLES if self.pae else LOW_TABLES
        directory = draw.choice(blocks) + draw.choice(DIRECTORIES) * 4 * KB
        table = draw.choice(blocks) + draw.choice(TABLES) * 4 * KB
        rights = self._rights()
        ignored = draw.getrandbits(32)
        if self.pae:
            self.code = 1 if linear >> 30 == CODE_FRAMES[0] >> 30 else 0
            root = block + draw.choice(PAE_ROOTS)
            cr3 = root | ignored & 0x1F
            self._pdpte(root + (linear >> 30) * 8, directory)
            if cell.stop != "PDPTE":
                self._pde(directory + (linear >> 21 & 0x1FF) * 8, table, target, rights[0])
            if cell.stop == "PTE":
                self._leaf(table + (linear >> 12 & 0x1FF) * 8, target & ~0xFFF, PAT, rights[1])
            return linear, cr3
        self.code = 1 if linear >> 22 == CODE_FRAMES[0] >> 22 else 0
        root = block + LEGACY_ROOT
        self._pde(root + (linear >> 22) * 4, table, target, rights[0])
        if cell.stop == "PTE":
            self._leaf(table + (linear >> 12 & 0x3FF) * 4, target & ~0xFFF, PAT, rights[1])
        return linear, root | ignored & 0xFFF

    # -- entries -------------------------------------------------------------------------------------------------

    def _rights(self) -> list[int]:
        """RW, US and NX of directory and table so that the walk ends as the cell says (they combine)."""
        cell, draw = self.cell, self.draw
        count = 2 if cell.stop == "PTE" else 1
        extra = draw.getrandbits(6)
        rights = [extra << 1 & (RW | US), extra >> 1 & (RW | US)]
        if self.pae and cell.nxe:
            rights[0] |= NX if extra & 16 else 0
            rights[1] |= NX if extra & 32 else 0
        if cell.reason not in PAGED:
            return rights
        must = [0, 0]
        if cell.ring == 3 and cell.reason is not Reason.SUPERVISOR:
            must = [must[0] | US, must[1] | US]
        if cell.reason is Reason.MAPPED:
            if cell.access in STORES and (cell.ring == 3 or cell.wp):
                must = [must[0] | RW, must[1] | RW]
            if cell.access == "fetch":
                rights = [rights[0] & ~NX, rights[1] & ~NX]
        rights = [rights[0] | must[0], rights[1] | must[1]]
        who = draw.choice((1, 2, 3)) if count == 2 else 1
        for depth in range(count):
            if who >> depth & 1:
                if cell.reason is Reason.SUPERVISOR:
                    rights[depth] &= ~US
                elif cell.reason is Reason.READ_ONLY:
                    rights[depth] &= ~RW
                elif cell.reason is Reason.NO_EXECUTE:
                    rights[depth] |= NX
        return rights

    def _pdpte(self, at: int, directory: int) -> None:
        """Bits 1, 2 and 5 to 8 are reserved, but the engine does not look at them."""
        cell, draw = self.cell, self.draw
        entry = directory | P | draw.getrandbits(12) & (_AVAILABLE | PWT | PCD)
        if not draw.getrandbits(2):
            entry |= draw.getrandbits(9) & 0x1E6
        if cell.stop == "PDPTE":
            entry = self._spoil(entry, [*range(40, 64)])
        self.entries.append((at, entry))

    def _pde(self, at: int, table: int, target: int, rights: int) -> None:
        cell, draw = self.cell, self.draw
        noise = draw.getrandbits(12) & (_AVAILABLE | PWT | PCD | A | D | G)
        if cell.size in (2 * MB, 4 * MB):
            self._leaf(at, self._large(target) | PS, PAT_LARGE, rights)
            return
        entry = table | P | rights | noise
        if cell.format == "legacy":
            entry |= draw.getrandbits(1) * PS
        if cell.stop == "PDE":
            entry |= PS if cell.reason is Reason.NOT_PRESENT and noise & 0x400 else 0
            entry = self._spoil(entry, self._reserved())
        elif cell.reason is Reason.NOT_PRESENT and not draw.getrandbits(3):
            entry = self._table_outside_ram(entry)
        self.entries.append((at, entry))

    def _table_outside_ram(self, entry: int) -> int:
        """Point to where nothing answers; the engine's walker reads zeros there."""
        return entry & ~0xFFFFF000 | (0x0F12_3000 if self.draw.getrandbits(1) else 0xE000_0000)

    def _large(self, target: int) -> int:
        if self.pae:
            return target & -(2 * MB)
        return target & 0xFFC00000 | target >> 19 & 0x1FE000

    def _leaf(self, at: int, frame: int, pat: int, rights: int) -> None:
        draw = self.draw
        noise = draw.getrandbits(13) & (_AVAILABLE | PWT | PCD | A | D | G | pat)
        self.entries.append((at, self._spoil(frame | P | rights | noise, self._reserved())))

    def _reserved(self) -> list[int]:
        """Numbers of the bits that must be zero where the walk stops."""
        cell = self.cell
        if not self.pae:
            return [LARGE_LEGACY_RESERVED.bit_length() - 1]
        above = list(range(40, 63))
        if not cell.nxe:
            above += [63] * len(above)
        return [*above, *range(13, 21)] if cell.size == 2 * MB else above

    def _spoil(self, entry: int, reserved: list[int]) -> int:
        """Make the entry on which the walk stops not present, or set reserved bits in it."""
        draw = self.draw
        if self.cell.reason is Reason.NOT_PRESENT:
            junk = draw.getrandbits(64 if self.pae else 32)
            return draw.choice((0, entry & ~P, junk & ~P))
        if self.cell.reason is Reason.RESERVED:
            for bit in draw.sample(reserved, 1 if draw.getrandbits(1) else min(2, len(reserved))):
                entry |= 1 << bit
        return entry
