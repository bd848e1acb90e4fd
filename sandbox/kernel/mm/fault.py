"""Page faults of user addresses: ``do_no_page``, ``do_anonymous_page``, ``do_wp_page``, stack growth.

Each function returns the resolution's name, the word that traces and manifests use.  Addresses are linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import PAGE_SIZE, TASK_SIZE
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pgtable import NX, RW, US, A, D, P
from sandbox.kernel.mm.rlimit import RLIMIT_STACK, may_expand
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_READ, PROT_WRITE, VM_GROWSDOWN, Vma
from sandbox.kernel.vfs.inode import Inode

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

PAGE_MASK = ~(PAGE_SIZE - 1)
ERROR_PRESENT, ERROR_WRITE, ERROR_USER, ERROR_FETCH = 1, 2, 4, 16
STACK_SLACK = 65536 + 32 * 4
"""Bytes below ESP that an instruction may touch and still grow the stack (2.4: ENTER pushes that much)."""

BAD_AREA = "sigsegv"
BUS_ERROR = "sigbus"


def mk_pte(kernel: Kernel, vma: Vma, pfn: int, writable: bool) -> int:
    """The entry for a frame in an area: present, user, NX where the area is not executable."""
    executable = bool(vma.prot & PROT_EXEC)
    flags = P | US | A | (RW if writable else 0) | (0 if executable else kernel.tables.nx)
    kernel.code.mapped(pfn, executable, writable)
    return kernel.tables.pfn_pte(pfn, flags)


def do_page_fault(kernel: Kernel, cpu: KernelCpu, mm: Mm, address: int, error_code: int, esp: int) -> str:
    """Resolve a fault at a user address, whoever touched it; BAD_AREA or BUS_ERROR when there is nothing to resolve.

    Raises OutOfMemory.
    """
    vma = mm.vmas.find(address)
    if vma is None:
        return BAD_AREA
    resolution = ""
    if address < vma.start:
        if not vma.flags & VM_GROWSDOWN or (error_code & ERROR_USER and address + STACK_SLACK < esp):
            return BAD_AREA
        if kernel.broken("no-stack-growth") or not _grow_stack(kernel, cpu, mm, vma, address):
            return BAD_AREA
        resolution = "stack-growth"
    write = bool(error_code & ERROR_WRITE)
    # A fetch of a page that is not there counts as a read, as on Linux: with NX it faults again when it is.
    fetch = error_code & ERROR_FETCH and error_code & ERROR_PRESENT
    needed = PROT_WRITE if write else PROT_EXEC if fetch else PROT_READ | PROT_EXEC | PROT_WRITE
    if not vma.prot & needed:
        return BAD_AREA
    how = handle_mm_fault(kernel, cpu, mm, vma, address, write)
    return resolution if resolution and how != BUS_ERROR else how


def _grow_stack(kernel: Kernel, cpu: KernelCpu, mm: Mm, vma: Vma, address: int) -> bool:
    """Grow an area down to an address if RLIMIT_STACK, RLIMIT_AS and its neighbours allow it."""
    if kernel.broken("no-stack-limit"):
        return mm.vmas.expand(vma, address, TASK_SIZE)
    task = cpu.current
    if task is None:
        return mm.vmas.expand(vma, address, kernel.config.stack_limit)
    pages = (vma.start - (address & PAGE_MASK)) // PAGE_SIZE
    if not may_expand(task.limits, mm, pages, vma.prot, vma.flags):
        return False
    return mm.vmas.expand(vma, address, task.limits[RLIMIT_STACK][0])


def handle_mm_fault(kernel: Kernel, cpu: KernelCpu, mm: Mm, vma: Vma, address: int, write: bool) -> str:
    """Bring the page of an address in, or break its sharing.

    The table comes first: when there is no frame for it, no page is left without an owner.  Raises OutOfMemory.
    """
    page = address & PAGE_MASK
    tables = kernel.tables
    ptep = tables.pte_alloc(mm.pgd, page)
    pte = tables.read(ptep)
    if not pte & P:
        mm.minor_faults += 1
        if vma.inode is None:
            return do_anonymous_page(kernel, mm, vma, ptep, write)
        return do_no_page(kernel, cpu, mm, vma, vma.inode, page, ptep, write)
    if write and not pte & RW:
        return do_wp_page(kernel, cpu, mm, vma, page, ptep, pte)
    kernel.tlb.flush_tlb_page(cpu, mm, page)
    return "spurious"


def do_no_page(
    kernel: Kernel, cpu: KernelCpu, mm: Mm, vma: Vma, inode: Inode, page: int, ptep: int, write: bool
) -> str:
    """A page of a file: the page cache's frame, or for a private write a copy of it at once."""
    index = vma.page_of(page)
    if index << 12 >= (inode.size + PAGE_SIZE - 1) & PAGE_MASK and not kernel.broken("no-eof-check"):
        return BUS_ERROR
    try:
        pfn = kernel.pagecache.find_page(inode, index)
    except KernelError:
        return BUS_ERROR
    shared = vma.shared and not kernel.broken("no-shared")
    if write and not shared and not kernel.broken("no-file-private"):
        kernel.memmap.get_page(pfn)
        try:
            mine = kernel.alloc_frame(highmem=True)
        finally:
            kernel.put_page(pfn)
        source, target = kernel.kmap.kmap(cpu, pfn), kernel.kmap.kmap(cpu, mine)
        cpu.call(kernel.routines.copy_page, esi=source, edi=target)
        kernel.kmap.kunmap(cpu, target)
        kernel.kmap.kunmap(cpu, source)
        kernel.counters.bytes_by_guest += PAGE_SIZE
        kernel.tables.set_pte(ptep, mk_pte(kernel, vma, mine, True) | D)
        return "file-private"
    kernel.memmap.get_page(pfn)
    writable = write or (shared and bool(vma.prot & PROT_WRITE))
    kernel.tables.set_pte(ptep, mk_pte(kernel, vma, pfn, writable))
    return "file-read"


