"""The hole from 14 to 16 MB: cleared of what lies in it while programs run, and given to a card (post 002).

The post says that this cannot be done: "if gcc is running in video memory, there is no way to move it".  With the page
tables of every process at hand it can: free frames are taken off the lists, pages of programs and of the page cache are
copied elsewhere by the CPU and every entry is changed.  What the kernel itself reaches by its direct address (tables,
stacks, kmalloc) cannot move, and is said.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EBUSY, ENODEV, ENOMEM, KernelError
from sandbox.kernel.base.layout import PAGE_OFFSET, PAGE_SIZE
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.page import PG_CACHE, PG_DIRTY
from sandbox.kernel.mm.pgtable import MAPPED, P

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

HOLE = range(14 << 20 >> 12, 16 << 20 >> 12)
"""Frame numbers."""
Place = tuple[Mm, int, int]
"""An address space, the linear address of a page in it, and the place of its entry."""


def open_hole(kernel: Kernel) -> int:
    """Clear the range and let the chipset hand it to the card; the number of pages that were moved.

    Raises KernelError: EBUSY for a page that cannot move, ENOMEM when there is no room for one, ENODEV without a
    card; nothing has changed then but where some pages are.
    """
    device = kernel.machine.hole_device
    if device is None:
        raise KernelError(ENODEV)
    moved = 0 if kernel.broken("no-hole-clear") else clear_range(kernel, HOLE)
    kernel.machine.open_hole(HOLE.start * PAGE_SIZE, device)
    kernel.machine.hole_device = None
    return moved


def clear_range(kernel: Kernel, window: range) -> int:
    """Take frames [start, stop) away from whoever has them; they are reserved afterwards.

    Returns the number of pages that were moved.  Raises KernelError(EBUSY, ENOMEM).
    """
    kernel.frames.drain()
    frames, memmap = kernel.frames, kernel.memmap
    for zone in frames.zones:
        if any(zone.has(pfn) for pfn in window):
            zone.open_all()
    wanted = [pfn for pfn in window if not memmap.reserved(pfn)]
    taken = [pfn for pfn in wanted if frames.isolate(pfn)]
    moved = 0
    try:
        places = _places(kernel, set(wanted) - set(taken))
        for pfn in sorted(set(wanted) - set(taken)):
            if frames.isolate(pfn):  # reclaim freed it, for the copy of an earlier one
                taken.append(pfn)
                continue
            _move(kernel, pfn, places[pfn], window)
            frames.isolate(pfn)
            taken.append(pfn)
            moved += 1
    except BaseException:
        for pfn in taken:
            frames.zone_of(pfn).free_one_page(pfn, 0)
            frames.free_frames += 1
        raise
    for pfn in wanted:
        frames.zone_of(pfn).withdraw(pfn, 1)
        memmap.close(pfn, 1)
    frames.total_frames -= len(wanted)
    return moved


def _places(kernel: Kernel, frames: set[int]) -> dict[int, list[Place]]:
    """Every user entry that names one of the frames, by a scan of all tables."""
    found: dict[int, list[Place]] = defaultdict(list)
    tables = kernel.tables
    for mm in {id(task.mm): task.mm for task in kernel.tasks.values() if task.mm is not None}.values():
        for linear, entry in tables.user_ptes(mm.pgd, 0, PAGE_OFFSET):
            if entry & MAPPED and tables.pte_pfn(entry) in frames:
                found[tables.pte_pfn(entry)].append((mm, linear, tables.pte_alloc(mm.pgd, linear)))
    return found


def _move(kernel: Kernel, pfn: int, places: list[Place], window: range) -> None:
    """Copy one page out of the window and let everybody who had it have the copy."""
    memmap, tables, cpu = kernel.memmap, kernel.tables, kernel.this_cpu
    flags = memmap.flags(pfn)
    held = len(places) + bool(flags & PG_CACHE)
    if held == 0 or memmap.count(pfn) != held:
        raise KernelError(EBUSY)
    memmap.get_page(pfn)  # or reclaim might take the very page
    try:
        new = _frame_outside(kernel, window)
    except OutOfMemory as error:
        raise KernelError(ENOMEM) from error
    finally:
        kernel.put_page(pfn)
    entries = [tables.read(ptep) for _, _, ptep in places]
    for (mm, linear, ptep), entry in zip(places, entries, strict=True):
        tables.set_pte(ptep, entry & ~P)
        kernel.tlb.flush_tlb_page(cpu, mm, linear)
    source, target = kernel.kmap.kmap(cpu, pfn), kernel.kmap.kmap(cpu, new)
    cpu.call(kernel.routines.copy_page, esi=source, edi=target)
    kernel.kmap.kunmap(cpu, target)
    kernel.kmap.kunmap(cpu, source)
    kernel.counters.bytes_by_guest += PAGE_SIZE
    for (_, _, ptep), entry in zip(places, entries, strict=True):
        tables.set_pte(ptep, entry & ~tables.entry_mask | new << 12)
        memmap.get_page(new)
    if flags & PG_CACHE:
        kernel.pagecache.replace(pfn, new)
        memmap.set_flags(new, memmap.flags(new) | flags & (PG_CACHE | PG_DIRTY))
        memmap.get_page(new)
    kernel.code.mapped(new, True, True)
    kernel.code.drop()
    kernel.put_page(new)
    for _ in range(held):
        kernel.put_page(pfn)
    kernel.frames.drain()


def _frame_outside(kernel: Kernel, window: range) -> int:
    inside, found = [], -1
    try:
        while found < 0:
            pfn = kernel.alloc_frame(highmem=True)
            if pfn in window:
                inside.append(pfn)
            else:
                found = pfn
    finally:
        for pfn in inside:
            kernel.put_page(pfn)
    return found
