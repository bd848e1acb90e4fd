"""Reading, writing and seeking.

Regular files go through the page cache; their bytes cross to the program by ``copy_user`` on the CPU.  What was moved
before something failed is the result; the error counts only when nothing was.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import (
    EBADF,
    EFAULT,
    EINVAL,
    EOPNOTSUPP,
    EOVERFLOW,
    ESPIPE,
    KernelError,
)
from sandbox.kernel.abi.flags import O_PATH, S_IFDIR, S_IFREG
from sandbox.kernel.abi.inotify import IN_ACCESS, IN_MODIFY
from sandbox.kernel.abi.structs import unpack_iovec
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.rlimit import FileSizeExceeded, writable_room
from sandbox.kernel.syscalls.paths import signed
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import LARGEST_SMALL, File
from sandbox.kernel.vfs.notify import fsnotify_file
from sandbox.kernel.vfs.operations import NO_OPERATIONS, FileOperations
from sandbox.machine.memory import Reason
from sandbox.x86.paging import PAGE_SIZE

MAXIMUM_COUNT = 0x7FFFF000
UIO_MAXIOV = 1024
RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND = 1, 2, 4, 8, 16


# -- one piece of memory ---------------------------------------------------------------------------------------------


def operations(kernel: Kernel, file: File) -> FileOperations:
    """What can be done with an open file: its inode's operations, or those of regular files."""
    found = file.inode.operations()
    if found is not None:
        return found
    return kernel.generic_file if file.inode.kind == S_IFREG else NO_OPERATIONS


def _told(file: File, done: int, mask: int) -> int:
    """Who watches the file learns of bytes that were moved."""
    if done > 0:
        fsnotify_file(file, mask)
    return done


def _read(kernel: Kernel, task: Task, file: File, address: int, count: int, position: int | None) -> int:
    """read(2), or pread(2) at a position, of one piece of user memory.  Raises KernelError."""
    inode = file.inode
    if position is not None and inode.kind not in (S_IFREG, S_IFDIR) and not inode.seeks_nowhere:
        raise KernelError(ESPIPE)
    if not kernel.uaccess.access_ok(address, count):
        raise KernelError(EFAULT)
    return _told(file, operations(kernel, file).read(file, task, address, count, position), IN_ACCESS)


def _write(kernel: Kernel, task: Task, file: File, address: int, count: int, position: int | None) -> int:
    """write(2), or pwrite(2) at a position, of one piece of user memory.  Raises KernelError."""
    inode = file.inode
    if position is not None and inode.kind != S_IFREG and not inode.seeks_nowhere:
        raise KernelError(ESPIPE)
    if not kernel.uaccess.access_ok(address, count):
        raise KernelError(EFAULT)
    return _told(file, operations(kernel, file).write(file, task, address, count, position), IN_MODIFY)


# -- calls -----------------------------------------------------------------------------------------------------------


def _count(kernel: Kernel, address: int, count: int) -> int:
    """A byte count as read(2) and write(2) take it: no address of the kernel, not negative, and bounded."""
    if not kernel.uaccess.access_ok(address, count):
        raise KernelError(EFAULT)
    if count >> 31:
        raise KernelError(EINVAL)
    return min(count, MAXIMUM_COUNT)


def sys_read(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, *_: int) -> int:
    file = task.files.get_readable(fd)
    return _read(kernel, task, file, buffer, _count(kernel, buffer, count), None)


def sys_write(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, *_: int) -> int:
    file = task.files.get_writable(fd)
    return _write(kernel, task, file, buffer, _count(kernel, buffer, count), None)


