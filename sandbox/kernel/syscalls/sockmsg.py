"""Sending and receiving over sockets, with addresses and ancillary data (net/socket.c and net/core/scm.c of Linux)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from sandbox.kernel.abi.errno import (
    EAGAIN,
    EBADF,
    EFAULT,
    EINVAL,
    EMSGSIZE,
    ENOBUFS,
    EPERM,
    ERESTARTSYS,
    ESRCH,
    KernelError,
)
from sandbox.kernel.abi.flags import O_NONBLOCK
from sandbox.kernel.abi.socket import (
    CMSG_BYTES,
    MMSGHDR_BYTES,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_OOB,
    MSG_TRUNC,
    MSG_WAITFORONE,
    MSGHDR_BYTES,
    SCM_CREDENTIALS,
    SCM_MAX_FD,
    SCM_RIGHTS,
    SOCK_STREAM,
    SOCKADDR_MAX,
    SOL_SOCKET,
    Cmsg,
    MsgHdr,
    UCred,
    cmsg_align,
    pack_sockaddr,
    unpack_msghdr,
)
from sandbox.kernel.abi.structs import pack_timespec, pack_timespec64, unpack_timespec, unpack_timespec64
from sandbox.kernel.ipc.af_unix import Incoming, Outgoing, UnixSocket
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.io import MAXIMUM_COUNT, UIO_MAXIOV, vector_pieces
from sandbox.kernel.syscalls.socket import get_sockaddr, put_sockaddr, socket_of
from sandbox.kernel.task.cred import NO_ID, Ids
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import OTHER_ID
from sandbox.kernel.vfs.operations import Pieces
from sandbox.records import dataclass

OPTMEM_MAX = 128 << 10
"""Bytes of ancillary data that go with one message (net.core.optmem_max)."""
LARGEST_CONTROL = 1 << 20
"""Bytes of it that are looked at, where Linux would look for mistakes in all."""
NAME_SIZE_AT, CONTROL_SIZE_AT = 4, 20
"""Offsets in ``struct msghdr`` of what recvmsg(2) stores; the flags follow CONTROL_SIZE_AT."""


def _nonblock(file: File, flags: int) -> bool:
    return bool(file.flags & O_NONBLOCK or flags & MSG_DONTWAIT)


def _one_piece(kernel: Kernel, buffer: int, size: int) -> Pieces:
    """A buffer as a vector.  Raises KernelError(EFAULT)."""
    size = min(size, MAXIMUM_COUNT)
    if not kernel.uaccess.access_ok(buffer, size):
        raise KernelError(EFAULT)
    return ((buffer, size),) if size else ()


def _total(pieces: Pieces) -> int:
    return sum(size for _, size in pieces)


# -- sending ---------------------------------------------------------------------------------------------------------


def _send(kernel: Kernel, task: Task, file: File, message: Outgoing, address: bytes) -> int:
    sock = file.inode
    assert isinstance(sock, UnixSocket)
    nonblock = _nonblock(file, message.flags)
    if address:
        return kernel.sockets.send_to(sock, task, message, address, nonblock)
    return kernel.sockets.send(sock, task, message, nonblock)


def sys_sendto(
    kernel: Kernel, task: Task, fd: int, buffer: int, size: int, flags: int, address: int = 0, length: int = 0
) -> int:
    pieces = _one_piece(kernel, buffer, size)
    file = socket_of(task, fd)[0]
    data = get_sockaddr(kernel, task, address, length) if address else b""
    message = Outgoing(_total(pieces), kernel.sockets.from_pieces(task, pieces), flags)
    return _send(kernel, task, file, message, data)


def _header(kernel: Kernel, task: Task, at: int) -> tuple[MsgHdr, Pieces]:
    """A ``struct msghdr`` and what its vector names.  Raises KernelError(EFAULT, EINVAL, EMSGSIZE)."""
    header = unpack_msghdr(kernel.uaccess.get_user(task, at, MSGHDR_BYTES))
    if header.name and header.name_size >> 31:
        raise KernelError(EINVAL)
    if header.pieces > UIO_MAXIOV:
        raise KernelError(EMSGSIZE)
    return header, vector_pieces(kernel, task, header.vector, header.pieces)


def _sendmsg(kernel: Kernel, task: Task, file: File, at: int, flags: int) -> int:
    header, pieces = _header(kernel, task, at)
    address = b""
    if header.name:
        address = get_sockaddr(kernel, task, header.name, min(header.name_size, SOCKADDR_MAX))
    message = Outgoing(_total(pieces), kernel.sockets.from_pieces(task, pieces), flags)
    if header.control_size:
        _ancillary(kernel, task, _cmsgs(kernel, task, header), message)
    held = [each.get() for each in message.files]
    try:
        return _send(kernel, task, file, message, address)
    finally:
        kernel.sockets.drop(held)


def _cmsgs(kernel: Kernel, task: Task, header: MsgHdr) -> list[Cmsg]:
    """The pieces of ancillary data, when all headers are right (cmsghdr_from_user_compat_to_kern).

    A rest that is shorter than a header is none; no header at all is an error.  Raises KernelError(EINVAL, ENOBUFS).
    """
    if header.control_size > LARGEST_CONTROL:
        raise KernelError(ENOBUFS)
    at, end = header.control, header.control + header.control_size
    found: list[tuple[int, int, int, int]] = []
    while at + CMSG_BYTES <= end:
        size, level, kind = struct.unpack("<IiI", kernel.uaccess.get_user(task, at, CMSG_BYTES))
        if not CMSG_BYTES <= size <= end - at:
            raise KernelError(EINVAL)
        found.append((level, kind, at + CMSG_BYTES, size - CMSG_BYTES))
        at += cmsg_align(size)
    if not found:
        raise KernelError(EINVAL)
    if at - header.control > OPTMEM_MAX:
        raise KernelError(ENOBUFS)
    return [Cmsg(level, kind, kernel.uaccess.get_user(task, start, size)) for level, kind, start, size in found]


def _ancillary(kernel: Kernel, task: Task, cmsgs: Sequence[Cmsg], message: Outgoing) -> None:
    """What goes beside the bytes (__scm_send).  Raises KernelError."""
    for cmsg in cmsgs:
        if cmsg.level != SOL_SOCKET:
            continue
        if cmsg.kind == SCM_RIGHTS:
            message.files += _files(task, cmsg.data, SCM_MAX_FD - len(message.files))
        elif cmsg.kind == SCM_CREDENTIALS:
            message.creds = _creds(kernel, task, cmsg.data)
        else:
            raise KernelError(EINVAL)
    if kernel.sockets.loses_files:
        message.files = ()


def _files(task: Task, data: bytes, most: int) -> tuple[File, ...]:
    count = len(data) // 4
    if count > most:
        raise KernelError(EINVAL)
    fds = struct.unpack_from(f"<{count}I", data)
    if any(fd not in task.files for fd in fds):
        raise KernelError(EBADF)
    return tuple(task.files.get(fd) for fd in fds)


def _creds(kernel: Kernel, task: Task, data: bytes) -> UCred:
    """Who a program says that it is: root may say what it likes (scm_check_creds)."""
    if len(data) != struct.calcsize("<3I"):
        raise KernelError(EINVAL)
    creds = UCred(*struct.unpack("<3I", data))
    if NO_ID in creds[1:]:
        raise KernelError(EINVAL)

    def is_one_of(number: int, ids: Ids) -> bool:
        return task.cred.capable or ids.has(number)

    own = creds.pid == task.tgid or task.cred.capable
    if not (own and is_one_of(creds.uid, task.cred.uid) and is_one_of(creds.gid, task.cred.gid)):
        raise KernelError(EPERM)
    if creds.pid not in kernel.tasks:
        raise KernelError(ESRCH)
    return creds


def sys_sendmsg(kernel: Kernel, task: Task, fd: int, at: int, flags: int, *_: int) -> int:
    return _sendmsg(kernel, task, socket_of(task, fd)[0], at, flags)


def sys_sendmmsg(kernel: Kernel, task: Task, fd: int, vector: int, count: int, flags: int, *_: int) -> int:
    """Messages until one fails; an error counts only before the first."""
    file, done = socket_of(task, fd)[0], 0
    try:
        for at in range(vector, vector + min(count, UIO_MAXIOV) * MMSGHDR_BYTES, MMSGHDR_BYTES):
            sent = _sendmsg(kernel, task, file, at, flags)
            kernel.uaccess.put_user(task, at + MSGHDR_BYTES, sent.to_bytes(4, "little"))
            done += 1
    except KernelError:
        if not done:
            raise
    return done


# -- receiving -------------------------------------------------------------------------------------------------------


def sys_recvfrom(
    kernel: Kernel, task: Task, fd: int, buffer: int, size: int, flags: int, address: int = 0, length: int = 0
) -> int:
    pieces = _one_piece(kernel, buffer, size)
    file, sock = socket_of(task, fd)
    wanted = Incoming(_total(pieces), kernel.sockets.to_pieces(task, pieces), flags)
    try:
        got = kernel.sockets.receive(sock, task, wanted, _nonblock(file, flags))
    finally:
        kernel.sockets.drop(wanted.files)
    if address:
        put_sockaddr(kernel, task, address, length, _name_of(wanted))
    return got


def _name_of(wanted: Incoming) -> bytes:
    """The sender's address: nothing at all of one without a name."""
    return pack_sockaddr(wanted.name) if wanted.name is not None else b""


