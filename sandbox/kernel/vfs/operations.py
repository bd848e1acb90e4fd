"""What can be done with an open file, whatever is behind it: the field's ``file_operations``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from sandbox.kernel.abi.errno import EINVAL, ENOTTY, KernelError
from sandbox.kernel.abi.flags import POLLIN, POLLOUT
from sandbox.kernel.abi.poll import POLLRDNORM, POLLWRNORM
from sandbox.kernel.base.wait import WaitQueue

OpenFile: TypeAlias = Any
"""``vfs.file.File``, which knows inodes, which know operations."""
Caller: TypeAlias = Any
"""The task that calls; what is asked of it depends on what is behind the file."""
ALWAYS = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM


@dataclass(slots=True, frozen=True)
class Ready:
    """What poll(2) learns: POLL* bits, and the queues that are woken when they change."""

    mask: int
    queues: tuple[WaitQueue, ...] = ()


def normal(mask: int) -> int:
    """Add the bits of normal data, which every file sets beside POLLIN and POLLOUT."""
    return mask | (POLLRDNORM if mask & POLLIN else 0) | (POLLWRNORM if mask & POLLOUT else 0)


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

    def ioctl(self, file: OpenFile, task: Caller, request: int, argument: int) -> int:
        """A request of the device's own.  Raises KernelError(ENOTTY) for one that it does not know."""
        raise KernelError(ENOTTY)

    def available(self, file: OpenFile) -> int:
        """Bytes that can be read without waiting (FIONREAD).  Raises KernelError(ENOTTY)."""
        raise KernelError(ENOTTY)

    def goes_on(self, file: OpenFile) -> bool:
        """readv(2) tries its next piece when one was filled: it would not wait."""
        return True


NO_OPERATIONS = FileOperations()
