"""Inodes that programs read and write without a position, and on which they may have to wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.vfs.inode import Inode

if TYPE_CHECKING:
    from sandbox.kernel.fs.pipe import WaitQueue
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task
    from sandbox.kernel.vfs.file import File


@dataclass(slots=True, frozen=True)
class Ready:
    """What poll(2) learns: POLL* bits, and the queues that are woken when they change."""

    mask: int
    queues: tuple[WaitQueue, ...] = ()


class Stream(Inode):
    """Base of terminals, event counters, sockets: they move their own bytes and can be polled."""

    def read_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        """read(2) into user memory, sleeping for the first byte unless O_NONBLOCK is set.  Raises KernelError."""
        raise KernelError(EINVAL)

    def write_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        """write(2) from user memory.  Raises KernelError."""
        raise KernelError(EINVAL)

    def poll_file(self, kernel: Kernel, task: Task, file: File) -> Ready:
        """What would not wait now, for one open file."""
        return Ready(0)
