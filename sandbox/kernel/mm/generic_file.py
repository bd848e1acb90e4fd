"""Reading and writing of regular files: through the page cache, the bytes moved by the CPU (generic_file_read)."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import EFAULT, EFBIG, EINVAL, KernelError
from sandbox.kernel.abi.flags import O_APPEND, O_LARGEFILE
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.mm import Process
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.rlimit import writable_room
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.vfs.file import LARGEST_SMALL, MAXIMUM_POSITION, File
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import FileOperations
from sandbox.x86.paging import PAGE_SIZE


class GenericFile(FileOperations):
    """What a regular file does.  What was moved before something failed is the result."""

    def __init__(
        self, pagecache: PageCache, pgdat: PgDat, page_alloc: PageAllocator, uaccess: UserAccess, zero_page: int
    ) -> None:
        self._pagecache, self._memmap, self._page_alloc = pagecache, pgdat.memmap, page_alloc
        self._uaccess, self._zero_page = uaccess, zero_page

    def read(self, file: File, task: Process, address: int, count: int, position: int | None = None) -> int:
        at = file.position if position is None else position
        if at + count > MAXIMUM_POSITION:
            raise KernelError(EINVAL)

        def put(done: int, pfn: int, offset: int, size: int) -> int:
            return size - self._uaccess.copy_frame_to_user(task, address + done, pfn, offset, size)

        done = self.send(file.inode, at, count, put)
        if not done and count and at < file.inode.size:
            raise KernelError(EFAULT)
        if position is None:
            file.position = at + done
        return done

    def write(self, file: File, task: Process, address: int, count: int, position: int | None = None) -> int:
        if not count:
            return 0
        inode = file.inode
        at = inode.size if file.flags & O_APPEND else file.position if position is None else position
        done = self._write_pages(task, inode, address, room(file, task, at, count), at)
        if position is None:
            file.position = at + done
        return done

    def _write_pages(self, task: Process, inode: Inode, address: int, count: int, at: int) -> int:
        done = 0
        while done < count:
            index, offset = divmod(at + done, PAGE_SIZE)
            piece = min(PAGE_SIZE - offset, count - done)

            def fill(pfn: int, offset: int = offset, piece: int = piece, address: int = address + done) -> int:
                return piece - self._uaccess.copy_frame_from_user(task, address, pfn, offset, piece)

            try:
                moved = self.write_page(inode, index, offset, fill)
            except (KernelError, OutOfMemory):
                if done:
                    break
                raise
            done += moved
            if moved < piece:
                break
        if count and not done:
            raise KernelError(EFAULT)
        return done

    def write_page(self, inode: Inode, index: int, offset: int, fill: Callable[[int], int]) -> int:
        """Let ``fill`` store bytes at ``offset`` of a page's frame, and write the page below; the bytes stored.

        Raises KernelError (ENOSPC, EFBIG, EIO), with the file as it was.
        """
        pagecache = self._pagecache
        pfn = pagecache.find_page(inode, index)
        self._memmap.get_page(pfn)
        try:
            moved = fill(pfn)
            if moved:
                size = inode.size
                try:
                    inode.extend(index * PAGE_SIZE + offset + moved)
                    pagecache.write_out(inode, index)
                except KernelError:
                    if inode.size != size:
                        inode.truncate(size)
                    pagecache.invalidate_inode_pages(inode, index, index + 1)
                    raise
        finally:
            self._page_alloc.put_page(pfn)
        return moved

    def sendpage(self, file: File, task: Process, at: int | None, pfn: int, offset: int, size: int) -> int:
        where = file.position if at is None else at
        size = room(file, task, where, size)
        done = 0
        while done < size:
            index, to = divmod(where + done, PAGE_SIZE)
            piece = min(PAGE_SIZE - to, size - done)

            def fill(frame: int, to: int = to, source: int = offset + done, piece: int = piece) -> int:
                return piece - self._uaccess.copy_frame(task, frame, to, pfn, source, piece)

            done += self.write_page(file.inode, index, to, fill)
        if at is None:
            file.position = where + done
        return done

    def send(self, source: Inode, at: int, count: int, put: Callable[[int, int, int, int], int]) -> int:
        """Hand a file's pages to ``put(done, pfn, offset, size)`` while it takes all; an error counts only at first."""
        done, wanted = 0, min(count, max(0, source.size - at))
        while done < wanted:
            index, offset = divmod(at + done, PAGE_SIZE)
            piece = min(PAGE_SIZE - offset, wanted - done)
            try:
                pfn = self._pagecache.find_page(source, index)
                self._memmap.get_page(pfn)
                try:
                    moved = put(done, pfn, offset, piece)
                finally:
                    self._page_alloc.put_page(pfn)
            except (KernelError, OutOfMemory):
                if done:
                    break
                raise
            done += moved
            if moved < piece:
                break
        return done

    def zero_range(self, task: Process, inode: Inode, start: int, end: int) -> None:
        """Make bytes [start, end) of a file zero, through the page cache."""
        while start < end:
            index, offset = divmod(start, PAGE_SIZE)
            piece = min(PAGE_SIZE - offset, end - start)

            def fill(pfn: int, offset: int = offset, piece: int = piece) -> int:
                return piece - self._uaccess.copy_frame(task, pfn, offset, self._zero_page, 0, piece)

            if self._pagecache.cached(inode, index) is not None or inode.read_block(index).strip(b"\0"):
                self.write_page(inode, index, offset, fill)
            start += piece

    def available(self, file: File) -> int:
        return max(-(1 << 31), min(file.inode.size - file.position, (1 << 31) - 1))


def room(file: File, task: Process, at: int, count: int) -> int:
    """The bytes of ``count`` that the size limits let be written at a position.  Raises KernelError(EFBIG)."""
    count = writable_room(task.limits, at, count)
    largest = MAXIMUM_POSITION if file.flags & O_LARGEFILE else LARGEST_SMALL
    if count and at >= largest:
        raise KernelError(EFBIG)
    return min(count, max(0, largest - at))
