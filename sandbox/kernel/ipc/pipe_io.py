"""Pipes on the CPU: ``copy_user`` moves the bytes, the scheduler lets readers and writers wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import ERESTARTSYS, KernelError
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_USER, SIGPIPE
from sandbox.kernel.fs.fifo import Fifo
from sandbox.kernel.fs.pipe import Pipe, PipeInode, Sleep, WaitQueue, make_pipe
from sandbox.kernel.ipc.socketpair import SocketEnd
from sandbox.kernel.mm.uaccess import copy_frame_from_user, copy_frame_to_user
from sandbox.kernel.task.signal import send_signal
from sandbox.kernel.task.task import Task
from sandbox.kernel.task.wait import signal_pending, wait_on, wake_up
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

FIRST_PIPE_INO = 1000


def new_pipe(kernel: Kernel, flags: int) -> tuple[File, File]:
    """The two ends of pipe(2); its pages may be in highmem."""

    pipe = _pipe(kernel)
    return make_pipe(FIRST_PIPE_INO + kernel.pipes, pipe, flags)


def _pipe(kernel: Kernel) -> Pipe:
    kernel.pipes += 1
    return Pipe(lambda: kernel.alloc_frame(highmem=True), kernel.put_page, lambda queue: wake_up(kernel, queue))


def new_fifo(kernel: Kernel, node: Inode) -> Fifo:
    """The pipe behind a FIFO that is opened for the first time."""
    return Fifo(node, _pipe(kernel), lambda queue: wake_up(kernel, queue))


def new_socket_pair(kernel: Kernel) -> tuple[SocketEnd, SocketEnd]:
    """The two ends of socketpair(2)."""
    first, second = _pipe(kernel), _pipe(kernel)
    ino = FIRST_PIPE_INO + kernel.pipes
    return SocketEnd(ino - 1, first, second), SocketEnd(ino, second, first)


def read_pipe(kernel: Kernel, task: Task, inode: PipeInode, nonblock: bool, address: int, count: int) -> int:
    """read(2) from a pipe."""
    if kernel.broken("no-pipe-block") and not inode.pipe.slots:
        return 0
    return pipe_to_user(kernel, task, inode.pipe, nonblock, address, count)


def pipe_to_user(kernel: Kernel, task: Task, pipe: Pipe, nonblock: bool, address: int, count: int) -> int:
    """Bytes of a pipe into user memory."""

    def move(frame: int, offset: int, length: int, done: int) -> int:
        return copy_frame_to_user(kernel, task, address + done, frame, offset, length)

    return pipe.read(count, move, sleeper(kernel, task), nonblock)


def write_pipe(kernel: Kernel, task: Task, inode: PipeInode, nonblock: bool, address: int, count: int) -> int:
    """write(2) to a pipe; without readers the writer gets SIGPIPE."""
    return pipe_from_user(kernel, task, inode.pipe, nonblock, address, count, quiet=kernel.broken("no-sigpipe"))


def pipe_from_user(
    kernel: Kernel, task: Task, pipe: Pipe, nonblock: bool, address: int, count: int, *, quiet: bool = False
) -> int:
    """User memory into a pipe; SIGPIPE for a write without readers, unless ``quiet``."""

    def move(frame: int, offset: int, length: int, done: int) -> int:
        return copy_frame_from_user(kernel, task, address + done, frame, offset, length)

    try:
        return pipe.write(count, move, sleeper(kernel, task), nonblock)
    finally:
        if not pipe.readers and not quiet:
            send_signal(kernel, task, SIGPIPE, SigInfo.sent(SIGPIPE, SI_USER, task.pid))


def sleeper(kernel: Kernel, task: Task) -> Sleep:
    """How a task sleeps on a wait queue in a system call that a signal ends."""

    def sleep(queue: WaitQueue) -> None:
        wait_on(kernel, task, (queue,), queue.what)
        if signal_pending(task):
            raise KernelError(ERESTARTSYS)

    return sleep
