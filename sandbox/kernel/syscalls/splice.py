"""splice, tee and vmsplice: pages between pipes and files without the program's memory."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EBADF, EFAULT, EINVAL, ESPIPE, KernelError
from sandbox.kernel.abi.flags import O_APPEND, O_NONBLOCK, S_IFREG
from sandbox.kernel.abi.inotify import IN_ACCESS, IN_MODIFY
from sandbox.kernel.abi.socket import SOCK_STREAM
from sandbox.kernel.abi.structs import unpack_iovec
from sandbox.kernel.fs.pipe import Pipe, PipeInode
from sandbox.kernel.ipc.af_unix import UnixSocket
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.io import MAXIMUM_COUNT, UIO_MAXIOV, meet_limit, operations, send_pages
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import MAXIMUM_POSITION, File
from sandbox.kernel.vfs.notify import fsnotify_file
from sandbox.kernel.vfs.operations import one_by_one
from sandbox.x86.paging import PAGE_SIZE

SPLICE_F_NONBLOCK = 2
SPLICE_F_ALL = 0xF


def _pipe_of(file: File) -> Pipe | None:
    return file.inode.pipe if isinstance(file.inode, PipeInode) else None


def _both(task: Task, in_fd: int, out_fd: int) -> tuple[File, File]:
    source, out = task.files.get(in_fd), task.files.get(out_fd)
    if not source.readable or not out.writable:
        raise KernelError(EBADF)
    return source, out


def _waits_not(flags: int, *files: File) -> bool:
    return bool(flags & SPLICE_F_NONBLOCK) or any(file.flags & O_NONBLOCK for file in files)


def sys_splice(
    kernel: Kernel, task: Task, in_fd: int, in_offset: int, out_fd: int, out_offset: int, count: int, flags: int
) -> int:
    if not count:
        return 0
    refuse_other(flags, SPLICE_F_ALL)
    source, out = _both(task, in_fd, out_fd)
    taken, given = _pipe_of(source), _pipe_of(out)
    if (taken is not None and in_offset) or (given is not None and out_offset):
        raise KernelError(ESPIPE)
    count = min(count, MAXIMUM_COUNT)
    if taken is not None and given is not None:
        if taken is given:
            raise KernelError(EINVAL)
        return kernel.pipes.hand_on(task, taken, given, count, _waits_not(flags, source, out), keep=False)
    if taken is not None:
        return _to_file(kernel, task, taken, out, out_offset, count, _waits_not(flags, source))
    if given is not None:
        return _from_file(kernel, task, source, in_offset, given, count, _waits_not(flags, out))
    raise KernelError(EINVAL)


def _offset(kernel: Kernel, task: Task, file: File, pointer: int) -> int:
    """Where the program wants to begin in a file that has positions."""
    if not pointer:
        return file.position
    if file.inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    return int.from_bytes(kernel.uaccess.get_user(task, pointer, 8), "little", signed=True)


def _to_file(kernel: Kernel, task: Task, pipe: Pipe, out: File, pointer: int, count: int, nonblock: bool) -> int:
    start = _offset(kernel, task, out, pointer)
    if start < 0 or out.flags & O_APPEND:
        raise KernelError(EINVAL)
    sendpage = operations(kernel, out).sendpage

    def put(frame: int, offset: int, length: int, done: int) -> int:
        return sendpage(out, task, start + done if pointer else None, frame, offset, length)

    done = kernel.pipes.drain(task, pipe, count, put, nonblock)
    if done > 0:
        fsnotify_file(out, IN_MODIFY)
    if 0 < done < count and pipe.slots:
        meet_limit(kernel, task, out, start + done if pointer else out.position)
    if pointer:
        kernel.uaccess.put_user(task, pointer, (start + done).to_bytes(8, "little"))
    return done


def _from_file(kernel: Kernel, task: Task, source: File, pointer: int, pipe: Pipe, count: int, nonblock: bool) -> int:
    start = _offset(kernel, task, source, pointer)
    if isinstance(source.inode, UnixSocket):
        return _from_socket(kernel, task, source, source.inode, pipe, count, nonblock)
    if start < 0 or start + count > MAXIMUM_POSITION:
        raise KernelError(EINVAL)
    kernel.pipes.wait_for_room(task, pipe, nonblock)

    def put(done: int, pfn: int, offset: int, size: int) -> int:
        return kernel.pipes.pipe_from_page(task, pipe, True, pfn, offset, size)

    room = (pipe.slot_limit - len(pipe.slots)) * PAGE_SIZE
    done = send_pages(kernel, task, source, start, min(count, room), put)
    if done > 0:
        fsnotify_file(source, IN_ACCESS)
    if pointer:
        kernel.uaccess.put_user(task, pointer, (start + done).to_bytes(8, "little"))
    else:
        source.position = start + done
    return done


def _from_socket(
    kernel: Kernel, task: Task, source: File, sock: UnixSocket, pipe: Pipe, count: int, nonblock: bool
) -> int:
    """What a socket has and the pipe has room for; only the first message is waited for.

    SPLICE_F_NONBLOCK is about streams: for others only O_NONBLOCK counts, as in Linux (copy_splice_read).
    """
    kernel.pipes.wait_for_room(task, pipe, nonblock)
    stream = sock.type == SOCK_STREAM
    nonblock, done = (nonblock and stream) or bool(source.flags & O_NONBLOCK), 0

    def move(frame: int, offset: int, length: int, _: int) -> int:
        return length - kernel.pipes.pipe_from_page(task, pipe, True, frame, offset, length)

    while done < count and (pages := pipe.slot_limit - len(pipe.slots)) > 0:
        try:
            moved = kernel.sockets.splice(sock, task, move, pages, count - done, nonblock or done > 0)
        except KernelError:
            if done:
                break
            raise
        done += moved
        if not moved or not stream:
            break
    return done


def sys_tee(kernel: Kernel, task: Task, in_fd: int, out_fd: int, count: int, flags: int, *_: int) -> int:
    refuse_other(flags, SPLICE_F_ALL)
    if not count:
        return 0
    source, out = _both(task, in_fd, out_fd)
    taken, given = _pipe_of(source), _pipe_of(out)
    if taken is None or given is None or taken is given:
        raise KernelError(EINVAL)
    count = min(count, MAXIMUM_COUNT)
    return kernel.pipes.hand_on(task, taken, given, count, _waits_not(flags, source, out), keep=True)


def sys_vmsplice(kernel: Kernel, task: Task, fd: int, vector: int, count: int, flags: int, *_: int) -> int:
    """The program's bytes are copied, also into the pipe, where Linux shares the pages."""
    refuse_other(flags, SPLICE_F_ALL)
    file = task.files.get(fd)
    pipe = _pipe_of(file)
    if not file.writable and not file.readable:
        raise KernelError(EBADF)
    if count > UIO_MAXIOV:
        raise KernelError(EINVAL)
    pieces = unpack_iovec(kernel.uaccess.get_user(task, vector, 8 * count)) if count else []
    if not all(kernel.uaccess.access_ok(base, length) for base, length in pieces):
        raise KernelError(EFAULT)
    if pipe is None:
        raise KernelError(EBADF)
    pieces = [(base, length) for base, length in pieces if length]
    if not pieces:
        return 0
    nonblock = bool(flags & SPLICE_F_NONBLOCK)
    if file.writable:
        kernel.pipes.wait_for_room(task, pipe, nonblock)
    return _gather(kernel, task, pipe, pieces, file.writable, nonblock)


def _gather(
    kernel: Kernel, task: Task, pipe: Pipe, pieces: list[tuple[int, int]], writing: bool, nonblock: bool
) -> int:
    """The pieces in turn; only the first read may wait, and an error counts only before the first byte."""

    def transfer(base: int, length: int, done: int) -> int:
        if writing:
            return kernel.pipes.pipe_from_user(task, pipe, True, base, length)
        return kernel.pipes.pipe_to_user(task, pipe, nonblock or done > 0, base, length)

    return one_by_one(transfer, pieces)
