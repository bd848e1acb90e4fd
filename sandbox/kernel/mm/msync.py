"""Shared file mappings and the file below: dirty bits are harvested, pages written out, truncated pages unmapped.

The CPU sets an entry's dirty bit when it first stores through it.  Harvesting clears the bit and flushes the
translation, for a CPU that still held it would store again without setting the bit; only then is the page written.
"""

from __future__ import annotations

from collections.abc import Iterable

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.mm.entries import Entries, Gather
from sandbox.kernel.mm.filemap import PageCache, SharedMemory
from sandbox.kernel.mm.mm import Mm, mappings
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.vma import VM_MAYWRITE, VM_SHARED, Vma
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_SIZE, D

_WRITES_BACK = VM_SHARED | VM_MAYWRITE
DirtyPage = tuple[Inode, int]


def writes_back(vma: Vma) -> bool:
    """Stores through the area belong into a file."""
    return (
        vma.flags & _WRITES_BACK == _WRITES_BACK and vma.inode is not None and not isinstance(vma.inode, SharedMemory)
    )


class Writeback:
    """What mappings have dirtied, and the files that it belongs into."""

    __slots__ = ("_broken_unmap", "_broken_write", "_entries", "_pagecache", "_smp", "_tables")

    def __init__(
        self,
        entries: Entries,
        smp: Smp,
        pagecache: PageCache,
        broken: Breakage,
    ) -> None:
        self._entries, self._tables, self._smp, self._pagecache = entries, entries.tables, smp, pagecache
        self._broken_write, self._broken_unmap = broken("no-writeback"), broken("no-truncate-unmap")

    def page_mkclean(self, cpu: KernelCpu, mm: Mm, vma: Vma, start: int, end: int) -> list[DirtyPage]:
        """Take the dirty bits of [start, end) of an area; the pages that had one."""
        inode, found = vma.inode, []
        assert inode is not None
        gather = self._entries.gather(cpu, mm)
        for linear, ptep, _ in self._tables.user_places(mm.pgd, start, end):
            entry = gather.protect(linear, ptep, lambda entry: entry & ~D)
            if entry & D and is_mapped(entry):
                found.append((inode, vma.page_of(linear)))
        gather.finish()
        return found

    def write_out(self, pages: Iterable[DirtyPage]) -> None:
        """Write pages that were made clean to their files.  Raises the first KernelError when all have been tried."""
        if self._broken_write:
            return
        failed: KernelError | None = None
        for inode, index in pages:
            try:
                self._pagecache.write_out(inode, index)
            except KernelError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def sync_mm(self, cpu: KernelCpu, mm: Mm, start: int, end: int) -> None:
        """Write back what one address space has dirtied in [start, end).  Raises KernelError (EIO, ENOSPC)."""
        pages: list[DirtyPage] = []
        for vma in mm.vmas.overlapping(start, end):
            if writes_back(vma):
                pages += self.page_mkclean(cpu, mm, vma, max(start, vma.start), min(end, vma.end))
        self.write_out(pages)

    def release_dirty(self, cpu: KernelCpu, mm: Mm) -> None:
        """An address space ends: write back what it has dirtied; there is nobody left to be told of an error."""
        pages: list[DirtyPage] = []
        for vma in filter(writes_back, mm.vmas):
            pages += self.page_mkclean(cpu, mm, vma, vma.start, vma.end)
        try:
            self.write_out(pages)
        except KernelError:
            return

    def sync_inode(self, inode: Inode) -> None:
        """Write back what any address space has dirtied of a file, for fsync(2).  Raises KernelError (EIO, ENOSPC)."""
        pages: list[DirtyPage] = []
        for mm, vma in mappings(inode):
            if writes_back(vma):
                pages += self.page_mkclean(self._smp.this_cpu, mm, vma, vma.start, vma.end)
        self.write_out(pages)

    def drop_range(self, inode: Inode, offset: int, size: int) -> None:
        """Write a range of a file back and release its whole pages that nobody maps, as posix_fadvise(2) can ask for.

        ``size`` 0 means up to the end.  Raises KernelError (EIO, ENOSPC).
        """
        self.sync_inode(inode)
        end = offset + size if size and offset + size < inode.size else 1 << 63
        self._pagecache.invalidate_inode_pages(inode, -(-offset // PAGE_SIZE), end // PAGE_SIZE)

    def vmtruncate(self, inode: Inode, size: int) -> None:
        """Set a file's size in bytes: pages behind it leave every address space and the cache.

        Private copies go too, as Linux has it.  Raises what ``Inode.truncate`` raises, with nothing changed.
        """
        inode.truncate(size)
        self.truncated(inode)

    def truncated(self, inode: Inode) -> None:
        """A file has become shorter: nobody keeps a page behind its end."""
        size = inode.size
        gathers: list[Gather] = []
        # What mremap or fork brought to where the walk had been is found by the next one (Linux: i_mmap_lock).
        while not self._broken_unmap and (found := self._unmap_behind(inode, -(-size // PAGE_SIZE))):
            gathers += found
        self._pagecache.truncate_inode_pages(inode, size)
        for gather in gathers:
            gather.finish()

    def _unmap_behind(self, inode: Inode, first: int) -> list[Gather]:
        """Clear every entry of a file's pages from ``first`` on, and flush; the frames are still held.

        None where there was no entry.
        """
        gathers = []
        self._entries.nothing_in_hand()
        for mm, vma in list(mappings(inode)):
            start = max(vma.start, vma.start + (first - vma.pgoff) * PAGE_SIZE)
            if start >= vma.end:
                continue
            gather = self._entries.gather(self._smp.this_cpu, mm)
            for linear, ptep, _ in self._tables.user_places(mm.pgd, start, vma.end):
                gather.remove(linear, ptep)
            gather.flush()
            if gather.frames:
                gathers.append(gather)
            else:
                gather.finish()
        return gathers
