"""The page cache's door: file pages in frames, shared by read, write, mmap and exec.

A page is in the cache at most once, so that what a program stores through a shared mapping is what read(2) finds.
The pages of an inode live as long as the inode: those of shared anonymous memory, of unlinked files and of host files
that nobody uses any more go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import ref

from sandbox.kernel.base.races import Races
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.page import INDEX, MAPPING, PG_CACHE
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pagelock import PageLocks
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.vmscan import Need
from sandbox.kernel.vfs.inode import Inode
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import PAGE_SIZE


class SharedMemory(Inode):
    """What MAP_SHARED | MAP_ANONYMOUS maps: pages without a name or a store below them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.name = "/dev/zero (deleted)"

    @property
    def size(self) -> int:
        return self._size

    def write_block(self, index: int, data: bytes) -> None:
        """There is nothing to write to."""


class AddressSpace:
    """The cached pages of one inode: frame numbers by page index."""

    __slots__ = ("inode", "kept", "number", "pages")

    def __init__(self, inode: ref[Inode], number: int, kept: bool) -> None:
        self.inode = inode
        self.number = number
        self.kept = kept
        """Its pages cannot be read in again."""
        self.pages: dict[int, int] = {}


class PageCache:
    """Frames by inode and page index; the cache holds one reference on each.

    ``find_page`` brings a page in through the disk's DMA; the frame may be in highmem.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        pgdat: PgDat,
        page_alloc: PageAllocator,
        highmem: Highmem,
        locks: PageLocks,
        races: Races,
    ) -> None:
        self._memory, self._memmap, self._locks, self._races = memory, pgdat.memmap, locks, races
        self._page_alloc, self._highmem = page_alloc, highmem
        self._spaces: dict[int, AddressSpace] = {}
        """By id() of the inode; an entry goes when its inode does."""
        self._by_number: dict[int, AddressSpace] = {}
        """By what the struct page of each of its pages has in its mapping word."""
        self._orphans: list[AddressSpace] = []
        """Of inodes that are gone, for ``reap``."""
        self._last_number = 0
        self.reads = 0
        """Pages read from below."""

    def find_page(self, inode: Inode, index: int) -> int:
        """The frame number of a file's page, read in when it is not there.

        ``index`` counts pages of 4096 bytes; bytes behind the end of the file are zero.  Sleeps while somebody else
        reads it.  Raises OutOfMemory.
        """
        space = self._spaces.get(id(inode))
        if space is None:
            space = self._enter(inode)
        while True:
            pfn = space.pages.get(index)
            if pfn is None:
                return self._read_in(space, inode, index)
            if not self._locks.held or not self._locks.locked(pfn):
                return pfn
            self._locks.wait_on_page(pfn)

    def cached(self, inode: Inode, index: int) -> int | None:
        """The frame of a page that is in the cache, else None."""
        space = self._spaces.get(id(inode))
        return None if space is None else space.pages.get(index)

    def frames(self) -> Iterator[int]:
        """The frames of all pages in the cache."""
        for space in (*self._spaces.values(), *self._orphans):
            yield from space.pages.values()

    def space_of(self, pfn: int) -> tuple[AddressSpace, int]:
        """Whose page a frame of the cache is, and which, by its struct page."""
        at = self._memmap.at(pfn)
        words = self._memmap.words
        return self._by_number[words[at + MAPPING]], words[at + INDEX]

    def replace(self, pfn: int, new: int) -> None:
        """A page of the cache has moved to another frame; who calls moves the cache's reference."""
        space, index = self.space_of(pfn)
        space.pages[index] = new
        self._enter_page(new, space, index)

    def write_out(self, inode: Inode, index: int) -> None:
        """Write a cached page to the file, as far as the file reaches.  Raises KernelError (EIO, ENOSPC)."""
        pfn = self.cached(inode, index)
        used = min(PAGE_SIZE, inode.size - index * PAGE_SIZE)
        if pfn is not None and used > 0:
            memory = self._memory
            at = memory.host_index(pfn << 12)
            inode.write_block(index, bytes(memory.bytes[at : at + used]))

    def truncate_inode_pages(self, inode: Inode, size: int) -> None:
        """Forget the pages behind ``size`` bytes; the rest of the last page becomes zeros, by the CPU."""
        space = self._spaces.get(id(inode))
        if space is None:
            return
        first = -(-size // PAGE_SIZE)
        for index in [index for index in space.pages if index >= first]:
            self._page_alloc.put_page(space.pages.pop(index))
        tail = space.pages.get(size // PAGE_SIZE) if size % PAGE_SIZE else None
        if tail is not None:
            self._highmem.clear_tail(tail, size % PAGE_SIZE)

    def invalidate_inode_pages(self, inode: Inode, first: int, end: int) -> int:
        """Release the pages [first, end) of a file that only the cache holds; the number released."""
        space = self._spaces.get(id(inode))
        if space is None or space.kept:
            return 0
        return self._release(space, [index for index in space.pages if first <= index < end])

    def shrink(self, need: Need) -> int:
        """Release pages that only the cache holds, of the zones that are needed; the number released."""
        return self.reap() if need.order else self.shrink_mmap(need.frames, need.suits)

    def shrink_mmap(self, wanted: int, suits: Callable[[int], bool] | None = None) -> int:
        """Release up to ``wanted`` pages that only the cache holds and whose flags suit; the number released."""
        released, flags = self.reap(), self._memmap.flags
        for space in self.spaces():
            if released >= wanted:
                break
            pages = [index for index, pfn in space.pages.items() if suits is None or suits(flags(pfn))]
            released += self._release(space, pages, wanted - released)
        return released

    def spaces(self) -> list[AddressSpace]:
        """Those whose pages can be read in again."""
        return [space for space in self._spaces.values() if not space.kept]

    def forget(self, space: AddressSpace, index: int) -> None:
        """Let go of a page that nobody else holds."""
        self._page_alloc.put_page(space.pages.pop(index))

    def reap(self) -> int:
        """Release the pages of inodes that are gone; their number."""
        released = 0
        while self._orphans:
            space = self._orphans.pop()
            del self._by_number[space.number]
            for pfn in space.pages.values():
                self._page_alloc.put_page(pfn)
                released += 1
        return released

    def __len__(self) -> int:
        return sum(len(space.pages) for space in self._spaces.values())

    def _enter(self, inode: Inode) -> AddressSpace:
        self.reap()
        key = id(inode)
        self._last_number += 1
        gone = ref(inode, lambda _: self._forget(key))
        space = AddressSpace(gone, self._last_number, isinstance(inode, SharedMemory))
        self._spaces[key] = self._by_number[space.number] = space
        return space

    def _forget(self, key: int) -> None:
        space = self._spaces.pop(key)
        if space.pages:
            self._orphans.append(space)
        else:
            del self._by_number[space.number]

    def _read_in(self, space: AddressSpace, inode: Inode, index: int) -> int:
        pfn = self._page_alloc.alloc_page(GFP_HIGHUSER)
        if index in space.pages:  # somebody was faster while this one waited for a frame
            self._page_alloc.put_page(pfn)
            return self.find_page(inode, index)
        fill = self._fill_alone if inode.reads_at_once and not self._races.active else self._fill_locked
        fill(space, inode, index, pfn)
        # Where the file was cut meanwhile the page is gone again.
        return pfn if space.pages.get(index) == pfn else self.find_page(inode, index)

    def _fill_alone(self, space: AddressSpace, inode: Inode, index: int, pfn: int) -> None:
        """Fill a page and enter it, where nobody else can run in between: there is no one for a lock to keep out."""
        try:
            self._fill(space, inode, index, pfn)
        except BaseException:
            self._page_alloc.put_page(pfn)
            raise
        self._enter_page(pfn, space, index)
        space.pages[index] = pfn

    def _fill_locked(self, space: AddressSpace, inode: Inode, index: int, pfn: int) -> None:
        """A page is entered locked, filled, unlocked, so that whoever else wants it waits for this one."""
        self._enter_page(pfn, space, index)
        space.pages[index] = pfn
        self._locks.lock_page(pfn)
        self._memmap.get_page(pfn)
        try:
            self._fill(space, inode, index, pfn)
        except BaseException:
            if space.pages.get(index) == pfn:
                self.forget(space, index)
            raise
        finally:
            self._locks.unlock_page(pfn)
            self._page_alloc.put_page(pfn)

    def _fill(self, space: AddressSpace, inode: Inode, index: int, pfn: int) -> None:
        if space.kept:
            self._highmem.clear_user_highpage(pfn)
        else:
            data = inode.read_block(index)
            if self._races.active:
                self._races.point("read-in")
            whole = data if len(data) == PAGE_SIZE else data.ljust(PAGE_SIZE, b"\0")
            self._memory.host_write(pfn * PAGE_SIZE, whole, Reason.DMA)
            self.reads += 1

    def _enter_page(self, pfn: int, space: AddressSpace, index: int) -> None:
        at, words = self._memmap.at(pfn), self._memmap.words
        words[at] |= PG_CACHE
        words[at + MAPPING], words[at + INDEX] = space.number, index

    def _release(self, space: AddressSpace, candidates: list[int], wanted: int = 1 << 30) -> int:
        released = 0
        for index in candidates:
            if released >= wanted:
                break
            pfn = space.pages[index]
            if self._memmap.count(pfn) == 1 and not self._locks.locked(pfn):
                self.forget(space, index)
                released += 1
        return released
