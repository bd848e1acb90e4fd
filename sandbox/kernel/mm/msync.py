"""Shared file mappings and the file below: dirty bits are harvested, pages written out, truncated pages unmapped.

The CPU sets an entry's dirty bit when it first stores through it.  Harvesting clears the bit and flushes the
translation, for a CPU that still held it would store again without setting the bit; only then is the page written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import PAGE_SIZE
from sandbox.kernel.mm.filemap import SharedMemory
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pgtable import MAPPED, D
from sandbox.kernel.mm.vma import VM_MAYWRITE, VM_SHARED, Vma
from sandbox.kernel.vfs.inode import Inode

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

_WRITES_BACK = VM_SHARED | VM_MAYWRITE
DirtyPage = tuple[Inode, int]


def writes_back(vma: Vma) -> bool:
    """Stores through the area belong into a file."""
    return (
        vma.flags & _WRITES_BACK == _WRITES_BACK and vma.inode is not None and not isinstance(vma.inode, SharedMemory)
    )


def page_mkclean(kernel: Kernel, cpu: KernelCpu, mm: Mm, vma: Vma, start: int, end: int) -> list[DirtyPage]:
    """Take the dirty bits of [start, end) of an area; the pages that had one."""
    tables, inode = kernel.tables, vma.inode
    assert inode is not None
    pages, found = [], []
    for linear, entry in tables.user_ptes(mm.pgd, start, end):
        if entry & D and entry & MAPPED:
            tables.map_page(mm.pgd, linear, entry & ~D)
            pages.append(linear)
            found.append((inode, vma.page_of(linear)))
    if pages:
        kernel.tlb.flush_tlb_pages(cpu, mm, pages)
    return found


def write_out(kernel: Kernel, pages: Iterable[DirtyPage]) -> None:
    """Write harvested pages to their files.  Raises the first KernelError when all have been tried."""
    if kernel.broken("no-writeback"):
        return
    failed: KernelError | None = None
    for inode, index in pages:
        try:
            kernel.pagecache.write_out(inode, index)
        except KernelError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def sync_mm(kernel: Kernel, cpu: KernelCpu, mm: Mm, start: int, end: int) -> None:
    """Write back what one address space has dirtied in [start, end).  Raises KernelError (EIO, ENOSPC)."""
    pages: list[DirtyPage] = []
    for vma in mm.vmas.overlapping(start, end):
        if writes_back(vma):
            pages += page_mkclean(kernel, cpu, mm, vma, max(start, vma.start), min(end, vma.end))
    write_out(kernel, pages)


def release_dirty(kernel: Kernel, cpu: KernelCpu, mm: Mm) -> None:
    """An address space ends: write back what it has dirtied; there is nobody left to be told of an error."""
    pages: list[DirtyPage] = []
    for vma in filter(writes_back, mm.vmas):
        pages += page_mkclean(kernel, cpu, mm, vma, vma.start, vma.end)
    try:
        write_out(kernel, pages)
    except KernelError:
        return


def sync_inode(kernel: Kernel, inode: Inode) -> None:
    """Write back what any address space has dirtied of a file, for fsync(2).  Raises KernelError (EIO, ENOSPC)."""
    pages: list[DirtyPage] = []
    for mm, vma in mappings(kernel, inode):
        if writes_back(vma):
            pages += page_mkclean(kernel, kernel.this_cpu, mm, vma, vma.start, vma.end)
    write_out(kernel, pages)


def drop_range(kernel: Kernel, inode: Inode, offset: int, size: int) -> None:
    """Write a range of a file back and release its whole pages that nobody maps, as posix_fadvise(2) can ask for.

    ``size`` 0 means up to the end.  Raises KernelError (EIO, ENOSPC).
    """
    sync_inode(kernel, inode)
    end = offset + size if size and offset + size < inode.size else 1 << 63
    kernel.pagecache.invalidate_inode_pages(inode, -(-offset // PAGE_SIZE), end // PAGE_SIZE)


def mappings(kernel: Kernel, inode: Inode) -> Iterator[tuple[Mm, Vma]]:
    """Every area that maps a file, with its address space."""
    seen: set[int] = set()
    for task in kernel.tasks.values():
        mm = task.mm
        if mm is not None and id(mm) not in seen:
            seen.add(id(mm))
            for vma in mm.vmas:
                if vma.inode is inode:
                    yield mm, vma


def vmtruncate(kernel: Kernel, inode: Inode, size: int) -> None:
    """Set a file's size in bytes: pages behind it leave every address space and the cache.

    Private copies go too, as Linux has it.  Raises what ``Inode.truncate`` raises, with nothing changed.
    """
    inode.truncate(size)
    truncated(kernel, inode)


def truncated(kernel: Kernel, inode: Inode) -> None:
    """A file has become shorter: nobody keeps a page behind its end."""
    size = inode.size
    first = -(-size // PAGE_SIZE)
    tables, cpu = kernel.tables, kernel.this_cpu
    frames: list[int] = []
    if not kernel.broken("no-truncate-unmap"):
        for mm, vma in list(mappings(kernel, inode)):
            start = max(vma.start, vma.start + (first - vma.pgoff) * PAGE_SIZE)
            if start >= vma.end:
                continue
            pages = []
            for linear, entry in tables.user_ptes(mm.pgd, start, vma.end):
                tables.map_page(mm.pgd, linear, 0)
                if entry & MAPPED:
                    pages.append(linear)
                    frames.append(tables.pte_pfn(entry))
            if pages:
                kernel.tlb.flush_tlb_pages(cpu, mm, pages)
    kernel.pagecache.truncate_inode_pages(inode, size)
    for pfn in frames:
        kernel.put_page(pfn)