@dataclass(slots=True)
class _Control:
    """Room for ancillary data in a program's memory: bytes from ``at`` on, ``left`` of them free."""

    kernel: Kernel
    task: Task
    at: int
    left: int
    truncated: bool = False

    def put(self, kind: int, data: bytes) -> None:
        """One piece, cut off where the room ends (put_cmsg)."""
        size = CMSG_BYTES + len(data)
        if not self.at or self.left < CMSG_BYTES:
            self.truncated = True
            return
        if self.left < size:
            self.truncated, size = True, self.left
        cmsg = struct.pack("<IiI", size, SOL_SOCKET, kind) + data
        if not self.kernel.uaccess.copy_to_user(self.task, self.at, cmsg[:size]):
            self._advance(CMSG_BYTES + len(data))

    def _advance(self, size: int) -> None:
        size = min(cmsg_align(size), self.left)
        self.at += size
        self.left -= size

    def put_files(self, files: Sequence[File], close_on_exec: bool) -> None:
        """Descriptors for as many as there is room for (scm_detach_fds)."""
        room = max(0, self.left - CMSG_BYTES) // 4 if self.at else 0
        done = 0
        for file in files[:room]:
            if not self._install(file, self.at + CMSG_BYTES + 4 * done, close_on_exec):
                break
            done += 1
        if done:
            cmsg = struct.pack("<IiI", CMSG_BYTES + 4 * done, SOL_SOCKET, SCM_RIGHTS)
            if not self.kernel.uaccess.copy_to_user(self.task, self.at, cmsg):
                self._advance(CMSG_BYTES + 4 * done)
        self.truncated = self.truncated or done < len(files)

    def _install(self, file: File, at: int, close_on_exec: bool) -> bool:
        try:
            fd = self.task.files.install(file, close_on_exec=close_on_exec)
        except KernelError:
            return False
        if not self.kernel.uaccess.copy_to_user(self.task, at, fd.to_bytes(4, "little")):
            return True
        self.task.files.close(fd)
        return False


