"""What can be done with an open file, whatever is behind it: the field's ``file_operations``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from sandbox.kernel.abi.errno import EINVAL, ENOTTY, KernelError
from sandbox.kernel.abi.flags import POLLIN, POLLOUT
from sandbox.kernel.abi.poll import POLLRDNORM, POLLWRNORM
from sandbox.kernel.base.wait import WaitQueue
from sandbox.records import dataclass

OpenFile: TypeAlias = Any
"""``vfs.file.File``, which knows inodes, which know operations."""
Caller: TypeAlias = Any
"""The task that calls; what is asked of it depends on what is behind the file."""
Pieces: TypeAlias = Sequence[tuple[int, int]]
"""What a vector names: (linear address, bytes), none of them empty."""
ALWAYS = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM


@dataclass(slots=True, frozen=True)
class Ready:
    """What poll(2) learns: POLL* bits, and the queues that are woken when they change."""

    mask: int
    queues: tuple[WaitQueue, ...] = ()


def normal(mask: int) -> int:
    """Add the bits of normal data, which every file sets beside POLLIN and POLLOUT."""
    return mask | (POLLRDNORM if mask & POLLIN else 0) | (POLLWRNORM if mask & POLLOUT else 0)


def parts(pieces: Pieces, done: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the ``size`` bytes of a vector lie that come after the first ``done``: (linear address, bytes)."""
    for base, length in pieces:
        if done < length and size:
            part = min(length - done, size)
            yield base + done, part
            size -= part
        done = max(0, done - length)


def one_by_one(transfer: Callable[[int, int, int], int], pieces: Pieces) -> int:
    """``transfer(address, bytes, done)`` for each piece until one is short; an error counts only before the first byte.

    As do_loop_readv_writev of Linux.
    """
    done = 0
    for base, length in pieces:
        try:
            moved = transfer(base, length, done)
        except KernelError:
            if done:
                break
            raise
        done += moved
        if moved < length:
            break
    return done


class FileOperations:
    """Refuses everything; what kinds of files do is in subclasses.

    Addresses are linear and the program's, sizes in bytes; ``position`` is None for the file's own.
    """

    def read(self, file: OpenFile, task: Caller, address: int, count: int, position: int | None = None) -> int:
        """read(2), or pread(2) at a position, into user memory; the bytes moved.  Raises KernelError."""
        raise KernelError(EINVAL)

    def write(self, file: OpenFile, task: Caller, address: int, count: int, position: int | None = None) -> int:
        """write(2), or pwrite(2) at a position, from user memory; the bytes moved.  Raises KernelError."""
        raise KernelError(EINVAL)

    def sendpage(self, file: OpenFile, task: Caller, at: int | None, pfn: int, offset: int, size: int) -> int:
        """Part of a frame into the file, at a position or its own; the bytes moved.  Raises KernelError."""
        raise KernelError(EINVAL)

    def poll(self, file: OpenFile, task: Caller) -> Ready:
        """What would not wait now."""
        return Ready(ALWAYS)

    def can_poll(self, file: OpenFile) -> bool:
        """It has a poll of its own: epoll_ctl(2) takes no other."""
        return type(self).poll is not FileOperations.poll

    def ioctl(self, file: OpenFile, task: Caller, request: int, argument: int) -> int:
        """A request of the device's own.  Raises KernelError(ENOTTY) for one that it does not know."""
        raise KernelError(ENOTTY)

    def available(self, file: OpenFile) -> int:
        """Bytes that can be read without waiting (FIONREAD).  Raises KernelError(ENOTTY)."""
        raise KernelError(ENOTTY)

    def readv(self, file: OpenFile, task: Caller, pieces: Pieces, position: int | None = None) -> int:
        """readv(2), or preadv(2); who can takes all pieces in one go.  Raises KernelError."""

        def transfer(address: int, count: int, done: int) -> int:
            return self.read(file, task, address, count, None if position is None else position + done)

        return one_by_one(transfer, pieces)

    def writev(self, file: OpenFile, task: Caller, pieces: Pieces, position: int | None = None) -> int:
        """writev(2), or pwritev(2); who can takes all pieces in one go.  Raises KernelError."""

        def transfer(address: int, count: int, done: int) -> int:
            return self.write(file, task, address, count, None if position is None else position + done)

        return one_by_one(transfer, pieces)


NO_OPERATIONS = FileOperations()
