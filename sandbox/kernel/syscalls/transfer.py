"""From file to file without the program's memory, and what else concerns files as a whole."""

from __future__ import annotations

from sandbox.kernel.abi.errno import (
    EBADF,
    EFBIG,
    EINVAL,
    EISDIR,
    ENODEV,
    EOPNOTSUPP,
    EOVERFLOW,
    ESPIPE,
    KernelError,
)
from sandbox.kernel.abi.flags import O_APPEND, O_PATH, S_IFDIR, S_IFIFO, S_IFREG
from sandbox.kernel.abi.inotify import IN_ACCESS, IN_MODIFY
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.rlimit import check_size
from sandbox.kernel.syscalls.io import MAXIMUM_COUNT, meet_limit, operations, send_pages
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import MAXIMUM_POSITION, File
from sandbox.kernel.vfs.notify import fsnotify_file

LARGEST_OFFSET = 0x7FFFFFFF
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 0x10
FADV_DONTNEED = 4
LAST_ADVICE = 5
SYNC_FILE_RANGE_FLAGS = 7


def _signed64(high: int, low: int) -> int:
    value = high << 32 | low
    return value - (1 << 64) if value >> 63 else value


# -- copies ----------------------------------------------------------------------------------------------------------


def _copy(kernel: Kernel, task: Task, source: File, at: int, out: File, to: int | None, count: int) -> int:
    """Bytes of a regular file into an open file; an error counts only before the first byte."""
    sendpage = operations(kernel, out).sendpage

    def put(done: int, pfn: int, offset: int, size: int) -> int:
        return sendpage(out, task, None if to is None else to + done, pfn, offset, size)

    done = send_pages(kernel, task, source, at, count, put)
    if done > 0:
        fsnotify_file(source, IN_ACCESS)
        fsnotify_file(out, IN_MODIFY)
    return done


def _sendfile(kernel: Kernel, task: Task, out_fd: int, in_fd: int, pointer: int, count: int, size: int) -> int:
    """sendfile with an offset of ``size`` bytes at ``pointer``, or at the file's own position."""
    source = task.files.get_readable(in_fd)
    at = source.position
    if pointer:
        at = int.from_bytes(kernel.uaccess.get_user(task, pointer, size), "little", signed=True)
    out = task.files.get_writable(out_fd)
    if source.inode.kind == S_IFIFO and pointer:
        raise KernelError(ESPIPE)
    if source.inode.kind == S_IFDIR or at < 0 or count >> 31 or out.flags & O_APPEND:
        raise KernelError(EINVAL)
    largest = LARGEST_OFFSET if pointer and size == 4 else MAXIMUM_POSITION
    if at + count > largest:
        if at >= largest:
            raise KernelError(EOVERFLOW)
        count = largest - at
    count = min(count, MAXIMUM_COUNT)
    if source.inode.kind == S_IFREG and source.inode.mappable:
        count = min(count, max(0, source.inode.size - at))
    done = _copy(kernel, task, source, at, out, None, count)
    if 0 < done < count:
        meet_limit(kernel, task, out, out.position)
    after = at if source.inode.seeks_nowhere else at + done
    if pointer:
        kernel.uaccess.put_user(task, pointer, after.to_bytes(size, "little"))
    else:
        source.position = after
    return done


def sys_sendfile(kernel: Kernel, task: Task, out_fd: int, in_fd: int, offset: int, count: int, *_: int) -> int:
    return _sendfile(kernel, task, out_fd, in_fd, offset, count, 4)


def sys_sendfile64(kernel: Kernel, task: Task, out_fd: int, in_fd: int, offset: int, count: int, *_: int) -> int:
    return _sendfile(kernel, task, out_fd, in_fd, offset, count, 8)


