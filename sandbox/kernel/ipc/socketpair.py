"""One end of socketpair(2): two pipes, one for each direction."""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.abi.flags import O_NONBLOCK, POLLHUP, POLLIN, POLLOUT, S_IFSOCK
from sandbox.kernel.abi.poll import POLLRDHUP, POLLRDNORM, POLLWRNORM
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.fs.pipe import Pipe
from sandbox.kernel.ipc.stream import Stream
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID
from sandbox.kernel.vfs.operations import Pieces, Ready

SOCKET_DEVICE = makedev(0, 8)
SOCKET_UNIT = 36544
"""Bytes of a stream that go into one sk_buff, all or none: SKB_MAX_HEAD(0) + UNIX_SKB_FRAGS_SZ (net/unix/af_unix.c)."""


class PipeCopies(Protocol):
    """Who moves bytes between pipes and user memory; ``pipe_io`` does."""

    def pipe_to_user(self, task: Task, pipe: Pipe, nonblock: bool, address: int, count: int) -> int: ...

    def pipe_from_user(
        self, task: Task, pipe: Pipe, nonblock: bool, address: int, count: int, *, quiet: bool = False
    ) -> int: ...

    def pipe_from_page(self, task: Task, pipe: Pipe, nonblock: bool, pfn: int, offset: int, size: int) -> int: ...

    def pipe_to_vector(self, task: Task, pipe: Pipe, nonblock: bool, pieces: Pieces) -> int: ...

    def pipe_from_vector(
        self, task: Task, pipe: Pipe, nonblock: bool, pieces: Pieces, *, quiet: bool = False
    ) -> int: ...


class SocketEnd(Stream):
    """A connected stream socket without a name; each end is shut down by closing its halves of the pipes."""

    kind = S_IFSOCK

    def __init__(self, ino: int, incoming: Pipe, outgoing: Pipe, copies: PipeCopies) -> None:
        self._copies = copies
        self.ino = ino
        self.name = f"socket:[{ino}]"
        self.incoming, self.outgoing = incoming, outgoing
        self.receives = self.sends = True
        incoming.open_end(False)
        outgoing.open_end(True)

    def stat(self) -> Stat:
        return Stat(dev=SOCKET_DEVICE, ino=self.ino, mode=S_IFSOCK | 0o777, uid=GUEST_UID, gid=GUEST_GID)

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.receive(task, address, count, bool(file.flags & O_NONBLOCK))

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.send(task, address, count, bool(file.flags & O_NONBLOCK))

    def sendpage(self, file: File, task: Task, at: int | None, pfn: int, offset: int, size: int) -> int:
        return self._copies.pipe_from_page(task, self.outgoing, bool(file.flags & O_NONBLOCK), pfn, offset, size)

    def readv(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        if not self.receives:
            return 0
        return self._copies.pipe_to_vector(task, self.incoming, bool(file.flags & O_NONBLOCK), pieces)

    def writev(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        return self._copies.pipe_from_vector(task, self.outgoing, bool(file.flags & O_NONBLOCK), pieces)

    def available(self, file: File) -> int:
        return self.incoming.available

    def receive(self, task: Task, address: int, count: int, nonblock: bool) -> int:
        """Bytes into user memory; 0 when the other end sends no more."""
        return self._copies.pipe_to_user(task, self.incoming, nonblock, address, count) if self.receives else 0

    def send(self, task: Task, address: int, count: int, nonblock: bool, quiet: bool = False) -> int:
        """Bytes from user memory; EPIPE, and SIGPIPE unless ``quiet``, when the other end receives no more."""
        return self._copies.pipe_from_user(task, self.outgoing, nonblock, address, count, quiet=quiet)

    def shutdown(self, receiving: bool, sending: bool) -> None:
        """End one direction or both."""
        if receiving and self.receives:
            self.receives = False
            self.incoming.close_end(False)
        if sending and self.sends:
            self.sends = False
            self.outgoing.close_end(True)

    def released(self, file: File) -> None:
        self.shutdown(True, True)

    def poll(self, file: File, task: Task) -> Ready:
        ended = not self.receives or not self.incoming.writers
        mask = POLLIN | POLLRDNORM if self.incoming.slots or ended else 0
        if ended:
            mask |= POLLRDHUP | (POLLHUP if not self.sends or not self.outgoing.readers else 0)
        if self.outgoing.poll(True) & POLLOUT:
            mask |= POLLOUT | POLLWRNORM
        return Ready(mask, (self.incoming.readable, self.outgoing.writable))
