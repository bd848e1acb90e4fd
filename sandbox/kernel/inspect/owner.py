"""Whose a frame in use is: for the error that tells a module that it frees what it was not given."""

from __future__ import annotations

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.page import PG_CACHE, PG_TABLE
from sandbox.kernel.mm.pte import is_mapped


def holders(kernel: Kernel, pfn: int) -> tuple[str, int]:
    """Words for what a frame is, and how many references the kernel itself has on it."""
    flags = kernel.memmap.flags(pfn)
    for mm in kernel.mmlist:
        if mm.pgd == pfn:
            return f"the page directory of {_who(kernel, mm)}", 1
        if mm.ldt <= pfn < mm.ldt + (1 << mm.ldt_order):
            return f"the LDT of {_who(kernel, mm)}", 1
    if flags & PG_TABLE:
        return "a page table", 1
    for task in kernel.tasks.values():
        if pfn in task.stack_frames:
            return f"the kernel stack of process {task.pid}", 1
    for area in kernel.vmalloc.areas:
        if area.owned and pfn in area.frames:
            return f"in the {area.kind} area at {area.start:#010x}", 1
    return _of_programs(kernel, pfn, cached=bool(flags & PG_CACHE) and pfn in set(kernel.pagecache.frames()))


def _of_programs(kernel: Kernel, pfn: int, cached: bool) -> tuple[str, int]:
    """A page that user entries name, or the page cache holds, or else something of the kernel's."""
    tables = kernel.tables
    found = [
        f"a page of {_who(kernel, mm)} at {linear:#010x}"
        for mm in kernel.mmlist
        for linear, entry in tables.user_ptes(mm.pgd, 0, PAGE_OFFSET)
        if is_mapped(entry) and tables.pte_pfn(entry) == pfn
    ]
    what = found[0] if found else "a page of the page cache" if cached else "the kernel's own"
    return what, max(1, len(found) + cached)


def _who(kernel: Kernel, mm: Mm) -> str:
    pids = sorted(task.pid for task in kernel.tasks.values() if task.mm is mm)
    return f"process {pids[0]}" if pids else "a process that begins or ends"
