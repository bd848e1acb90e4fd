"""The table of ``docs/flushes.md``: every flush of the kernel, who fails without it, what the shadow TLB reports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from tests.mutations.table import ROOT, Mutation, mutations

HEAD = "| in | flush | without it | who fails | reports |\n| --- | --- | --- | --- | --- |\n"
CALL = re.compile(
    r"tlb\.(flush_\w+|empty|reload_all)\(|routines\.(flush\w*|invlpg|load_cr3)\b.*\)$|ntries\.(gather|flush)\(|switch_mm\("
)
"""A line of the kernel that flushes, or asks for it."""
MECHANISM = ("kernel/mm/tlb.py",)
"""What all of them go through; its parts have rows of their own."""
ELSEWHERE = {
    "self._entries.tlb.flush_tlb_page(cpu, mm, page)": "a spurious fault: the entry gives more than before",
    "gather = kernel.entries.gather(kernel.this_cpu, mm, Scope.SPACE)": "clear_refs: a page may count as unused",
    "kernel.mmu.switch_mm(cpu, None)": "do_exit: mmput finds who has it loaded",
    "kernel.mmu.switch_mm(task.cpu, None)": "the end of a kernel thread: the same",
    "self.switch_mm(cpu, None)": "of mmput, whose row leaves out both",
    "gather = self._entries.gather(cpu, mm, Scope.NOTHING)": "behind that: no CPU has it loaded",
    "gather = entries.gather(cpu, parent, Scope.SPACE)": "fork: its row is in the door",
    "self._mmu.switch_mm(cpu, task.borrowed_mms[-1] if task.borrowed_mms else task.mm)": "its row is in switch_mm",
    "gather, pfn = self._entries.gather(cpu, mm), self._tables.pte_pfn(pte)": (
        "a page that was cut off while it came in: only a sibling can have used it, and no image is that lucky"
    ),
    "kernel.mmu.switch_mm(cpu, mm)": "the broken kernel that calls modules in its own directory: kernel-directory",
    "kernel.tlb.flush_tlb_page(kernel.this_cpu, mm, address)": "a module asks for it: rows of the image flip",
    "tlb.reload_all(cpu)": "the broken kernel of 2.3.27: pkmap-global",
}
"""Lines without a row, and why."""


def flush_table() -> str:
    """In Markdown, by file."""
    rows = sorted((each for each in mutations() if each.flush), key=lambda each: each.file)
    return HEAD + "".join(line for file, group in groupby(rows, lambda each: each.file) for line in _lines(file, group))


def _lines(file: str, rows: Iterator[Mutation]) -> Iterator[str]:
    where = f"`{file.removeprefix('kernel/')}`"
    for row in rows:
        yield f"| {where} | {row.flush} | {row.says} | {_who(row)} | {', '.join(row.reports) or 'none'} |\n"
        where = ""


def _who(row: Mutation) -> str:
    """The image and how its machine differs from the manifest's, or the test."""
    if row.test:
        return f"`{row.test.rpartition('::')[2]}`"
    given = {**row.machine, **row.machine.get("policies", {})}
    given.pop("policies", None)
    words = [f"{name} {_value(value)}" for name, value in given.items()]
    return f"`{row.image}`" + (f" ({', '.join(words)})" if words else "")


def _value(value: object) -> str:
    return f"{value >> 20}M" if isinstance(value, int) and value >> 20 else str(value)


def without_row() -> list[str]:
    """Lines that flush and are in no row and not spared: a new flush that nobody has left out yet."""
    rows = [each for each in mutations() if each.flush]
    found = []
    for path in sorted((ROOT / "sandbox" / "kernel").rglob("*.py")):
        file = path.relative_to(ROOT / "sandbox").as_posix()
        olds = [each.old for each in rows if each.file == file]
        for line in map(str.strip, path.read_text().splitlines()):
            if file in MECHANISM or line in ELSEWHERE or line.startswith("def ") or not CALL.search(line):
                continue
            if not any(line in old or old.strip() in line for old in olds):
                found.append(f"{file}: {line}")
    return found
