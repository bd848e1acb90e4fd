"""What a CPU's TLB may hold beside what the tables say now: the shadow TLB of ``sandbox.sanitize`` as rows.

A translation is in the shadow until the CPU has executed what ends it (SDM 3A, 4.10.4.1); one that the tables no longer
grant is marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.debug.fold import wrapped
from sandbox.debug.runs import Run, folded
from sandbox.machine.memory import PhysicalMemory
from sandbox.sanitize.shadow import ShadowTlb
from sandbox.sanitize.translation import Held, Now, is_stale, walk_now
from sandbox.sanitize.watch import TlbWatch
from sandbox.x86.masks import CR4_PAE, CR4_PSE
from sandbox.x86.paging import LEGACY, PAE, PAGE_SHIFT, PAGE_SIZE, describe_entry, is_leaf


def rows(watch: TlbWatch, memory: PhysicalMemory, cpu: int) -> list[Run]:
    """Translations that a CPU may hold, by linear address, neighbours of one kind as one."""
    watch.feed.drain()
    return list(folded(sorted(_all(watch.shadows[cpu], memory), key=lambda run: run.start)))


def _all(shadow: ShadowTlb, memory: PhysicalMemory) -> Iterator[Run]:
    for page, held in shadow.everything():
        linear = page << PAGE_SHIFT
        entry, place = held.path[-1], held.path[-2]
        run = Run(_size(held.size), 0, place, linear, linear + held.size, entry, _words(shadow, entry, held.size))
        run.frame = held.physical >> PAGE_SHIFT
        run.note = _difference(shadow, memory, linear, held)
        yield run


def _size(size: int) -> str:
    return f"{size >> 10} KB" if size < 1 << 20 else f"{size >> 20} MB"


def _words(shadow: ShadowTlb, entry: int, size: int) -> str:
    fmt = PAE if shadow.cr4 & CR4_PAE else LEGACY
    depth = len(fmt.levels) - (1 if size == PAGE_SIZE else 2)
    return describe_entry(fmt, depth, entry, bool(shadow.cr4 & CR4_PSE)).partition("  ")[0]


def _difference(shadow: ShadowTlb, memory: PhysicalMemory, linear: int, held: Held) -> str:
    """What the tables say of an address where the translation grants more, or another frame; else nothing."""
    for piece in range(linear, linear + held.size, PAGE_SIZE):
        now = walk_now(memory.read_entry, shadow.cr3, shadow.cr4, shadow.pdptes, piece)
        if is_stale(held, piece, now, bool(shadow.cr4 & CR4_PAE)):
            return f"the tables say: {_told(shadow, now)}"
        if now.size >= held.size:
            break
    return ""


def _told(shadow: ShadowTlb, now: Now) -> str:
    fmt = PAE if shadow.cr4 & CR4_PAE else LEGACY
    depth = len(now.path) // 2 - 1
    text = describe_entry(fmt, depth, now.path[-1], bool(shadow.cr4 & CR4_PSE))
    return text if is_leaf(fmt, depth, now.path[-1], bool(shadow.cr4 & CR4_PSE)) else f"{fmt.levels[depth].name} {text}"


def lines(found: list[Run], cpu: int, note: str) -> list[str]:
    """For people; a translation that the tables do not grant any more has an arrow."""
    stale = sum(run.pieces for run in found if run.note)
    count = sum(run.pieces for run in found)
    head = f"TLB of CPU {cpu}: {count} translations, {stale} that the tables no longer grant{note}"
    told = [
        f"  {run.start:08x}-{run.end - 1:08x}  {run.level:5} {run.words}  {run.frames()}"
        + (f"  <- {run.note}" if run.note else "")
        for run in found
    ]
    return wrapped([head, *told])


def to_dict(found: list[Run], cpu: int) -> dict[str, Any]:
    """For JSON: ``size`` is a page's, as people say it; ``now`` what the tables say where that differs."""
    return {
        "cpu": cpu,
        "entries": [
            {
                "start": run.start, "end": run.end, "size": run.level, "place": run.place, "entry": run.entry,
                "flags": run.words, "frame": run.frame, "stale": bool(run.note), "now": run.note,
            }
            for run in found
        ],
    }  # fmt: skip
