"""Pipes on the CPU: ``copy_user`` moves the bytes, the scheduler lets readers and writers wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EINTR, KernelError
from sandbox.kernel.fs.file import File
from sandbox.kernel.fs.pipe import Pipe, PipeInode, Sleep, WaitQueue, make_pipe
from sandbox.kernel.signal import SIGPIPE, send_signal
from sandbox.kernel.task import Task
from sandbox.kernel.usercopy import copy_frame_from_user, copy_frame_to_user

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

FIRST_PIPE_INO = 1000


def new_pipe(kernel: Kernel, flags: int) -> tuple[File, File]:
    """The two ends of pipe(2); its pages may be in highmem."""

    def wake(queue: WaitQueue) -> None:
        sleepers, queue.tasks = queue.tasks, []
        for task in sleepers:
            kernel.sched.wake(task)

    kernel.pipes += 1
    pipe = Pipe(lambda: kernel.alloc_frame(highmem=True), kernel.put_page, wake)
    return make_pipe(FIRST_PIPE_INO + kernel.pipes, pipe, flags)


def read_pipe(kernel: Kernel, task: Task, inode: PipeInode, nonblock: bool, address: int, count: int) -> int:
    """read(2) from a pipe."""
    if kernel.leaves_out("no-pipe-block") and not inode.pipe.slots:
        return 0

    def move(frame: int, offset: int, length: int, done: int) -> int:
        return copy_frame_to_user(kernel, task, address + done, frame, offset, length)

    return inode.pipe.read(count, move, _sleeper(kernel, task), nonblock)


def write_pipe(kernel: Kernel, task: Task, inode: PipeInode, nonblock: bool, address: int, count: int) -> int:
    """write(2) to a pipe; without readers the writer gets SIGPIPE."""

    def move(frame: int, offset: int, length: int, done: int) -> int:
        return copy_frame_from_user(kernel, task, address + done, frame, offset, length)

    try:
        return inode.pipe.write(count, move, _sleeper(kernel, task), nonblock)
    finally:
        if not inode.pipe.readers and not kernel.leaves_out("no-sigpipe"):
            send_signal(kernel, task, SIGPIPE)


def _sleeper(kernel: Kernel, task: Task) -> Sleep:
    def sleep(queue: WaitQueue) -> None:
        queue.tasks.append(task)
        kernel.sched.sleep(task, queue.what)
        if task in queue.tasks:
            queue.tasks.remove(task)
        if task.pending:
            raise KernelError(EINTR)

    return sleep
