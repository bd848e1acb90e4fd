"""The page cache's door: file pages in frames, shared by read, mmap and exec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.mm.memmap import INDEX, MAPPING, PG_CACHE, STRUCT_PAGE_WORDS
from sandbox.machine.memory import Reason

if TYPE_CHECKING:
    from sandbox.kernel.fs.inode import Inode
    from sandbox.kernel.kernel import Kernel

PAGE_SIZE = 4096


class PageCache:
    """Frames by (inode, page index); the cache holds one reference on each.

    ``find_page`` brings a page in through the disk's DMA; the frame may be in highmem.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._pages: dict[tuple[int, int], int] = {}
        self._numbers: dict[int, int] = {}
        self._inodes: list[Inode] = []
        self._kept: set[int] = set()
        """Inodes whose pages cannot be read in again."""
        self.reads = 0
        """Pages read from below."""

    def shared_memory(self, size: int) -> Inode:
        """An unnamed file of ``size`` bytes behind shared anonymous memory; its pages live here and nowhere else."""
        inode = self._kernel.files.ram.file(name="/dev/zero")
        inode.truncate(size)
        self._kept.add(self._number(inode))
        return inode

    def find_page(self, inode: Inode, index: int) -> int:
        """The frame number of a file's page, read in when it is not there.

        ``index`` counts pages of 4096 bytes; bytes behind the end of the file are zero.  Raises OutOfMemory.
        """
        key = (self._number(inode), index)
        pfn = self._pages.get(key)
        if pfn is None:
            kernel = self._kernel
            pfn = kernel.alloc_frame(highmem=True)
            data = inode.read_block(index).ljust(PAGE_SIZE, b"\0")
            kernel.memory.host_write(pfn << 12, data, Reason.DMA)
            self.reads += 1
            memmap = kernel.memmap
            memmap.set_flags(pfn, memmap.flags(pfn) | PG_CACHE)
            at = memmap.base + pfn * STRUCT_PAGE_WORDS
            memmap.words[at + MAPPING], memmap.words[at + INDEX] = key[0] + 1, index
            self._pages[key] = pfn
        return pfn

    def cached(self, inode: Inode, index: int) -> int | None:
        """The frame of a page that is in the cache, else None."""
        number = self._numbers.get(id(inode))
        return None if number is None else self._pages.get((number, index))

    def invalidate(self, inode: Inode) -> None:
        """Forget the pages of a file: it was truncated or written below."""
        number = self._numbers.get(id(inode))
        for key in [key for key in self._pages if key[0] == number]:
            self._kernel.put_page(self._pages.pop(key))

    def shrink(self, wanted: int) -> int:
        """Release up to ``wanted`` pages that only the cache holds; the number released."""
        kernel, released = self._kernel, 0
        for key, pfn in list(self._pages.items()):
            if released >= wanted:
                break
            if kernel.memmap.count(pfn) == 1 and key[0] not in self._kept:
                del self._pages[key]
                kernel.put_page(pfn)
                released += 1
        return released

    def __len__(self) -> int:
        return len(self._pages)

    def _number(self, inode: Inode) -> int:
        number = self._numbers.get(id(inode))
        if number is None:
            number = self._numbers[id(inode)] = len(self._inodes)
            self._inodes.append(inode)
        return number
