"""Page-table entries of both 32-bit formats, as data (SDM 3A, 4.3 and 4.4)."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_SIZE = 4096
P, RW, US, PWT, PCD, A, D, PS, G = (1 << bit for bit in range(9))
NX = 1 << 63
_BITS = (("P", P), ("RW", RW), ("US", US), ("PWT", PWT), ("PCD", PCD), ("A", A))
_LEAF_BITS = (("D", D), ("G", G))
PHYSICAL_BITS = 40
"""MAXPHYADDR of the engine's CPU model."""


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
    """The entry maps a page: the last level, or PS where large pages exist."""
    return depth == len(fmt.levels) - 1 or (fmt.levels[depth].large and bool(entry & PS) and pse)


def describe_entry(fmt: PagingFormat, depth: int, entry: int, pse: bool = True) -> str:
    """``P RW US A D  frame 0x123``; what a not-present entry holds is shown as a number."""
    if not entry & P:
        return f"not present ({entry:#x})" if entry else "not present"
    leaf = is_leaf(fmt, depth, entry, pse)
    names = [name for name, bit in _BITS if entry & bit]
    if leaf:
        names += [name for name, bit in _LEAF_BITS if entry & bit]
        if depth < len(fmt.levels) - 1:
            names.append("PS")
    if entry & NX:
        names.append("NX")
    frame = (entry & (1 << PHYSICAL_BITS) - 1) >> 12
    return f"{' '.join(names)}  {'frame' if leaf else 'table'} {frame:#x}"
