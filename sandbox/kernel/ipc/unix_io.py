"""How sockets of the local family send and receive: streams by parts of a message, the others by whole ones."""

from __future__ import annotations

from sandbox.kernel.abi.errno import (
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EFAULT,
    EINTR,
    EINVAL,
    EISCONN,
    EMSGSIZE,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    ERESTARTSYS,
    KernelError,
)
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_USER, SIGPIPE
from sandbox.kernel.abi.socket import (
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_TRUNC,
    MSG_WAITALL,
    NOBODY,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    UCred,
)
from sandbox.kernel.base.time import Clock
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.af_unix import (
    CLOSE,
    ESTABLISHED,
    LISTEN,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    Incoming,
    Outgoing,
    UnixSocket,
)
from sandbox.kernel.ipc.scm import InFlight
from sandbox.kernel.ipc.skb import (
    MAX_FRAGMENTS,
    SKB_MAX_ALLOC,
    SKB_MAX_HEAD,
    Buffers,
    SkBuff,
    truesize,
)
from sandbox.kernel.mm.rlimit import RLIMIT_NOFILE
from sandbox.kernel.mm.vma import page_align
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_SIZE

UNIX_SKB_FRAGS_SZ = 8 * PAGE_SIZE
LARGEST_PART = SKB_MAX_HEAD + UNIX_SKB_FRAGS_SZ
"""Bytes of a stream that go into one message, all or none."""
AT_ONCE = -1
"""The end of a wait that does not wait."""