def do_anonymous_page(kernel: Kernel, mm: Mm, vma: Vma, ptep: int, write: bool) -> str:
    """A read maps the shared zero page; a write gets a frame, highmem first, cleared by the CPU."""
    if not write:
        kernel.tables.set_pte(ptep, mk_pte(kernel, vma, kernel.zero_page, False))
        return "zero-page"
    pfn = kernel.alloc_frame(highmem=True)
    clear_user_highpage(kernel, pfn)
    kernel.tables.set_pte(ptep, mk_pte(kernel, vma, pfn, True) | D)
    return "demand-zero"


def clear_user_highpage(kernel: Kernel, pfn: int) -> None:
    """Let the CPU clear a frame that a program will see."""
    if kernel.broken("no-zero"):
        return
    kernel.clear_highpage(pfn)
    kernel.counters.bytes_by_guest += PAGE_SIZE


def do_wp_page(kernel: Kernel, cpu: KernelCpu, mm: Mm, vma: Vma, page: int, ptep: int, pte: int) -> str:
    """A write to a page that is mapped read-only in a writable area: the sole owner keeps it, others copy.

    Post 001 (Tweedie): the old data is copied out of the faulting process's own mapping; only the new frame needs
    a kernel address.  The old frame is released after the flush (MM 11).
    """
    tables, memmap = kernel.tables, kernel.memmap
    old = tables.pte_pfn(pte)
    if vma.shared and not kernel.broken("no-shared"):
        kernel.code.mapped(old, not pte & NX, True)
        tables.set_pte(ptep, pte | RW | A)
        kernel.tlb.flush_tlb_page(cpu, mm, page)
        return "shared-write"
    if memmap.count(old) == 1 and not memmap.reserved(old) and not kernel.broken("no-reuse"):
        kernel.code.mapped(old, not pte & NX, True)
        tables.set_pte(ptep, pte | RW | D | A)
        kernel.tlb.flush_tlb_page(cpu, mm, page)
        kernel.counters.cow_reuses += 1
        return "cow-reuse"
    memmap.get_page(old)
    try:
        new = kernel.alloc_frame(highmem=True)
    except BaseException:
        kernel.put_page(old)
        raise
    if old == kernel.zero_page:
        clear_user_highpage(kernel, new)
        resolution = "demand-zero"
    else:
        window = kernel.kmap.kmap(cpu, new)
        if cpu.active_mm is mm:
            cpu.call(kernel.routines.copy_page, esi=page, edi=window)
        else:
            source = kernel.kmap.kmap(cpu, old)
            cpu.call(kernel.routines.copy_page, esi=source, edi=window)
            kernel.kmap.kunmap(cpu, source)
        kernel.kmap.kunmap(cpu, window)
        kernel.counters.bytes_by_guest += PAGE_SIZE
        kernel.counters.cow_copies += 1
        resolution = "cow-copy"
    kernel.put_page(old)
    if kernel.broken("early-free"):
        kernel.put_page(old)
    tables.set_pte(ptep, mk_pte(kernel, vma, new, True) | D)
    kernel.tlb.flush_tlb_page(cpu, mm, page)
    if not kernel.broken("early-free"):
        kernel.put_page(old)
    return resolution
