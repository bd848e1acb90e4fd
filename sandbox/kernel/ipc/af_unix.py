"""One socket of the local family: its state, and what its open files do (net/unix/af_unix.c of Linux)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sandbox.kernel.abi.errno import EINVAL, ENOTTY, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLOUT, S_IFSOCK
from sandbox.kernel.abi.poll import POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM
from sandbox.kernel.abi.socket import (
    MSG_DONTWAIT,
    MSG_PEEK,
    NOBODY,
    SIOCOUTQ,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    UCred,
)
from sandbox.kernel.abi.structs import Stat
from sandbox.kernel.base.wait import Sleep, WaitQueue, Wake
from sandbox.kernel.fs.namespace import SOCKET_DEVICE
from sandbox.kernel.fs.pipe import Move
from sandbox.kernel.ipc.skb import SkBuff
from sandbox.kernel.ipc.stream import Stream
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import Pieces, Ready
from sandbox.records import dataclass, field

ESTABLISHED, CLOSE, LISTEN = 1, 7, 10
"""States, with TCP's numbers."""
RCV_SHUTDOWN, SEND_SHUTDOWN, SHUTDOWN_MASK = 1, 2, 3
DEFAULT_BUFFER = 212992
"""Bytes of net.core.wmem_default and rmem_default."""
MAX_DGRAM_QLEN = 10
"""net.unix.max_dgram_qlen: more messages than that wait for nobody."""


@dataclass(slots=True)
class Outgoing:
    """What is sent: ``size`` bytes that ``move`` brings, and what goes beside them.  ``flags`` are MSG_*."""

    size: int
    move: Move
    flags: int = 0
    to: Callable[[], UnixSocket] | None = None
    """Finds where a message goes that has an address of its own."""
    files: tuple[File, ...] = ()
    creds: UCred | None = None


@dataclass(slots=True)
class Incoming:
    """What is asked for, up to ``size`` bytes that ``move`` takes, and then what came."""

    size: int
    move: Move
    flags: int = 0
    single: bool = False
    """One message of a stream at most."""
    truncated: bool = False
    name: bytes | None = None
    """The sender's."""
    named: bool = False
    """A sender is known, even if it has no name."""
    creds: UCred | None = None
    files: list[File] = field(default_factory=list)
    """Held for who receives."""

    @property
    def peeks(self) -> bool:
        return bool(self.flags & MSG_PEEK)


class Transport(Protocol):
    """How sockets move bytes, and how they end; ``ipc.sockets`` has it."""

    def send(self, sock: UnixSocket, task: Task, message: Outgoing, nonblock: bool) -> int: ...

    def receive(self, sock: UnixSocket, task: Task, wanted: Incoming, nonblock: bool) -> int: ...

    def release(self, sock: UnixSocket) -> None: ...

    def collect(self) -> None: ...

    def drop(self, files: list[File]) -> None: ...

    def to_pieces(self, task: Task, pieces: Pieces) -> Move: ...

    def from_pieces(self, task: Task, pieces: Pieces) -> Move: ...

    def from_page(self, task: Task, pfn: int, offset: int) -> Move: ...

    def put_int(self, task: Task, address: int, value: int) -> None: ...