class UnixIo:
    """Sends and receives."""

    def __init__(self, buffers: Buffers, flight: InFlight, sched: Scheduler, signals: Signals, clock: Clock) -> None:
        self.buffers, self.flight = buffers, flight
        self._sched, self._signals, self._clock = sched, signals, clock

    # -- waiting -------------------------------------------------------------------------------------------------

    def end_of(self, timeout: int | None, nonblock: bool) -> int | None:
        """When a wait ends, in blocks: None for never."""
        if nonblock:
            return AT_ONCE
        return None if timeout is None else self._clock.now + timeout

    def wait(self, queue: WaitQueue, until: int | None) -> None:
        """Sleep, perhaps for nothing.

        Raises KernelError: EAGAIN when the time is over; for a signal EINTR, or ERESTARTSYS where there is no end.
        """
        if until is not None and self._clock.now >= until:
            raise KernelError(EAGAIN)
        self._sched.schedule((queue,), queue.what, until)
        if self._sched.signal_pending():
            raise KernelError(ERESTARTSYS if until is None else EINTR)

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, sock: UnixSocket, task: Task, message: Outgoing, nonblock: bool) -> int:
        """Bytes sent.  Raises KernelError."""
        if message.flags & MSG_OOB:
            raise KernelError(EOPNOTSUPP)
        until = self.end_of(sock.sndtimeo, nonblock)
        if sock.type == SOCK_STREAM:
            return self._send_stream(sock, task, message, until)
        if sock.type == SOCK_SEQPACKET:
            sock.raise_error()
            if sock.state != ESTABLISHED:
                raise KernelError(ENOTCONN)
            message.to = None
        return self._send_message(sock, task, message, until)

    def _send_stream(self, sock: UnixSocket, task: Task, message: Outgoing, until: int | None) -> int:
        """As unix_stream_sendmsg: SIGPIPE only when nothing was sent."""
        if message.to is not None:
            raise KernelError(EISCONN if sock.state == ESTABLISHED else EOPNOTSUPP)
        if sock.peer is None:
            raise KernelError(ENOTCONN)
        done = 0
        try:
            self._check_pipe(sock, sock.peer)
            while done < message.size:
                done += self._send_part(sock, sock.peer, task, message, done, until)
        except KernelError as error:
            if done:
                return done
            if error.errno == EPIPE and not message.flags & MSG_NOSIGNAL:
                info = SigInfo.sent(SIGPIPE, SI_USER, task.tgid, task.cred.uid.real)
                self._signals.send_signal(task, SIGPIPE, info, thread=True)
            raise
        return done

    def _check_pipe(self, sock: UnixSocket, peer: UnixSocket | None) -> None:
        if sock.shutdown & SEND_SHUTDOWN or peer is None or peer.dead or peer.shutdown & RCV_SHUTDOWN:
            raise KernelError(EPIPE)

    def _send_part(
        self, sock: UnixSocket, peer: UnixSocket, task: Task, message: Outgoing, done: int, until: int | None
    ) -> int:
        size = min(message.size - done, (sock.sndbuf >> 1) - 64, LARGEST_PART)
        skb = self._alloc(sock, size, min(size, page_align(max(0, size - SKB_MAX_HEAD))), until)
        try:
            if not done:
                self._attach(skb, task, message)
            self.buffers.fill(skb, done, message.move)
            self._check_pipe(sock, sock.peer)
        except BaseException:
            self.discard(skb)
            raise
        self._deliver(skb, sock, peer, task, message)
        return size

    def _send_message(self, sock: UnixSocket, task: Task, message: Outgoing, until: int | None) -> int:
        """As unix_dgram_sendmsg: all of it in one, or an error."""
        if message.size > sock.sndbuf - 32:
            raise KernelError(EMSGSIZE)
        paged = min(page_align(max(0, message.size - SKB_MAX_ALLOC)), MAX_FRAGMENTS * PAGE_SIZE, message.size)
        skb = self._alloc(sock, message.size, paged, until)
        try:
            self._attach(skb, task, message)
            self.buffers.fill(skb, 0, message.move)
            while not self._accepts(sock, target := self._target(sock, message)):
                self.wait(target.peer_wait, until)
        except BaseException:
            self.discard(skb)
            raise
        self._deliver(skb, sock, target, task, message)
        return message.size

    def _target(self, sock: UnixSocket, message: Outgoing) -> UnixSocket:
        target = message.to() if message.to is not None else sock.peer
        if target is None:
            raise KernelError(ENOTCONN)
        return target

    def _accepts(self, sock: UnixSocket, target: UnixSocket) -> bool:
        """The message can be put there now.  Raises KernelError(ECONNREFUSED, EPERM, EPIPE)."""
        if target.peer is not None and target.peer is not sock:
            raise KernelError(EPERM)
        if target.dead:
            if sock.type == SOCK_SEQPACKET:
                raise KernelError(EPIPE)
            if sock.peer is target:
                self.disconnect(sock)
            raise KernelError(ECONNREFUSED)
        if target.shutdown & RCV_SHUTDOWN:
            raise KernelError(EPIPE)
        return target is sock or target.peer is sock or not target.full

    def _alloc(self, sock: UnixSocket, size: int, paged: int, until: int | None) -> SkBuff:
        """A message for which the buffer has room (sock_alloc_send_pskb).  Raises KernelError."""
        while True:
            sock.raise_error()
            if sock.shutdown & SEND_SHUTDOWN:
                raise KernelError(EPIPE)
            if sock.charged < sock.sndbuf:
                break
            self.wait(sock.writable, until)
        skb = SkBuff(size, truesize(size, paged), uncharge=sock.uncharge, sender=sock)
        sock.charge(skb.truesize)
        return skb

    def _attach(self, skb: SkBuff, task: Task, message: Outgoing) -> None:
        limit = None if task.cred.capable else task.limits[RLIMIT_NOFILE][0]
        self.flight.attach(skb, message.files, task.cred.uid.real, limit)
        skb.creds = message.creds

    def _deliver(self, skb: SkBuff, sock: UnixSocket, target: UnixSocket, task: Task, message: Outgoing) -> None:
        if message.creds is not None:
            skb.creds = message.creds
        elif sock.passcred or target.passcred or target.listener is not None:
            skb.creds = UCred(task.tgid, task.cred.uid.real, task.cred.gid.real)
        skb.holder = target
        target.queue.append(skb)
        self._sched.wake_up(target.readable)

    # -- receiving -----------------------------------------------------------------------------------------------

    def receive(self, sock: UnixSocket, wanted: Incoming, nonblock: bool) -> int:
        """Bytes received.  Raises KernelError."""
        if sock.type == SOCK_STREAM:
            if sock.state != ESTABLISHED:
                raise KernelError(EINVAL)
            if wanted.flags & MSG_OOB:
                raise KernelError(EOPNOTSUPP)
            return self._receive_stream(sock, wanted, self.end_of(sock.rcvtimeo, nonblock))
        if sock.type == SOCK_SEQPACKET and sock.state != ESTABLISHED:
            raise KernelError(ENOTCONN)
        if wanted.flags & MSG_OOB:
            raise KernelError(EOPNOTSUPP)
        return self._receive_message(sock, wanted, self.end_of(sock.rcvtimeo, nonblock))

    def _receive_stream(self, sock: UnixSocket, wanted: Incoming, until: int | None) -> int:
        """As unix_stream_read_generic: until enough came, or what follows is another sender's or came behind files."""
        target = (wanted.size if wanted.flags & MSG_WAITALL else min(sock.rcvlowat, wanted.size)) or 1
        done, ended = 0, False
        try:
            while not ended and done < target:
                with sock.lock(lambda queue: self.wait(queue, None)):
                    done, ended = self._take_parts(sock, wanted, done)
                if ended or done >= target:
                    break
                if sock.queue and not wanted.peeks:  # it came while the last bytes were copied
                    continue
                sock.raise_error()
                if sock.shutdown & RCV_SHUTDOWN:
                    break
                self.wait(sock.readable, until)
        except KernelError:
            if not done:
                raise
        return done

    def _take_parts(self, sock: UnixSocket, wanted: Incoming, done: int) -> tuple[int, bool]:
        """Bytes that came so far, and whether no more may be added to them.

        As in Linux, who only peeks goes on to the next files even when there is no room for more bytes.
        """
        skip, looked = max(0, sock.peek_off) if wanted.peeks else 0, False
        for skb in list(sock.queue):
            if skip >= skb.left:
                skip -= skb.left
                continue
            if not self._same_sender(sock, wanted, skb):
                return done, True
            size = min(skb.left - skip, wanted.size - done)
            if not self.buffers.empty(skb, size, done, wanted.move, skip):
                if not done:
                    raise KernelError(EFAULT)
                return done, True
            done, skip, looked = done + size, 0, wanted.peeks
            self._peeked_to(sock, size if wanted.peeks else -size)
            had_files = self._take_files(skb, wanted)
            if not wanted.peeks:
                skb.consumed += size
                if not skb.left:
                    sock.queue.popleft()
                    self.buffers.free(skb)
            full = done >= wanted.size and not wanted.peeks
            if had_files or wanted.single or full:
                return done, True
        return done, looked

    @staticmethod
    def _peeked_to(sock: UnixSocket, moved: int) -> None:
        """The next look begins behind what was looked at; what is received is before it (sk_peek_offset_fwd, _bwd)."""
        if sock.peek_off >= 0:
            sock.peek_off = max(0, sock.peek_off + moved)

    def _same_sender(self, sock: UnixSocket, wanted: Incoming, skb: SkBuff) -> bool:
        """With SO_PASSCRED one call gets the bytes of one sender."""
        creds = (skb.creds or NOBODY) if sock.passcred else None
        if not wanted.named:
            wanted.named, wanted.name, wanted.creds = True, _name_of(skb), creds
        return not sock.passcred or wanted.creds == creds

    def _take_files(self, skb: SkBuff, wanted: Incoming) -> bool:
        """The files that a message holds go to who receives it; whether there were any."""
        if not skb.files:
            return False
        wanted.files += [file.get() for file in skb.files] if wanted.peeks else self.flight.detach(skb)
        return True

    def _receive_message(self, sock: UnixSocket, wanted: Incoming, until: int | None) -> int:
        """As unix_dgram_recvmsg: one message, of which what does not fit is lost."""
        skb, skip = self._next_message(sock, wanted, until)
        if skb is None:
            return 0
        if not wanted.peeks:
            sock.queue.popleft()
            skb.holder = None
        self._sched.wake_up(sock.peer_wait)
        try:
            wanted.named, wanted.name = True, _name_of(skb)
            size = min(wanted.size, skb.size - skip)
            wanted.truncated = size < skb.size - skip
            if not self.buffers.empty(skb, size, 0, wanted.move, skip):
                raise KernelError(EFAULT)
            self._peeked_to(sock, size if wanted.peeks else -skb.size)
            if sock.passcred:
                wanted.creds = skb.creds or NOBODY
            self._take_files(skb, wanted)
            return skb.size - skip if wanted.flags & MSG_TRUNC else size
        finally:
            if not wanted.peeks:
                self.discard(skb)

    def _next_message(self, sock: UnixSocket, wanted: Incoming, until: int | None) -> tuple[SkBuff | None, int]:
        """The message, None at the end, and how many of its bytes a look leaves out (__skb_try_recv_from_queue)."""
        while True:
            sock.raise_error()
            skip = max(0, sock.peek_off) if wanted.peeks else 0
            for skb in sock.queue:
                if skip < skb.size or not skip:
                    return skb, skip
                skip -= skb.size
            if sock.shutdown & RCV_SHUTDOWN and (until != AT_ONCE or sock.type == SOCK_SEQPACKET):
                return None, 0
            if sock.connection_based and sock.state not in (ESTABLISHED, LISTEN):
                raise KernelError(ENOTCONN)
            self.wait(sock.readable, until)

    # -- ends ----------------------------------------------------------------------------------------------------

    def discard(self, skb: SkBuff) -> None:
        """A message is gone, and what it held is let go."""
        files = self.flight.detach(skb)
        self.buffers.free(skb)
        self.flight.drop(files)

    def disconnect(self, sock: UnixSocket) -> None:
        """A socket for datagrams leaves the one that it sent to; what it has not received is lost."""
        peer, sock.peer, sock.state = sock.peer, None, CLOSE
        if peer is None:
            return
        if peer.peer is None and peer is not sock:
            peer.state = CLOSE
        if not sock.queue:
            return
        while sock.queue:
            self.discard(sock.queue.popleft())
        self._sched.wake_up(sock.peer_wait)
        if not peer.dead and peer.peer is sock:
            peer.error = ECONNRESET
            peer.changed()


def _name_of(skb: SkBuff) -> bytes | None:
    return skb.sender.address if skb.sender is not None else None