def sys_pread64(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    file = _seekable(task.files.get(fd), task.files.get_readable, fd)
    return _read(kernel, task, file, buffer, _count(kernel, buffer, count), high << 32 | low)


def sys_pwrite64(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    file = _seekable(task.files.get(fd), task.files.get_writable, fd)
    return _write(kernel, task, file, buffer, _count(kernel, buffer, count), high << 32 | low)


def _seekable(file: File, check: Callable[[int], File], fd: int) -> File:
    """Raises KernelError(ESPIPE) for what has no positions, before the access mode is looked at."""
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if file.inode.kind not in (S_IFREG, S_IFDIR) and not file.inode.seeks_nowhere:
        raise KernelError(ESPIPE)
    return check(fd)


# -- several pieces --------------------------------------------------------------------------------------------------


def vector_pieces(kernel: Kernel, task: Task, vector: int, count: int) -> list[tuple[int, int]]:
    """The pieces of an iovec but for empty ones, cut off where their sum reaches the bound.

    Raises KernelError(EINVAL, EFAULT).
    """
    if count > UIO_MAXIOV:
        raise KernelError(EINVAL)
    pieces = unpack_iovec(kernel.uaccess.get_user(task, vector, 8 * count)) if count else []
    if any(length >> 31 for _, length in pieces):
        raise KernelError(EINVAL)
    left = MAXIMUM_COUNT
    bounded = []
    for base, length in pieces:
        if not kernel.uaccess.access_ok(base, length):
            raise KernelError(EFAULT)
        length = min(length, left)
        left -= length
        if length:
            bounded.append((base, length))
    return bounded


def _readv(kernel: Kernel, task: Task, file: File, vector: int, count: int, position: int | None = None) -> int:
    pieces = vector_pieces(kernel, task, vector, count)
    if len(pieces) < 2:
        return _read(kernel, task, file, *pieces[0], position) if pieces else 0
    return _told(file, operations(kernel, file).readv(file, task, pieces, position), IN_ACCESS)


def _writev(kernel: Kernel, task: Task, file: File, vector: int, count: int, position: int | None = None) -> int:
    pieces = vector_pieces(kernel, task, vector, count)
    if len(pieces) < 2:
        return _write(kernel, task, file, *pieces[0], position) if pieces else 0
    return _told(file, operations(kernel, file).writev(file, task, pieces, position), IN_MODIFY)


def sys_readv(kernel: Kernel, task: Task, fd: int, vector: int, count: int, *_: int) -> int:
    return _readv(kernel, task, task.files.get_readable(fd), vector, count)


def sys_writev(kernel: Kernel, task: Task, fd: int, vector: int, count: int, *_: int) -> int:
    return _writev(kernel, task, task.files.get_writable(fd), vector, count)


def sys_preadv(kernel: Kernel, task: Task, fd: int, vector: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    file = _seekable(task.files.get(fd), task.files.get_readable, fd)
    return _readv(kernel, task, file, vector, count, high << 32 | low)


def sys_pwritev(kernel: Kernel, task: Task, fd: int, vector: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    file = _seekable(task.files.get(fd), task.files.get_writable, fd)
    return _writev(kernel, task, file, vector, count, high << 32 | low)


def sys_preadv2(kernel: Kernel, task: Task, fd: int, vector: int, count: int, low: int, high: int, flags: int) -> int:
    if flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT):
        raise KernelError(EOPNOTSUPP)
    if low == high == 0xFFFFFFFF:
        return sys_readv(kernel, task, fd, vector, count)
    return sys_preadv(kernel, task, fd, vector, count, low, high)


def sys_pwritev2(kernel: Kernel, task: Task, fd: int, vector: int, count: int, low: int, high: int, flags: int) -> int:
    if flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND):
        raise KernelError(EOPNOTSUPP)
    if low == high == 0xFFFFFFFF:
        return sys_writev(kernel, task, fd, vector, count)
    return sys_pwritev(kernel, task, fd, vector, count, low, high)


# -- positions -------------------------------------------------------------------------------------------------------


def sys_lseek(kernel: Kernel, task: Task, fd: int, offset: int, whence: int, *_: int) -> int:
    position = task.files.get(fd).seek(signed(offset), whence)
    if position > LARGEST_SMALL:
        raise KernelError(EOVERFLOW)
    return position


def sys__llseek(kernel: Kernel, task: Task, fd: int, high: int, low: int, result: int, whence: int, *_: int) -> int:
    offset = high << 32 | low
    position = task.files.get(fd).seek(offset - (1 << 64) if offset >> 63 else offset, whence)
    kernel.uaccess.put_user(task, result, position.to_bytes(8, "little"))
    return 0


def meet_limit(kernel: Kernel, task: Task, out: File, at: int) -> None:
    """Who goes on at a position after a short write meets RLIMIT_FSIZE there: SIGXFSZ, and what was written counts."""
    if out.inode.kind == S_IFREG:
        try:
            writable_room(task.limits, at, 1)
        except FileSizeExceeded:
            kernel.signals.exceed_file_size(task)


def send_pages(
    kernel: Kernel, task: Task, source: File, at: int, count: int, put: Callable[[int, int, int, int], int]
) -> int:
    """Hand a file's pages to ``put(done, pfn, offset, size)``; what has no pages fills the task's scratch page.

    An error counts only before the first byte.
    """
    if source.inode.kind == S_IFREG and source.inode.mappable:
        return kernel.generic_file.send(source.inode, at, count, put)
    physical, done, moved = task.scratch - PAGE_OFFSET, 0, PAGE_SIZE
    while done < count and moved == PAGE_SIZE:
        try:
            data = source.inode.splice_read(at + done, min(count - done, PAGE_SIZE))
            kernel.memory.host_write(physical, data, Reason.DMA)
            moved = put(done, physical // PAGE_SIZE, 0, len(data)) if data else 0
        except KernelError:
            if done:
                break
            raise
        done += moved
    return done
