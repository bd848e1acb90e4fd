"""/dev/tty: whatever terminal a session has."""

from __future__ import annotations

from sandbox.kernel.abi.errno import ENXIO, KernelError
from sandbox.kernel.abi.flags import O_PATH, S_IFCHR
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.drivers.jobctl import JobControl
from sandbox.kernel.fs.namespace import DEV_DEVICE
from sandbox.kernel.ipc.stream import Stream
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.vfs.file import File


class ControllingTty(Stream):
    """/dev/tty: opening it opens the terminal of the task's session."""

    kind = S_IFCHR

    def __init__(self, sched: Scheduler, jobctl: JobControl) -> None:
        self.ino = 12
        self.rdev = makedev(5, 0)
        self.name = "/dev/tty"
        self._sched, self._jobctl = sched, jobctl

    def stat(self) -> Stat:
        return self.aged(Stat(dev=DEV_DEVICE, ino=self.ino, mode=S_IFCHR | 0o666, rdev=self.rdev))

    def opened(self, file: File) -> None:
        if file.flags & O_PATH:
            return
        tty = self._jobctl.terminal_of(self._sched.current)
        if tty is None:
            raise KernelError(ENXIO)
        file.inode = tty

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect."""
