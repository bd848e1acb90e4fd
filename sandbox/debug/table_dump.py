"""A whole page directory as rows: every entry that is not zero, equal neighbours folded (SDM 3A, 4.3 and 4.4)."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.debug.runs import Run, folded
from sandbox.debug.target import Refused
from sandbox.machine.memory import PhysicalMemory
from sandbox.records import dataclass
from sandbox.x86.masks import CR0_PG, CR4_PAE, CR4_PSE, EFER_NXE
from sandbox.x86.paging import LEGACY, PAE, PAGE_SHIFT, P, PagingFormat, describe_entry, is_leaf, target


@dataclass(frozen=True, slots=True)
class Mode:
    """What control registers say of paging."""

    cr0: int
    cr4: int
    efer: int

    @property
    def format(self) -> PagingFormat:
        """Raises Refused with paging off."""
        if not self.cr0 & CR0_PG:
            raise Refused("paging is off: linear is physical, and no tables are used")
        return PAE if self.cr4 & CR4_PAE else LEGACY

    @property
    def pse(self) -> bool:
        return bool(self.cr4 & CR4_PSE)

    @property
    def nxe(self) -> bool:
        return bool(self.efer & EFER_NXE)


def runs_of(memory: PhysicalMemory, mode: Mode, cr3: int) -> Iterator[Run]:
    """The rows, by linear address; an entry that names a table comes before what is in it.

    Raises Refused where paging is off, or the root is not in RAM.
    """
    fmt = mode.format
    root = cr3 & fmt.cr3_mask
    if not memory.is_ram(root, fmt.entry_size):
        raise Refused(f"cr3 {cr3:#x}: no RAM at {root:#x}")
    return _table(memory, mode, fmt, 0, root, 0)


def _table(memory: PhysicalMemory, mode: Mode, fmt: PagingFormat, depth: int, place: int, linear: int) -> Iterator[Run]:
    """The rows of one table and of what is below it."""
    waiting: list[Run] = []
    for run, below in _entries(memory, mode, fmt, depth, place, linear):
        if below is None:
            waiting.append(run)
            continue
        yield from folded(waiting)
        waiting = []
        yield run
        if memory.is_ram(below, 1 << PAGE_SHIFT):
            yield from _table(memory, mode, fmt, depth + 1, below, run.start)
    yield from folded(waiting)


def _entries(
    memory: PhysicalMemory, mode: Mode, fmt: PagingFormat, depth: int, place: int, linear: int
) -> Iterator[tuple[Run, int | None]]:
    """(row, physical address of the table below) of the entries of a table that are not zero."""
    level, size = fmt.levels[depth], fmt.entry_size
    data = memory.read(place, level.entries * size)
    for index in range(level.entries):
        entry = int.from_bytes(data[index * size : (index + 1) * size], "little")
        if not entry:
            continue
        start = linear + index * level.span
        leaf = is_leaf(fmt, depth, entry, mode.pse)
        words, _, what = describe_entry(fmt, depth, entry, mode.pse, mode.nxe).partition("  ")
        run = Run(level.name, index, place + index * size, start, start + level.span, entry, words)
        if entry & P and leaf:
            run.frame = target(fmt, depth, entry, depth < len(fmt.levels) - 1) >> PAGE_SHIFT
        elif entry & P:
            run.note = what if memory.is_ram(entry & fmt.frame_mask) else f"{what}, where no RAM is"
        yield run, entry & fmt.frame_mask if entry & P and not leaf else None


def leaves(memory: PhysicalMemory, mode: Mode, cr3: int) -> Iterator[Run]:
    """The entries that map pages, one by one, by linear address.  Raises Refused as ``runs_of`` does."""
    fmt = mode.format

    def below(depth: int, place: int, linear: int) -> Iterator[Run]:
        if not memory.is_ram(place, fmt.entry_size):
            return
        for run, table in _entries(memory, mode, fmt, depth, place, linear):
            if table is not None:
                yield from below(depth + 1, table, run.start)
            elif run.frame is not None:
                yield run

    return below(0, cr3 & fmt.cr3_mask, 0)


def lines_of(runs: list[Run]) -> list[str]:
    """For people: the deeper, the further to the right."""
    return [line(run) for run in runs]


def line(run: Run) -> str:
    """One row."""
    last = run.index + run.pieces - 1
    index = f"[{run.index:#05x}]" if run.pieces == 1 else f"[{run.index:#05x}-{last:#05x}]"
    indent = {"PDPTE": "", "PDE": " ", "PTE": "  "}[run.level]
    told = " ".join(each for each in (run.words, "", run.frames(), run.note) if each or each == "").rstrip()
    return f"{indent + run.level:6} {index:15} {run.start:08x}-{run.end - 1:08x}  {told}"