def _recvmsg(kernel: Kernel, task: Task, file: File, at: int, flags: int) -> int:
    header, pieces = _header(kernel, task, at)
    sock = file.inode
    assert isinstance(sock, UnixSocket)
    wanted = Incoming(_total(pieces), kernel.sockets.to_pieces(task, pieces), flags)
    control = _Control(kernel, task, header.control, header.control_size)
    try:
        got = kernel.sockets.receive(sock, task, wanted, _nonblock(file, flags))
        if sock.passcred and (wanted.named or sock.type == SOCK_STREAM):
            control.put(SCM_CREDENTIALS, _shown(wanted.creds))
        if wanted.files:
            control.put_files(wanted.files, bool(flags & MSG_CMSG_CLOEXEC))
    finally:
        kernel.sockets.drop(wanted.files)
    if header.name:
        put_sockaddr(kernel, task, header.name, at + NAME_SIZE_AT, _name_of(wanted))
    out = flags & MSG_CMSG_CLOEXEC
    out |= (MSG_TRUNC if wanted.truncated else 0) | (MSG_CTRUNC if control.truncated else 0)
    stored = struct.pack("<2I", control.at - header.control, out)
    kernel.uaccess.put_user(task, at + CONTROL_SIZE_AT, stored)
    return got


def _shown(creds: UCred | None) -> bytes:
    """A sender who is not known has the ids of nobody."""
    if creds is None:
        return UCred(0, OTHER_ID, OTHER_ID).pack()
    return UCred(creds.pid, *(OTHER_ID if each == NO_ID else each for each in creds[1:])).pack()


