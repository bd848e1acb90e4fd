"""Reading, writing and seeking.

Regular files go through the page cache; their bytes cross to the program by ``copy_user`` on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EFAULT, EINVAL, EISDIR, ESPIPE, KernelError
from sandbox.kernel.abi.flags import O_APPEND, O_NONBLOCK, S_IFDIR, S_IFREG
from sandbox.kernel.abi.structs import unpack_iovec
from sandbox.kernel.fs.chardev import CharDevice
from sandbox.kernel.fs.file import File
from sandbox.kernel.fs.pipe import PipeInode
from sandbox.kernel.fs.stream import Stream
from sandbox.kernel.ipc import read_pipe, write_pipe
from sandbox.kernel.layout import PAGE_OFFSET, PAGE_SIZE
from sandbox.kernel.task import Task
from sandbox.kernel.usercopy import (
    copy_frame_from_user,
    copy_frame_to_user,
    copy_from_user,
    get_user,
    put_user,
)
from sandbox.machine.memory import Reason

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

MAXIMUM_COUNT = 0x7FFFF000
UIO_MAXIOV = 1024
Transfer = Callable[["Kernel", Task, File, int, int, int | None], int]


def signed(value: int) -> int:
    """A register's 32 bits as a signed number."""
    return value - (1 << 32) if value >> 31 else value


def _read(kernel: Kernel, task: Task, file: File, address: int, count: int, position: int | None) -> int:
    inode = file.inode
    if isinstance(inode, PipeInode):
        if position is not None:
            raise KernelError(ESPIPE)
        return read_pipe(kernel, task, inode, bool(file.flags & O_NONBLOCK), address, count)
    if isinstance(inode, Stream):
        if position is not None:
            raise KernelError(ESPIPE)
        return inode.read_user(kernel, task, file, address, count)
    if isinstance(inode, CharDevice):
        if position is not None:
            raise KernelError(ESPIPE)
        return _read_device(kernel, task, inode, address, count)
    if inode.kind == S_IFDIR:
        raise KernelError(EISDIR)
    if inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    at = file.position if position is None else position
    done, wanted = 0, min(count, max(0, inode.size - at))
    while done < wanted:
        offset = (at + done) % PAGE_SIZE
        piece = min(PAGE_SIZE - offset, wanted - done)
        pfn = kernel.pagecache.find_page(inode, (at + done) // PAGE_SIZE)
        kernel.memmap.get_page(pfn)
        left = copy_frame_to_user(kernel, task, address + done, pfn, offset, piece)
        kernel.put_page(pfn)
        done += piece - left
        if left:
            break
    if wanted and not done:
        raise KernelError(EFAULT)
    if position is None:
        file.position = at + done
    return done


def _read_device(kernel: Kernel, task: Task, device: CharDevice, address: int, count: int) -> int:
    """Bytes from the host arrive in the scratch page as a terminal's DMA would bring them."""
    data = device.read(min(count, PAGE_SIZE))
    if not data:
        return 0
    physical = task.scratch - PAGE_OFFSET
    kernel.memory.host_write(physical, data, Reason.DMA)
    left = copy_frame_to_user(kernel, task, address, physical // PAGE_SIZE, 0, len(data))
    if left == len(data):
        raise KernelError(EFAULT)
    return len(data) - left


def _write(kernel: Kernel, task: Task, file: File, address: int, count: int, position: int | None) -> int:
    inode = file.inode
    if isinstance(inode, PipeInode):
        if position is not None:
            raise KernelError(ESPIPE)
        return write_pipe(kernel, task, inode, bool(file.flags & O_NONBLOCK), address, count)
    if isinstance(inode, Stream):
        if position is not None:
            raise KernelError(ESPIPE)
        return inode.write_user(kernel, task, file, address, count)
    if isinstance(inode, CharDevice):
        if position is not None:
            raise KernelError(ESPIPE)
        data, left = copy_from_user(kernel, task, address, count)
        if left and not data:
            raise KernelError(EFAULT)
        return inode.write(data)
    if inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    at = inode.size if file.flags & O_APPEND else file.position if position is None else position
    done = 0
    while done < count:
        index, offset = divmod(at + done, PAGE_SIZE)
        piece = min(PAGE_SIZE - offset, count - done)
        pfn = kernel.pagecache.find_page(inode, index)
        kernel.memmap.get_page(pfn)
        left = copy_frame_from_user(kernel, task, address + done, pfn, offset, piece)
        done += piece - left
        if piece - left:
            inode.extend(at + done)
            start = kernel.memory.host_index(pfn << 12)
            used = min(PAGE_SIZE, inode.size - index * PAGE_SIZE)
            inode.write_block(index, bytes(kernel.memory.bytes[start : start + used]))
        kernel.put_page(pfn)
        if left:
            break
    if count and not done:
        raise KernelError(EFAULT)
    if position is None:
        file.position = at + done
    return done


def sys_read(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, *_: int) -> int:
    return _read(kernel, task, task.files.get_readable(fd), buffer, min(count, MAXIMUM_COUNT), None)


def sys_write(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, *_: int) -> int:
    return _write(kernel, task, task.files.get_writable(fd), buffer, min(count, MAXIMUM_COUNT), None)


def sys_pread64(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    return _read(kernel, task, task.files.get_readable(fd), buffer, min(count, MAXIMUM_COUNT), high << 32 | low)


def sys_pwrite64(kernel: Kernel, task: Task, fd: int, buffer: int, count: int, low: int, high: int, *_: int) -> int:
    if high >> 31:
        raise KernelError(EINVAL)
    return _write(kernel, task, task.files.get_writable(fd), buffer, min(count, MAXIMUM_COUNT), high << 32 | low)


def _vector(kernel: Kernel, task: Task, vector: int, count: int) -> list[tuple[int, int]]:
    if count > UIO_MAXIOV:
        raise KernelError(EINVAL)
    return unpack_iovec(get_user(kernel, task, vector, 8 * count)) if count else []


def _each(kernel: Kernel, task: Task, transfer: Transfer, file: File, vector: int, count: int) -> int:
    """Transfer the pieces in turn until one is short; an error counts only before the first byte."""
    done = 0
    for base, length in _vector(kernel, task, vector, count):
        try:
            moved = transfer(kernel, task, file, base, length, None) if length else 0
        except KernelError:
            if done:
                break
            raise
        done += moved
        if moved < length:
            break
    return done


def sys_readv(kernel: Kernel, task: Task, fd: int, vector: int, count: int, *_: int) -> int:
    return _each(kernel, task, _read, task.files.get_readable(fd), vector, count)


def sys_writev(kernel: Kernel, task: Task, fd: int, vector: int, count: int, *_: int) -> int:
    return _each(kernel, task, _write, task.files.get_writable(fd), vector, count)


def sys_lseek(kernel: Kernel, task: Task, fd: int, offset: int, whence: int, *_: int) -> int:
    return task.files.get(fd).seek(signed(offset), whence)


def sys__llseek(kernel: Kernel, task: Task, fd: int, high: int, low: int, result: int, whence: int, *_: int) -> int:
    offset = high << 32 | low
    position = task.files.get(fd).seek(offset - (1 << 64) if offset >> 63 else offset, whence)
    put_user(kernel, task, result, position.to_bytes(8, "little"))
    return 0
