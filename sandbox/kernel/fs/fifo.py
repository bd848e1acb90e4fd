"""FIFOs: a pipe that is found by a name, and open(2), which waits for the other side."""

from __future__ import annotations

from sandbox.kernel.abi.errno import ENXIO, KernelError
from sandbox.kernel.abi.flags import O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY
from sandbox.kernel.abi.structs import Stat
from sandbox.kernel.base.wait import Sleep, WaitQueue, Wake
from sandbox.kernel.fs.pipe import Pipe, PipeInode
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import FileOperations


class Fifo(PipeInode):
    """The pipe behind a FIFO's inode, whose attributes it shows."""

    def __init__(self, node: Inode, pipe: Pipe, f_op: FileOperations, wake: Wake) -> None:
        super().__init__(node.ino, pipe, f_op)
        self.node = node
        self.name = node.name
        self.openers = WaitQueue("the other end of a FIFO")
        self.opens = [0, 0]
        """Times that it was opened for reading and for writing: who waits may come too late to see it open."""
        self._wake = wake

    def stat(self) -> Stat:
        return self.node.stat()

    def chmod(self, mode: int) -> None:
        self.node.chmod(mode)

    def chown(self, uid: int | None, gid: int | None) -> None:
        self.node.chown(uid, gid)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        self.node.set_times(atime, mtime)

    def opened(self, file: File) -> None:
        for writing in _ends(file.flags):
            self.pipe.open_end(writing)
            self.opens[writing] += 1
        self._wake(self.openers)

    def released(self, file: File) -> None:
        for writing in _ends(file.flags):
            self.pipe.close_end(writing)

    def open(self, dentry: Dentry, flags: int, sleep: Sleep) -> File:
        """Open one end, waiting until the other is open too; or both ends, which never waits.

        Raises KernelError: ENXIO (O_WRONLY and O_NONBLOCK without a reader), and what ``sleep`` raises.
        """
        pipe = self.pipe
        writing = flags & O_ACCMODE == O_WRONLY
        if writing and flags & O_NONBLOCK and not pipe.readers:
            raise KernelError(ENXIO)
        seen = self.opens[not writing]
        file = File(self, flags, dentry)
        if flags & O_ACCMODE != O_RDWR and not flags & O_NONBLOCK:
            try:
                while not (pipe.readers if writing else pipe.writers) and self.opens[not writing] == seen:
                    sleep(self.openers)
            except BaseException:
                self.released(file)
                raise
        return file


def _ends(flags: int) -> tuple[bool, ...]:
    return {O_RDONLY: (False,), O_WRONLY: (True,), O_RDWR: (False, True)}.get(flags & O_ACCMODE, ())