class UnixSocket(Stream):
    """A socket of any of the three types, and the inode behind its descriptors."""

    kind = S_IFSOCK

    def __init__(self, ino: int, type_: int, transport: Transport, wake: Wake, uid: int = 0, gid: int = 0) -> None:
        self.ino = ino
        self.name = f"socket:[{ino}]"
        self.type = type_
        self._transport, self._wake = transport, wake
        self._mode, self._uid, self._gid = 0o777, uid, gid
        self.state = CLOSE
        self.address: bytes | None = None
        """``sun_path`` of its name as far as it counts: a path with its NUL, or NUL and an abstract name."""
        self.node: Inode | None = None
        """The file that it is bound to."""
        self.peer: UnixSocket | None = None
        self.queue: deque[SkBuff] = deque()
        self.backlog: deque[UnixSocket] = deque()
        """Connections that nobody has accepted."""
        self.listener: UnixSocket | None = None
        """Of such a connection, where it waits."""
        self.max_backlog = MAX_DGRAM_QLEN
        self.shutdown = self.error = 0
        self.dead = False
        self.charged = 0
        """Bytes of memory that what it sent takes."""
        self.peercred = NOBODY
        self.passcred = False
        self.sndbuf = self.rcvbuf = DEFAULT_BUFFER
        self.sndtimeo: int | None = None
        self.rcvtimeo: int | None = None
        """Nanoseconds that a call waits, None for ever."""
        self.rcvlowat = 1
        self.peek_off = -1
        """Bytes of the queue that MSG_PEEK leaves out (SO_PEEK_OFF); negative: none, and they are not counted."""
        self.linger = 0, 0
        self.options: dict[int, int] = {}
        """SO_* that are kept and shown only."""
        self.readable = WaitQueue("data in a socket")
        self.writable = WaitQueue("room in a socket")
        self.peer_wait = WaitQueue("room in another's socket")
        """Who wants to connect or send here."""
        self._unlocked = WaitQueue("a socket")
        self._locked = False

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def connection_based(self) -> bool:
        return self.type in (SOCK_STREAM, SOCK_SEQPACKET)

    @property
    def unread(self) -> bool:
        """Something waits in its queue besides an empty message at the head, which Linux takes for a used mark."""
        return len(self.queue) > (1 if self.queue and not self.queue[0].left else 0)

    @property
    def full(self) -> bool:
        """Nothing more fits into its queue (unix_recvq_full)."""
        return (len(self.backlog) if self.state == LISTEN else len(self.queue)) > self.max_backlog

    @property
    def roomy(self) -> bool:
        """It counts as writable: three quarters of its buffer are free (unix_writable)."""
        return self.state != LISTEN and (self.charged + 1) * 4 <= self.sndbuf

    def take_error(self) -> int:
        """The error that waits, which is thereby reported."""
        error, self.error = self.error, 0
        return error

    def raise_error(self) -> None:
        error = self.take_error()
        if error:
            raise KernelError(error)

    def charge(self, size: int) -> None:
        self.charged += size

    def uncharge(self, size: int) -> None:
        self.charged -= size
        if self.roomy:
            self._wake(self.writable)

    def changed(self) -> None:
        """Whoever waits looks again."""
        self._wake(self.readable)
        self._wake(self.writable)

    @contextmanager
    def lock(self, sleep: Sleep) -> Iterator[None]:
        """One reader of a stream at a time."""
        while self._locked:
            sleep(self._unlocked)
        self._locked = True
        try:
            yield
        finally:
            self._locked = False
            self._wake(self._unlocked)

    # -- the inode -----------------------------------------------------------------------------------------------

    def stat(self) -> Stat:
        return Stat(dev=SOCKET_DEVICE, ino=self.ino, mode=S_IFSOCK | self._mode, uid=self._uid, gid=self._gid)

    def chmod(self, mode: int) -> None:
        """Also what the file will have to which it is bound."""
        self._mode = mode & 0o7777

    def chown(self, uid: int | None, gid: int | None) -> None:
        self._uid = self._uid if uid is None else uid
        self._gid = self._gid if gid is None else gid

    # -- open files ----------------------------------------------------------------------------------------------

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.readv(file, task, ((address, count),)) if count else 0

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.writev(file, task, ((address, count),))

    def readv(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        wanted = Incoming(sum(size for _, size in pieces), self._transport.to_pieces(task, pieces))
        got = self.receive(task, file, wanted)
        self._transport.drop(wanted.files)
        return got

    def writev(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        size = sum(size for _, size in pieces)
        return self.send(task, file, Outgoing(size, self._transport.from_pieces(task, pieces)))

    def sendpage(self, file: File, task: Task, at: int | None, pfn: int, offset: int, size: int) -> int:
        return self.send(task, file, Outgoing(size, self._transport.from_page(task, pfn, offset)))

    def send(self, task: Task, file: File, message: Outgoing) -> int:
        """Bytes sent.  Raises KernelError."""
        nonblock = bool(file.flags & O_NONBLOCK or message.flags & MSG_DONTWAIT)
        return self._transport.send(self, task, message, nonblock)

    def receive(self, task: Task, file: File, wanted: Incoming) -> int:
        """Bytes received; the rest of what came is in ``wanted``.  Raises KernelError."""
        nonblock = bool(file.flags & O_NONBLOCK or wanted.flags & MSG_DONTWAIT)
        return self._transport.receive(self, task, wanted, nonblock)

    def available(self, file: File) -> int:
        if self.state == LISTEN:
            raise KernelError(EINVAL)
        if self.type == SOCK_DGRAM:
            return self.queue[0].left if self.queue else 0
        return sum(skb.left for skb in self.queue)

    def ioctl(self, file: File, task: Task, request: int, argument: int) -> int:
        if request != SIOCOUTQ:
            raise KernelError(ENOTTY)
        self._transport.put_int(task, argument, self.charged)
        return 0

    def released(self, file: File) -> None:
        self._transport.release(self)

    def dropped(self, file: File) -> None:
        self._transport.collect()

    def poll(self, file: File, task: Task) -> Ready:
        mask = POLLERR if self.error else 0
        if self.shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP | POLLIN | POLLRDNORM
        if self.shutdown == SHUTDOWN_MASK or (self.connection_based and self.state == CLOSE):
            mask |= POLLHUP
        if self.queue or self.backlog:
            mask |= POLLIN | POLLRDNORM
        queues = [self.readable, self.writable]
        writable, other = self.roomy, self.peer
        if self.type != SOCK_STREAM and other is not None and other.peer is not self:
            writable = writable and not other.full
            queues.append(other.peer_wait)
        if writable:
            mask |= POLLOUT | POLLWRNORM | POLLWRBAND
        return Ready(mask, tuple(queues))
