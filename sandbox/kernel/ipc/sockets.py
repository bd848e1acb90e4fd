"""The local family of sockets: making, naming, connecting and closing them (net/unix/af_unix.c of Linux)."""

from __future__ import annotations

from weakref import WeakSet

from sandbox.kernel.abi.errno import (
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EINVAL,
    EISCONN,
    EOPNOTSUPP,
    EPERM,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
    KernelError,
)
from sandbox.kernel.abi.socket import (
    AF_UNIX,
    AF_UNSPEC,
    FAMILY_BYTES,
    SHUT_RDWR,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOMAXCONN,
    UCred,
)
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.time import Clock
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.fs.pipe import Move
from sandbox.kernel.ipc.af_unix import CLOSE as CLOSED
from sandbox.kernel.ipc.af_unix import (
    ESTABLISHED,
    LISTEN,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    Incoming,
    Outgoing,
    UnixSocket,
)
from sandbox.kernel.ipc.scm import InFlight
from sandbox.kernel.ipc.skb import Buffers
from sandbox.kernel.ipc.unix_io import UnixIo
from sandbox.kernel.ipc.unix_names import Names, family_of, parse_address
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import Pieces
from sandbox.x86.paging import PAGE_SIZE

FIRST_SOCKET_INO = 5000


class Sockets:
    """All sockets of a machine."""

    def __init__(
        self,
        files: FileSystem,
        page_alloc: PageAllocator,
        uaccess: UserAccess,
        sched: Scheduler,
        signals: Signals,
        clock: Clock,
        broken: Breakage,
    ) -> None:
        self._uaccess, self._sched = uaccess, sched
        self._flight = InFlight()
        self._io = UnixIo(Buffers(page_alloc), self._flight, sched, signals, clock)
        self._names = Names(files)
        self._made = 0
        self.all: WeakSet[UnixSocket] = WeakSet()
        self.loses_files = broken("no-scm-rights")

    # -- making --------------------------------------------------------------------------------------------------

    def create(self, task: Task, type_: int, protocol: int) -> UnixSocket:
        """socket(2).  Raises KernelError(EPROTONOSUPPORT, ESOCKTNOSUPPORT)."""
        if protocol not in (0, AF_UNIX):
            raise KernelError(EPROTONOSUPPORT)
        if type_ not in (SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET):
            raise KernelError(ESOCKTNOSUPPORT)
        return self._new(SOCK_DGRAM if type_ == SOCK_RAW else type_, task)

    def _new(self, type_: int, task: Task) -> UnixSocket:
        self._made += 1
        ids = task.cred.uid.fs, task.cred.gid.fs
        sock = UnixSocket(FIRST_SOCKET_INO + self._made, type_, self, self._sched.wake_up, *ids)
        self.all.add(sock)
        return sock

    def pair(self, task: Task, type_: int, protocol: int) -> tuple[UnixSocket, UnixSocket]:
        """socketpair(2)."""
        first, second = self.create(task, type_, protocol), self.create(task, type_, protocol)
        first.peer, second.peer = second, first
        for each in (first, second):
            each.peercred, each.state = _peercred(task), ESTABLISHED
        return first, second

    # -- names ---------------------------------------------------------------------------------------------------

    def bind(self, task: Task, sock: UnixSocket, data: bytes) -> None:
        """bind(2) to a ``struct sockaddr_un``; only the family asks for a name of the kernel's choice."""
        if len(data) == FAMILY_BYTES and family_of(data) == AF_UNIX:
            self._names.autobind(sock)
        else:
            self._names.bind(task, sock, parse_address(data))

    # -- connecting ----------------------------------------------------------------------------------------------

    def connect(self, task: Task, sock: UnixSocket, data: bytes, nonblock: bool) -> None:
        """connect(2).  Raises KernelError."""
        if sock.connection_based:
            self._connect_stream(task, sock, data, nonblock)
        else:
            self._connect_dgram(task, sock, data)

    def _connect_stream(self, task: Task, sock: UnixSocket, data: bytes, nonblock: bool) -> None:
        address = parse_address(data)
        if sock.passcred:
            self._names.autobind(sock)
        until = self._io.end_of(sock.sndtimeo, nonblock)
        while True:
            other = self._names.find(task, address, sock.type)
            if other.state != LISTEN or other.shutdown & RCV_SHUTDOWN:
                raise KernelError(ECONNREFUSED)
            if not other.full:
                break
            self._io.wait(other.peer_wait, until)
        if sock.state != CLOSED:
            raise KernelError(EISCONN if sock.state == ESTABLISHED else EINVAL)
        self._join(task, sock, other)

    def _join(self, task: Task, sock: UnixSocket, listener: UnixSocket) -> None:
        new = self._new(sock.type, task)
        new.address, new.listener = listener.address, listener
        new.peercred, sock.peercred = _peercred(task), listener.peercred
        new.peer, sock.peer = sock, new
        new.state = sock.state = ESTABLISHED
        listener.backlog.append(new)
        self._sched.wake_up(listener.readable)
        sock.changed()

    def _connect_dgram(self, task: Task, sock: UnixSocket, data: bytes) -> None:
        if len(data) < FAMILY_BYTES:
            raise KernelError(EINVAL)
        if family_of(data) == AF_UNSPEC:
            self._io.disconnect(sock)
            return
        address = parse_address(data)
        if sock.passcred:
            self._names.autobind(sock)
        other = self._names.find(task, address, sock.type)
        if other.peer is not None and other.peer is not sock:
            raise KernelError(EPERM)
        if sock.peer is not None and sock.peer is not other:
            self._io.disconnect(sock)
        sock.peer = other
        sock.state = other.state = ESTABLISHED
        sock.changed()

    def listen(self, task: Task, sock: UnixSocket, backlog: int) -> None:
        """listen(2): one connection more than ``backlog`` waits.  Raises KernelError(EINVAL, EOPNOTSUPP)."""
        if not sock.connection_based:
            raise KernelError(EOPNOTSUPP)
        if sock.address is None or sock.state not in (CLOSED, LISTEN):
            raise KernelError(EINVAL)
        sock.max_backlog = min(backlog, SOMAXCONN)
        sock.state, sock.peercred = LISTEN, _peercred(task)
        self._sched.wake_up(sock.peer_wait)

    def accept(self, sock: UnixSocket, nonblock: bool) -> UnixSocket:
        """accept(2).  Raises KernelError: EAGAIN, EINVAL, EOPNOTSUPP."""
        if not sock.connection_based:
            raise KernelError(EOPNOTSUPP)
        if sock.state != LISTEN:
            raise KernelError(EINVAL)
        until = self._io.end_of(sock.rcvtimeo, nonblock)
        while not sock.backlog:
            if sock.shutdown & RCV_SHUTDOWN:
                raise KernelError(EAGAIN if nonblock else EINVAL)
            self._io.wait(sock.readable, until)
        new = sock.backlog.popleft()
        new.listener = None
        self._sched.wake_up(sock.peer_wait)
        return new

    # -- what open files do --------------------------------------------------------------------------------------

    def send(self, sock: UnixSocket, task: Task, message: Outgoing, nonblock: bool) -> int:
        """Bytes sent.  Raises KernelError."""
        if sock.passcred and (sock.type == SOCK_DGRAM or (sock.type == SOCK_SEQPACKET and sock.state == ESTABLISHED)):
            self._names.autobind(sock)
        return self._io.send(sock, task, message, nonblock)

    def send_to(self, sock: UnixSocket, task: Task, message: Outgoing, data: bytes, nonblock: bool) -> int:
        """The same to an address, at which a datagram socket looks."""
        if sock.type == SOCK_DGRAM:
            address = parse_address(data)
            message.to = lambda: self._names.find(task, address, sock.type)
        elif sock.type == SOCK_STREAM:
            message.to = lambda: sock
        return self.send(sock, task, message, nonblock)

    def receive(self, sock: UnixSocket, task: Task, wanted: Incoming, nonblock: bool) -> int:
        """Bytes received.  Raises KernelError."""
        return self._io.receive(sock, wanted, nonblock)

    def splice(self, sock: UnixSocket, task: Task, move: Move, pages: int, size: int, nonblock: bool) -> int:
        """Bytes of one message, up to ``size``, in no more than ``pages`` pieces that ``move`` takes."""
        skipped = sock.queue[0].consumed % PAGE_SIZE if sock.queue else 0
        wanted = Incoming(min(size, pages * PAGE_SIZE - skipped), move, single=True)
        got = self.receive(sock, task, wanted, nonblock)
        self.drop(wanted.files)
        return got

    def drop(self, files: list[File]) -> None:
        """Let go what was received and is not wanted."""
        self._flight.drop(files)

    def to_pieces(self, task: Task, pieces: Pieces) -> Move:
        """Bytes go to the memory that a vector names."""
        return lambda frame, offset, length, done: self._uaccess.copy_frame_to_vector(
            task, pieces, done, frame, offset, length
        )

    def from_pieces(self, task: Task, pieces: Pieces) -> Move:
        """Bytes come from the memory that a vector names."""
        return lambda frame, offset, length, done: self._uaccess.copy_frame_from_vector(
            task, pieces, done, frame, offset, length
        )

    def from_page(self, task: Task, pfn: int, offset: int) -> Move:
        """Bytes come from a frame."""
        return lambda frame, to, length, done: self._uaccess.copy_frame(task, frame, to, pfn, offset + done, length)

    def put_int(self, task: Task, address: int, value: int) -> None:
        """A word for the program.  Raises KernelError(EFAULT)."""
        self._uaccess.put_user(task, address, value.to_bytes(4, "little"))

    # -- ends ----------------------------------------------------------------------------------------------------

    def shut_down(self, sock: UnixSocket, how: int) -> None:
        """shutdown(2); whoever is connected learns it.  Raises KernelError(EINVAL)."""
        if how > SHUT_RDWR:
            raise KernelError(EINVAL)
        mode = how + 1
        sock.shutdown |= mode
        sock.changed()
        if sock.peer is not None and sock.connection_based:
            sock.peer.shutdown |= (RCV_SHUTDOWN if mode & SEND_SHUTDOWN else 0) | (
                SEND_SHUTDOWN if mode & RCV_SHUTDOWN else 0
            )
            sock.peer.changed()

    def release(self, sock: UnixSocket) -> None:
        """The last descriptor is closed (unix_release_sock), and what was sent to it is lost."""
        self._release(sock)
        self.collect()

    def collect(self) -> None:
        """A descriptor of a socket is gone: free what only sockets in flight hold."""
        lost = self._flight.garbage()
        files = [file for skb in lost for file in self._flight.detach(skb)]
        for skb in lost:
            self._io.buffers.free(skb)
        self._flight.drop(files)

    def _release(self, sock: UnixSocket) -> None:
        self._names.forget(sock)
        sock.dead, sock.shutdown, sock.state = True, SHUTDOWN_MASK, CLOSED
        peer = sock.peer
        if sock.connection_based and peer is not None:
            peer.shutdown = SHUTDOWN_MASK
            if sock.unread or sock.listener is not None:
                peer.error = ECONNRESET
            peer.changed()
        sock.peer = None
        waiting, sock.backlog = list(sock.backlog), type(sock.backlog)()
        for new in waiting:
            self._release(new)
        while sock.queue:
            self._io.discard(sock.queue.popleft())
        self._sched.wake_up(sock.peer_wait)
        sock.changed()


def _peercred(task: Task) -> UCred:
    """What SO_PEERCRED tells of a task."""
    return UCred(task.tgid, task.cred.uid.effective, task.cred.gid.effective)
