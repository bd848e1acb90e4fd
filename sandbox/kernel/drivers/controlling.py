"""/dev/tty: whatever terminal a session has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import ENXIO, KernelError
from sandbox.kernel.abi.flags import O_PATH, S_IFCHR
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.ipc.stream import Stream

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.vfs.file import File


class ControllingTty(Stream):
    """/dev/tty: opening it opens the terminal of the task's session."""

    kind = S_IFCHR

    def __init__(self, kernel: Kernel) -> None:
        self.ino = 12
        self.rdev = makedev(5, 0)
        self.name = "/dev/tty"
        self._kernel = kernel

    def stat(self) -> Stat:
        return Stat(dev=makedev(0, 5), ino=self.ino, mode=S_IFCHR | 0o666, rdev=self.rdev)

    def opened(self, file: File) -> None:
        if file.flags & O_PATH:
            return
        kernel = self._kernel
        task, tty = kernel.this_cpu.current, kernel.tty
        if task is None or tty is None or tty.session != task.sid:
            raise KernelError(ENXIO)
        file.inode = tty

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect."""
