"""Sockets: pairs of connected streams, and a polite refusal of everything else."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import (
    EAFNOSUPPORT,
    EINVAL,
    EISCONN,
    ENOTSOCK,
    EOPNOTSUPP,
    ESOCKTNOSUPPORT,
    KernelError,
)
from sandbox.kernel.abi.flags import O_CLOEXEC, O_NONBLOCK, O_RDWR
from sandbox.kernel.ipc.socketpair import SocketEnd
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File

AF_UNIX, AF_MAX = 1, 46
SOCK_STREAM, SOCK_MAX = 1, 11
SOCK_CLOEXEC, SOCK_NONBLOCK = O_CLOEXEC, O_NONBLOCK
MSG_DONTWAIT, MSG_NOSIGNAL = 0x40, 0x4000
MSG_SENT = MSG_DONTWAIT | MSG_NOSIGNAL
CALLS = (
    "", "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
    "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg",
    "sendmmsg",
)  # fmt: skip
ARGUMENTS = (0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4)


def _socket(task: Task, fd: int) -> tuple[File, SocketEnd]:
    file = task.files.get(fd)
    if not isinstance(file.inode, SocketEnd):
        raise KernelError(ENOTSOCK)
    return file, file.inode


def _check_type(kind: int) -> None:
    if kind & ~(0xF | SOCK_CLOEXEC | SOCK_NONBLOCK) or kind & 0xF >= SOCK_MAX:
        raise KernelError(EINVAL)


def sys_socket(kernel: Kernel, task: Task, family: int, kind: int, protocol: int, *_: int) -> int:
    _check_type(kind)
    raise KernelError(EAFNOSUPPORT)


def sys_socketpair(kernel: Kernel, task: Task, family: int, kind: int, protocol: int, pair: int, *_: int) -> int:
    _check_type(kind)
    if family != AF_UNIX:
        raise KernelError(EAFNOSUPPORT)
    if kind & 0xF != SOCK_STREAM:
        raise KernelError(ESOCKTNOSUPPORT)
    fds: list[int] = []
    try:
        for end in kernel.pipes.new_socket_pair():
            file = File(end, O_RDWR | kind & O_NONBLOCK)
            fds.append(task.files.install(file, close_on_exec=bool(kind & SOCK_CLOEXEC)))
        kernel.uaccess.put_user(task, pair, struct.pack("<2I", *fds))
    except KernelError:
        for fd in fds:
            task.files.close(fd)
        raise
    return 0


def sys_sendto(
    kernel: Kernel, task: Task, fd: int, buffer: int, size: int, flags: int, address: int, length: int = 0
) -> int:
    opened, end = _socket(task, fd)
    if length:
        raise KernelError(EISCONN)
    if flags & ~MSG_SENT:
        raise KernelError(EOPNOTSUPP)
    nonblock = bool(opened.flags & O_NONBLOCK or flags & MSG_DONTWAIT)
    return end.send(task, buffer, size, nonblock, quiet=bool(flags & MSG_NOSIGNAL))


def sys_recvfrom(
    kernel: Kernel, task: Task, fd: int, buffer: int, size: int, flags: int, address: int, length: int = 0
) -> int:
    opened, end = _socket(task, fd)
    if flags & ~MSG_SENT:
        raise KernelError(EOPNOTSUPP)
    got = end.receive(task, buffer, size, bool(opened.flags & O_NONBLOCK or flags & MSG_DONTWAIT))
    if address and length:
        kernel.uaccess.put_user(task, length, bytes(4))
    return got


def sys_shutdown(kernel: Kernel, task: Task, fd: int, how: int, *_: int) -> int:
    end = _socket(task, fd)[1]
    if how > 2:
        raise KernelError(EINVAL)
    end.shutdown(how != 1, how != 0)
    return 0


def _refuse(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    _socket(task, fd)
    raise KernelError(EOPNOTSUPP)


def _refuse_connected(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    _socket(task, fd)
    raise KernelError(EISCONN)


sys_connect = _refuse_connected
sys_bind = sys_listen = sys_accept4 = _refuse
sys_setsockopt = sys_getsockopt = sys_sendmsg = sys_recvmsg = sys_getsockname = sys_getpeername = _refuse


def sys_socketcall(kernel: Kernel, task: Task, call: int, block: int, *_: int) -> int:
    """All socket calls through one number, with their arguments in memory."""
    if not 0 < call < len(CALLS):
        raise KernelError(EINVAL)
    data = kernel.uaccess.get_user(task, block, 4 * ARGUMENTS[call])
    arguments = [*struct.unpack(f"<{ARGUMENTS[call]}I", data), 0, 0, 0, 0][:6]
    name = {"send": "sendto", "recv": "recvfrom", "accept": "accept4"}.get(CALLS[call], CALLS[call])
    if name in ("sendto", "recvfrom") and ARGUMENTS[call] == 4:
        arguments[4:] = [0, 0]
    handler = globals().get(f"sys_{name}", _refuse)
    return int(handler(kernel, task, *arguments))
