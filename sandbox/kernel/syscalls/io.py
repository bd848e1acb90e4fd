"""Reading, writing and seeking.

Regular files go through the page cache; their bytes cross to the program by ``copy_user`` on the CPU.  What was moved
before something failed is the result; the error counts only when nothing was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import (
    EBADF,
    EFAULT,
    EFBIG,
    EINVAL,
    EISDIR,
    EOPNOTSUPP,
    EOVERFLOW,
    ESPIPE,
    KernelError,
)
from sandbox.kernel.abi.flags import O_APPEND, O_LARGEFILE, O_NONBLOCK, O_PATH, POLLIN, S_IFDIR, S_IFREG
from sandbox.kernel.abi.structs import unpack_iovec
from sandbox.kernel.base.layout import PAGE_OFFSET, PAGE_SIZE
from sandbox.kernel.drivers.chrdev import CharDevice
from sandbox.kernel.fs.namespace import LARGEST_SMALL
from sandbox.kernel.fs.pipe import PipeInode
from sandbox.kernel.ipc.pipe_io import read_pipe, write_pipe
from sandbox.kernel.ipc.stream import Stream
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.mm.uaccess import (
    access_ok,
    copy_frame_from_user,
    copy_frame_to_user,
    copy_from_user,
    get_user,
    put_device_bytes,
    put_user,
)
from sandbox.kernel.procfs.nodes import Text
from sandbox.kernel.syscalls.paths import signed
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.machine.memory import Reason

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

MAXIMUM_COUNT = 0x7FFFF000
MAXIMUM_POSITION = (1 << 63) - 1
UIO_MAXIOV = 1024
LARGEST_TEXT = 1 << 16
"""Bytes that one read of a file of /proc gives at most."""
RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND = 1, 2, 4, 8, 16
Transfer = Callable[["Kernel", Task, File, int, int, int | None], int]


# -- one piece of memory ---------------------------------------------------------------------------------------------


def _read(kernel: Kernel, task: Task, file: File, address: int, count: int, position: int | None) -> int:
    """read(2), or pread(2) at a position, of one piece of user memory.  Raises KernelError."""
    inode = file.inode
    if position is not None and inode.kind not in (S_IFREG, S_IFDIR) and not inode.seeks_nowhere:
        raise KernelError(ESPIPE)
    if not access_ok(kernel, address, count):
        raise KernelError(EFAULT)
    if isinstance(inode, PipeInode):
        return read_pipe(kernel, task, inode, bool(file.flags & O_NONBLOCK), address, count)
    if isinstance(inode, Stream):
        return inode.read_user(kernel, task, file, address, count)
    if isinstance(inode, CharDevice):
        return _read_device(kernel, task, inode, address, count)
    if inode.kind == S_IFDIR:
        raise KernelError(EISDIR)
    if inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    at = file.position if position is None else position
    if isinstance(inode, Text):
        done = put_device_bytes(kernel, task, address, inode.read_at(at, min(count, LARGEST_TEXT)))
        if position is None:
            file.position = at + done
        return done
    if at + count > MAXIMUM_POSITION:
        raise KernelError(EINVAL)
    done = _read_pages(kernel, task, inode, address, count, at)
    if position is None:
        file.position = at + done
    return done


def _read_pages(kernel: Kernel, task: Task, inode: Inode, address: int, count: int, at: int) -> int:
    done, wanted = 0, min(count, max(0, inode.size - at))
    find_page, memmap = kernel.pagecache.find_page, kernel.memmap
    while done < wanted:
        index, offset = divmod(at + done, PAGE_SIZE)
        piece = min(PAGE_SIZE - offset, wanted - done)
        try:
            pfn = find_page(inode, index)
        except (KernelError, OutOfMemory):
            if done:
                break
            raise
        memmap.get_page(pfn)
        try:
            left = copy_frame_to_user(kernel, task, address + done, pfn, offset, piece)
        finally:
            kernel.put_page(pfn)
        done += piece - left
        if left:
            break
    if wanted and not done:
        raise KernelError(EFAULT)
    return done


def _read_device(kernel: Kernel, task: Task, device: CharDevice, address: int, count: int) -> int:
    """Bytes from the host arrive in the scratch page as a terminal's DMA would bring them."""
    done = 0
    physical = task.scratch - PAGE_OFFSET
    while done < count and (not done or device.poll() & POLLIN):
        try:
            data = device.read(min(count - done, PAGE_SIZE))
        except KernelError:
            if done:
                break
            raise
        if not data:
            break
        kernel.memory.host_write(physical, data, Reason.DMA)
        left = copy_frame_to_user(kernel, task, address + done, physical // PAGE_SIZE, 0, len(data))
        done += len(data) - left
        if left and not done:
            raise KernelError(EFAULT)
        if left or task.pending:
            break
    return done


def _write(kernel: Kernel, task: Task, file: File, address: int, count: int, position: int | None) -> int:
    """write(2), or pwrite(2) at a position, of one piece of user memory.  Raises KernelError."""
    inode = file.inode
    if position is not None and inode.kind != S_IFREG and not inode.seeks_nowhere:
        raise KernelError(ESPIPE)
    if not access_ok(kernel, address, count):
        raise KernelError(EFAULT)
    if isinstance(inode, PipeInode):
        return write_pipe(kernel, task, inode, bool(file.flags & O_NONBLOCK), address, count)
    if isinstance(inode, Stream):
        return inode.write_user(kernel, task, file, address, count)
    if isinstance(inode, CharDevice):
        return _write_device(kernel, task, inode, address, count)
    if inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    if not count:
        return 0
    at = inode.size if file.flags & O_APPEND else file.position if position is None else position
    count = room(file, at, count)
    done = _write_pages(kernel, task, inode, address, count, at)
    if position is None:
        file.position = at + done
    return done


def room(file: File, at: int, count: int) -> int:
    """The bytes of ``count`` that the size limits let be written at a position.  Raises KernelError(EFBIG)."""
    largest = MAXIMUM_POSITION if file.flags & O_LARGEFILE else LARGEST_SMALL
    if count and at >= largest:
        raise KernelError(EFBIG)
    return min(count, max(0, largest - at))


def _write_pages(kernel: Kernel, task: Task, inode: Inode, address: int, count: int, at: int) -> int:
    done = 0
    while done < count:
        index, offset = divmod(at + done, PAGE_SIZE)
        piece = min(PAGE_SIZE - offset, count - done)

        def fill(pfn: int, offset: int = offset, piece: int = piece, address: int = address + done) -> int:
            return piece - copy_frame_from_user(kernel, task, address, pfn, offset, piece)

        try:
            moved = write_page(kernel, inode, index, offset, fill)
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


def write_page(kernel: Kernel, inode: Inode, index: int, offset: int, fill: Callable[[int], int]) -> int:
    """Let ``fill`` store bytes at ``offset`` of a page's frame, and write the page below; the bytes stored.

    Raises KernelError (ENOSPC, EFBIG, EIO), with the file as it was.
    """
    pfn = kernel.pagecache.find_page(inode, index)
    kernel.memmap.get_page(pfn)
    try:
        moved = fill(pfn)
        if moved:
            size = inode.size
            try:
                inode.extend(index * PAGE_SIZE + offset + moved)
                kernel.pagecache.write_out(inode, index)
            except KernelError:
                if inode.size != size:
                    inode.truncate(size)
                kernel.pagecache.invalidate_inode_pages(inode, index, index + 1)
                raise
    finally:
        kernel.put_page(pfn)
    return moved


def _write_device(kernel: Kernel, task: Task, device: CharDevice, address: int, count: int) -> int:
    data, left = copy_from_user(kernel, task, address, count)
    if left and not data:
        raise KernelError(EFAULT)
    return device.write(data)


# -- calls -----------------------------------------------------------------------------------------------------------


def _count(kernel: Kernel, address: int, count: int) -> int:
    """A byte count as read(2) and write(2) take it: no address of the kernel, not negative, and bounded."""
    if not access_ok(kernel, address, count):
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


def _vector(kernel: Kernel, task: Task, vector: int, count: int) -> list[tuple[int, int]]:
    """The pieces of an iovec, cut off where their sum reaches the bound.  Raises KernelError(EINVAL, EFAULT)."""
    if count > UIO_MAXIOV:
        raise KernelError(EINVAL)
    pieces = unpack_iovec(get_user(kernel, task, vector, 8 * count)) if count else []
    left = MAXIMUM_COUNT
    bounded = []
    for base, length in pieces:
        if not access_ok(kernel, base, length):
            raise KernelError(EFAULT)
        bounded.append((base, min(length, left)))
        left -= bounded[-1][1]
    return bounded


def _each(
    kernel: Kernel, task: Task, transfer: Transfer, file: File, vector: int, count: int, position: int | None = None
) -> int:
    """Transfer the pieces in turn until one is short or would wait; an error counts only before the first byte."""
    done = 0
    for base, length in _vector(kernel, task, vector, count):
        if not length:
            continue
        try:
            moved = transfer(kernel, task, file, base, length, None if position is None else position + done)
        except KernelError:
            if done:
                break
            raise
        done += moved
        if moved < length or (transfer is _read and isinstance(file.inode, Stream)):
            break
        if transfer is _read and isinstance(file.inode, PipeInode):
            if not file.inode.pipe.available:
                break
        elif transfer is _read and isinstance(file.inode, CharDevice) and not file.inode.poll() & POLLIN:
            break
    return done


def sys_readv(kernel: Kernel, task: Task, fd: int, vector: int, count: int, *_: int) -> int:
    return _each(kernel, task, _read, task.files.get_readable(fd), vector, count)


def sys_writev(kernel: Kernel, task: Task, fd: int, vector: int, count: int, *_: int) -> int:
    return _each(kernel, task, _write, task.files.get_writable(fd), vector, count)


def sys_preadv(kernel: Kernel, task: Task, fd: int, vector: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    file = _seekable(task.files.get(fd), task.files.get_readable, fd)
    return _each(kernel, task, _read, file, vector, count, high << 32 | low)


def sys_pwritev(kernel: Kernel, task: Task, fd: int, vector: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    file = _seekable(task.files.get(fd), task.files.get_writable, fd)
    return _each(kernel, task, _write, file, vector, count, high << 32 | low)


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
    put_user(kernel, task, result, position.to_bytes(8, "little"))
    return 0