def sys_recvmsg(kernel: Kernel, task: Task, fd: int, at: int, flags: int, *_: int) -> int:
    return _recvmsg(kernel, task, socket_of(task, fd)[0], at, flags)


def _receive_many(
    kernel: Kernel, task: Task, fd: int, vector: int, count: int, flags: int, over: Callable[[], bool]
) -> int:
    """Messages until one fails or the time is ``over``, which is looked at after each (do_recvmmsg)."""
    file, sock = socket_of(task, fd)
    sock.raise_error()
    done = 0
    try:
        while done < count:
            at = vector + done * MMSGHDR_BYTES
            got = _recvmsg(kernel, task, file, at, flags & ~MSG_WAITFORONE)
            kernel.uaccess.put_user(task, at + MSGHDR_BYTES, got.to_bytes(4, "little"))
            done += 1
            if flags & MSG_WAITFORONE:
                flags |= MSG_DONTWAIT
            if over() or flags & MSG_OOB:
                break
    except KernelError as error:
        if not done:
            raise
        if error.errno not in (EAGAIN, ERESTARTSYS):
            sock.error = error.errno
    return done


def _recvmmsg(
    kernel: Kernel, task: Task, arguments: Sequence[int], size: int,
    unpack: Callable[[bytes], int], pack: Callable[[int], bytes],
) -> int:  # fmt: skip
    fd, vector, count, flags, timeout = arguments
    if not timeout:
        return _receive_many(kernel, task, fd, vector, count, flags, lambda: False)
    end = kernel.clock.now + unpack(kernel.uaccess.get_user(task, timeout, size))
    done = _receive_many(kernel, task, fd, vector, count, flags, lambda: kernel.clock.now >= end)
    if done:
        kernel.uaccess.put_user(task, timeout, pack(max(0, end - kernel.clock.now)))
    return done


def sys_recvmmsg(
    kernel: Kernel, task: Task, fd: int, vector: int, count: int, flags: int, timeout: int = 0, *_: int
) -> int:
    arguments = fd, vector, count, flags, timeout
    return _recvmmsg(kernel, task, arguments, 8, unpack_timespec, pack_timespec)


def sys_recvmmsg_time64(
    kernel: Kernel, task: Task, fd: int, vector: int, count: int, flags: int, timeout: int, *_: int
) -> int:
    arguments = fd, vector, count, flags, timeout
    return _recvmmsg(kernel, task, arguments, 16, unpack_timespec64, pack_timespec64)