def sys_copy_file_range(
    kernel: Kernel, task: Task, in_fd: int, in_offset: int, out_fd: int, out_offset: int, count: int, flags: int
) -> int:
    source, out = task.files.get(in_fd), task.files.get(out_fd)
    refuse_other(flags, 0)
    for file in (source, out):
        if file.inode.kind != S_IFREG:
            raise KernelError(EISDIR if file.inode.kind == S_IFDIR else EINVAL)
    if not source.readable or not out.writable or out.flags & O_APPEND:
        raise KernelError(EBADF)
    at, to = source.position, out.position
    if in_offset:
        at = int.from_bytes(kernel.uaccess.get_user(task, in_offset, 8), "little", signed=True)
    if out_offset:
        to = int.from_bytes(kernel.uaccess.get_user(task, out_offset, 8), "little", signed=True)
    if at < 0 or to < 0:
        raise KernelError(EINVAL)
    if max(at, to) + count > MAXIMUM_POSITION:
        raise KernelError(EOVERFLOW)
    count = min(count, MAXIMUM_COUNT, max(0, source.inode.size - at))
    if source.inode is out.inode and count and at < to + count and to < at + count:
        raise KernelError(EINVAL)
    done = _copy(kernel, task, source, at, out, to, count)
    if in_offset:
        kernel.uaccess.put_user(task, in_offset, (at + done).to_bytes(8, "little"))
    else:
        source.position = at + done
    if out_offset:
        kernel.uaccess.put_user(task, out_offset, (to + done).to_bytes(8, "little"))
    else:
        out.position = to + done
    return done


# -- storage ---------------------------------------------------------------------------------------------------------


def sys_fsync(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if file.inode.kind not in (S_IFREG, S_IFDIR):
        raise KernelError(EINVAL)
    kernel.writeback.sync_inode(file.inode)
    return 0


sys_fdatasync = sys_fsync


def sys_sync(kernel: Kernel, task: Task, *_: int) -> int:
    return 0


def sys_syncfs(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    if task.files.get(fd).flags & O_PATH:
        raise KernelError(EBADF)
    return 0


def sys_sync_file_range(
    kernel: Kernel, task: Task, fd: int, low: int, high: int, size_low: int, size_high: int, flags: int
) -> int:
    file = task.files.get(fd)
    offset, size = _signed64(high, low), _signed64(size_high, size_low)
    refuse_other(flags, SYNC_FILE_RANGE_FLAGS)
    if offset < 0 or size < 0 or offset + size > MAXIMUM_POSITION:
        raise KernelError(EINVAL)
    if file.inode.kind not in (S_IFREG, S_IFDIR):
        raise KernelError(ESPIPE)
    kernel.writeback.sync_inode(file.inode)
    return 0


def _advise(kernel: Kernel, task: Task, fd: int, offset: int, size: int, advice: int) -> int:
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if file.inode.kind == S_IFIFO:
        raise KernelError(ESPIPE)
    if size < 0 or advice > LAST_ADVICE:
        raise KernelError(EINVAL)
    if advice == FADV_DONTNEED and file.inode.kind == S_IFREG:
        kernel.writeback.drop_range(file.inode, offset, size)
    return 0


def sys_fadvise64(kernel: Kernel, task: Task, fd: int, low: int, high: int, size: int, advice: int, *_: int) -> int:
    return _advise(kernel, task, fd, high << 32 | low, size, advice)


def sys_fadvise64_64(
    kernel: Kernel, task: Task, fd: int, low: int, high: int, size_low: int, size_high: int, advice: int
) -> int:
    return _advise(kernel, task, fd, high << 32 | low, _signed64(size_high, size_low), advice)


def sys_readahead(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    if task.files.get_readable(fd).inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    return 0


def sys_fallocate(
    kernel: Kernel, task: Task, fd: int, mode: int, low: int, high: int, size_low: int, size_high: int
) -> int:
    file = task.files.get(fd)
    offset, size = _signed64(high, low), _signed64(size_high, size_low)
    if offset < 0 or size <= 0:
        raise KernelError(EINVAL)
    if mode not in (0, 1, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE, FALLOC_ZERO_RANGE | 1):
        raise KernelError(EOPNOTSUPP)
    if not file.writable:
        raise KernelError(EBADF)
    inode = file.inode
    if inode.kind != S_IFREG:
        raise KernelError(ESPIPE if inode.kind == S_IFIFO else EISDIR if inode.kind == S_IFDIR else ENODEV)
    if offset + size > MAXIMUM_POSITION:
        raise KernelError(EFBIG)
    if not mode & FALLOC_KEEP_SIZE:
        check_size(task.limits, inode.size, offset + size)
        inode.extend(offset + size)
    if mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
        kernel.generic_file.zero_range(task, inode, offset, min(offset + size, inode.size))
    fsnotify_file(file, IN_MODIFY)
    return 0
