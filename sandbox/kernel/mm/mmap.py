"""mmap, munmap, mprotect, brk: areas change, then tables, then the TLB, then frames are released."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EACCES, EEXIST, EINVAL, ENODEV, ENOMEM, KernelError
from sandbox.kernel.events import MapChange
from sandbox.kernel.layout import PAGE_SIZE, TASK_SIZE
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pagetable import MAPPED, NX, PROTNONE, RW, P
from sandbox.kernel.task import Task
from sandbox.kernel.vma import (
    MMAP_MIN_ADDR,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_GROWSDOWN,
    VM_MAYWRITE,
    VM_SHARED,
    Vma,
    page_align,
)

if TYPE_CHECKING:
    from sandbox.kernel.fs.inode import Inode
    from sandbox.kernel.kernel import Kernel

MAP_SHARED, MAP_PRIVATE, MAP_TYPE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 0xF, 0x10, 0x20
MAP_GROWSDOWN, MAP_POPULATE, MAP_FIXED_NOREPLACE = 0x100, 0x8000, 0x100000
PROT_ALL = PROT_READ | PROT_WRITE | PROT_EXEC
PAGE_MASK = ~(PAGE_SIZE - 1)


def do_mmap(
    kernel: Kernel,
    task: Task,
    address: int,
    length: int,
    prot: int,
    flags: int,
    inode: Inode | None,
    pgoff: int,
    writable_file: bool = True,
) -> int:
    """Map anonymous memory or a file (``pgoff`` in pages); the linear address.

    Raises KernelError as mmap(2) does.
    """
    mm = _mm(task)
    if not length or length > TASK_SIZE:
        raise KernelError(EINVAL if not length else ENOMEM)
    length = page_align(length)
    kind = flags & MAP_TYPE
    if kind not in (MAP_SHARED, MAP_PRIVATE) or prot & ~PROT_ALL & ~0x03000000:
        raise KernelError(EINVAL)
    vm_flags = VM_MAYWRITE | (VM_GROWSDOWN if flags & MAP_GROWSDOWN else 0)
    if kind == MAP_SHARED:
        vm_flags |= VM_SHARED
        if inode is not None and not writable_file:
            vm_flags &= ~VM_MAYWRITE
            if prot & PROT_WRITE:
                raise KernelError(EACCES)
        if inode is None:
            inode, pgoff = kernel.pagecache.shared_memory(length), 0
        elif prot & PROT_WRITE:
            raise KernelError(ENODEV)
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        if address & ~PAGE_MASK:
            raise KernelError(EINVAL)
        if address < MMAP_MIN_ADDR or address + length > TASK_SIZE:
            raise KernelError(ENOMEM if address >= MMAP_MIN_ADDR else 1)
        if flags & MAP_FIXED_NOREPLACE and mm.vmas.overlapping(address, address + length):
            raise KernelError(EEXIST)
        do_munmap(kernel, task, address, length)
        start = address
    else:
        found = mm.vmas.get_unmapped_area(length, address)
        if found is None:
            raise KernelError(ENOMEM)
        start = found
    mm.vmas.insert(Vma(start, start + length, prot & PROT_ALL, vm_flags, inode, pgoff if inode else 0))
    _report(kernel, task, "mmap", start, start + length, prot)
    if flags & MAP_POPULATE:
        from sandbox.kernel.mm.fault import handle_mm_fault

        vma = mm.vmas.find_exact(start)
        for page in range(start, start + length, PAGE_SIZE):
            if vma is not None and vma.prot:
                handle_mm_fault(kernel, task.cpu, mm, vma, page, bool(prot & PROT_WRITE))
    return start


def do_munmap(kernel: Kernel, task: Task, address: int, length: int) -> None:
    """Unmap whole pages; holes are no error.  Raises KernelError(EINVAL)."""
    mm = _mm(task)
    length = page_align(length)
    if address & ~PAGE_MASK or not length or address + length > TASK_SIZE:
        raise KernelError(EINVAL)
    removed = mm.vmas.remove(address, address + length)
    for vma in removed:
        _report(kernel, task, "munmap", vma.start, vma.end, vma.prot)
    if not kernel.leaves_out("no-unmap"):
        zap_ranges(kernel, task, mm, ((vma.start, vma.end) for vma in removed))


def zap_ranges(kernel: Kernel, task: Task, mm: Mm, ranges: Iterable[tuple[int, int]]) -> None:
    """Clear the entries of linear ranges, flush, then release the frames: in this order (MM 18)."""
    tables = kernel.tables
    pages: list[int] = []
    frames: list[int] = []
    for start, end in ranges:
        for linear, entry in tables.user_ptes(mm.pgd, start, end):
            tables.set_pte(mm.pgd, linear, 0)
            if entry & MAPPED:
                pages.append(linear)
                frames.append(tables.pfn(entry))
    if kernel.leaves_out("early-free"):
        for pfn in frames:
            kernel.put_page(pfn)
        frames = []
    if pages:
        kernel.tlb.flush_pages(task.cpu, mm, pages)
    for pfn in frames:
        kernel.put_page(pfn)


def do_mprotect(kernel: Kernel, task: Task, address: int, length: int, prot: int) -> None:
    """Change the protection of whole pages.

    A private page that becomes writable stays read-only in its entry: the next write decides by do_wp_page.
    Raises KernelError: EINVAL, ENOMEM at a hole (after the areas before it were changed), EACCES.
    """
    mm = _mm(task)
    length = page_align(length)
    if address & ~PAGE_MASK or prot & ~PROT_ALL & ~0x03000000:
        raise KernelError(EINVAL)
    if not length:
        return
    if address >= TASK_SIZE:
        raise KernelError(ENOMEM)
    end = min(address + length, TASK_SIZE)
    gap = mm.vmas.first_gap(address, end)
    stop = end if gap is None else gap
    for vma in mm.vmas.overlapping(address, stop):
        if prot & PROT_WRITE and vma.shared and not vma.flags & VM_MAYWRITE:
            raise KernelError(EACCES)
    changed = (
        mm.vmas.protect(address, stop, prot & PROT_ALL, split=not kernel.leaves_out("no-mprotect-split"))
        if stop > address
        else []
    )
    tables = kernel.tables
    pages = []
    for start, finish, _ in changed:
        for linear, entry in tables.user_ptes(mm.pgd, start, finish):
            if not entry & MAPPED:
                continue
            new = _protected(kernel, mm, entry, prot)
            if new != entry:
                tables.set_pte(mm.pgd, linear, new)
                pages.append(linear)
        _report(kernel, task, "mprotect", start, finish, prot)
    if pages:
        kernel.tlb.flush_pages(task.cpu, mm, pages)
    if gap is not None:
        raise KernelError(ENOMEM)


def _protected(kernel: Kernel, mm: Mm, entry: int, prot: int) -> int:
    """The entry with an area's new protection; PROT_NONE keeps the frame and clears P."""
    tables = kernel.tables
    executable = bool(prot & PROT_EXEC) or (mm.executable_data and bool(prot & PROT_READ))
    entry &= ~NX if tables.nx else ~0
    if not executable:
        entry |= tables.nx
    entry = entry & ~P | PROTNONE if not prot & PROT_ALL else entry & ~PROTNONE | P
    if not prot & PROT_WRITE:
        entry &= ~RW
    elif kernel.leaves_out("eager-mprotect"):
        entry |= RW
    kernel.code.mapped(tables.pfn(entry), executable, bool(entry & RW))
    return entry


def do_brk(kernel: Kernel, task: Task, address: int) -> int:
    """Move the break; where it is afterwards, which is unchanged when it cannot move."""
    mm = _mm(task)
    if address < mm.vmas.start_brk:
        return mm.vmas.brk
    removed = mm.vmas.set_brk(address)
    if removed and not kernel.leaves_out("no-brk-shrink"):
        zap_ranges(kernel, task, mm, ((vma.start, vma.end) for vma in removed))
    return mm.vmas.brk


def _mm(task: Task) -> Mm:
    assert task.mm is not None
    return task.mm


def _report(kernel: Kernel, task: Task, what: str, start: int, end: int, prot: int) -> None:
    if kernel.bus.active:
        kernel.bus.emit(MapChange(kernel.sched.now, task.cpu.index, task.pid, what, start, end, prot))
