"""Memory of a bare machine, which has no kernel that knows of areas: what its tables map, what is where in RAM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.debug.frame_view import mode_of
from sandbox.debug.runs import Run, folded
from sandbox.debug.table_dump import leaves, runs_of
from sandbox.debug.target import Target
from sandbox.x86.masks import CR0_PG
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE, A, D, EntryBits

Told = tuple[list[str], dict[str, Any]]


def linear(target: Target) -> Told:
    """Ranges of linear addresses that the present tables map, with what they grant; the same keys as a kernel's."""
    rows = list(_mapped(target))
    regions = [{"name": name, "start": start, "end": end, "areas": []} for start, end, name in rows]
    lines = [f"{start:08x}-{end - 1:08x}  {name}" for start, end, name in rows]
    return lines or ["nothing is mapped"], {"maps": {"brk": None, "areas": [], "regions": regions}}


def _mapped(target: Target) -> Iterator[tuple[int, int, str]]:
    if not target.context.cr0 & CR0_PG:
        yield 0, 1 << 32, "paging is off: linear is physical"
        return
    for run in folded(_alike(run) for run in leaves(target.machine.memory, mode_of(target), target.cr3)):
        yield run.start, run.end, f"{run.words}  {run.frames()}"


def _alike(run: Run) -> Run:
    """Without what accesses leave behind, and whatever level it is of."""
    marks = EntryBits(A | D).names()
    run.words = " ".join(word for word in run.words.split() if word not in (*marks, "PS"))
    run.level, run.note = "", ""
    return run


def physical(target: Target) -> Told:
    """RAM, tables, and windows of devices, by physical address."""
    memory = target.machine.memory
    tables = _tables(target)
    rows: list[tuple[int, int, str]] = []
    for start, size, _ in memory.ranges:
        at = start
        for table in sorted(each for each in tables if start <= each < start + size):
            rows += [(at, table, "ram")] * (table > at) + [(table, table + PAGE_SIZE, "page tables")]
            at = table + PAGE_SIZE
        rows += [(at, start + size, "ram")] * (start + size > at)
    windows = target.machine.board.windows
    rows += [(start, start + each.window_bytes, "device") for start, each in windows if each.name != "open bus"]
    kept = list(_joined(sorted(rows)))
    lines = [f"{start:09x}-{end - 1:09x}  {end - start >> 10:>8} KB  {kind}" for start, end, kind in kept]
    return lines, {"frames": {"map": [{"start": start, "end": end, "kind": kind} for start, end, kind in kept]}}


def _joined(rows: list[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    last: tuple[int, int, str] | None = None
    for start, end, kind in rows:
        if last is not None and last[1:] == (start, kind):
            last = last[0], end, kind
            continue
        if last is not None:
            yield last
        last = start, end, kind
    if last is not None:
        yield last


def _tables(target: Target) -> set[int]:
    """Physical addresses of the pages that the present tables lie in."""
    if not target.context.cr0 & CR0_PG:
        return set()
    mode = mode_of(target)
    found = {target.cr3 & mode.format.cr3_mask & -PAGE_SIZE}
    for run in runs_of(target.machine.memory, mode, target.cr3):
        found.add(run.place >> PAGE_SHIFT << PAGE_SHIFT)
    return found
