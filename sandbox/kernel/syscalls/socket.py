"""Sockets of the local family: making, naming, connecting; socketcall, through which old programs make every call."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import (
    EAFNOSUPPORT,
    EBADF,
    ECONNABORTED,
    EINVAL,
    ENOTCONN,
    ENOTSOCK,
    KernelError,
)
from sandbox.kernel.abi.flags import O_NONBLOCK, O_PATH, O_RDWR
from sandbox.kernel.abi.socket import (
    AF_MAX,
    AF_UNIX,
    SOCK_CLOEXEC,
    SOCK_MAX,
    SOCK_NONBLOCK,
    SOCK_TYPE_MASK,
    SOCKADDR_MAX,
    pack_sockaddr,
)
from sandbox.kernel.ipc.af_unix import UnixSocket
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import signed
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File


def socket_of(task: Task, fd: int) -> tuple[File, UnixSocket]:
    """The open file of a descriptor, and its socket.  Raises KernelError(EBADF, ENOTSOCK)."""
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if not isinstance(file.inode, UnixSocket):
        raise KernelError(ENOTSOCK)
    return file, file.inode


def get_sockaddr(kernel: Kernel, task: Task, address: int, size: int) -> bytes:
    """A program's socket address (move_addr_to_kernel).  Raises KernelError(EFAULT, EINVAL)."""
    if size > SOCKADDR_MAX:
        raise KernelError(EINVAL)
    return kernel.uaccess.get_user(task, address, size) if size else b""


def put_sized(kernel: Kernel, task: Task, at: int, length: int, data: bytes, size: int) -> None:
    """Bytes for the program, then ``size`` at ``length``.  Raises KernelError(EFAULT)."""
    if data:
        kernel.uaccess.put_user(task, at, data)
    kernel.uaccess.put_user(task, length, size.to_bytes(4, "little"))


def put_sockaddr(kernel: Kernel, task: Task, at: int, length: int, data: bytes) -> None:
    """An address, as far as there is room, and how long it is (move_addr_to_user).  Raises KernelError."""
    room = signed(kernel.uaccess.get_word(task, length))
    if room < 0:
        raise KernelError(EINVAL)
    put_sized(kernel, task, at, length, data[:room], len(data))


def _type(family: int, kind: int) -> int:
    """The type alone.  Raises KernelError(EAFNOSUPPORT, EINVAL)."""
    if kind & ~(SOCK_TYPE_MASK | SOCK_CLOEXEC | SOCK_NONBLOCK):
        raise KernelError(EINVAL)
    if family >= AF_MAX:
        raise KernelError(EAFNOSUPPORT)
    if kind & SOCK_TYPE_MASK >= SOCK_MAX:
        raise KernelError(EINVAL)
    if family != AF_UNIX:
        raise KernelError(EAFNOSUPPORT)
    return kind & SOCK_TYPE_MASK


def _install(task: Task, sock: UnixSocket, flags: int) -> int:
    """A descriptor for a new socket.  Raises KernelError(EMFILE)."""
    file = File(sock, O_RDWR | flags & O_NONBLOCK)
    try:
        return task.files.install(file, close_on_exec=bool(flags & SOCK_CLOEXEC))
    except KernelError:
        file.get().put()
        raise


# -- making ----------------------------------------------------------------------------------------------------------


def sys_socket(kernel: Kernel, task: Task, family: int, kind: int, protocol: int, *_: int) -> int:
    return _install(task, kernel.sockets.create(task, _type(family, kind), protocol), kind)


def sys_socketpair(kernel: Kernel, task: Task, family: int, kind: int, protocol: int, pair: int, *_: int) -> int:
    fds: list[int] = []
    try:
        for sock in kernel.sockets.pair(task, _type(family, kind), protocol):
            fds.append(_install(task, sock, kind))
        kernel.uaccess.put_user(task, pair, struct.pack("<2I", *fds))
    except KernelError:
        for fd in fds:
            task.files.close(fd)
        raise
    return 0


# -- connecting ------------------------------------------------------------------------------------------------------


def sys_bind(kernel: Kernel, task: Task, fd: int, address: int, size: int, *_: int) -> int:
    sock = socket_of(task, fd)[1]
    kernel.sockets.bind(task, sock, get_sockaddr(kernel, task, address, size))
    return 0


def sys_connect(kernel: Kernel, task: Task, fd: int, address: int, size: int, *_: int) -> int:
    file, sock = socket_of(task, fd)
    data = get_sockaddr(kernel, task, address, size)
    kernel.sockets.connect(task, sock, data, bool(file.flags & O_NONBLOCK))
    return 0


def sys_listen(kernel: Kernel, task: Task, fd: int, backlog: int, *_: int) -> int:
    kernel.sockets.listen(task, socket_of(task, fd)[1], backlog)
    return 0


def sys_accept4(kernel: Kernel, task: Task, fd: int, address: int, length: int, flags: int, *_: int) -> int:
    file, sock = socket_of(task, fd)
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        raise KernelError(EINVAL)
    task.files.check_room()
    new = kernel.sockets.accept(sock, bool(file.flags & O_NONBLOCK))
    opened = File(new, O_RDWR | flags & O_NONBLOCK).get()
    try:
        if address:
            if new.peer is None:
                raise KernelError(ECONNABORTED)
            put_sockaddr(kernel, task, address, length, pack_sockaddr(new.peer.address))
        return task.files.install(opened, close_on_exec=bool(flags & SOCK_CLOEXEC))
    finally:
        opened.put()


def sys_getsockname(kernel: Kernel, task: Task, fd: int, address: int, length: int, *_: int) -> int:
    put_sockaddr(kernel, task, address, length, pack_sockaddr(socket_of(task, fd)[1].address))
    return 0


def sys_getpeername(kernel: Kernel, task: Task, fd: int, address: int, length: int, *_: int) -> int:
    peer = socket_of(task, fd)[1].peer
    if peer is None:
        raise KernelError(ENOTCONN)
    put_sockaddr(kernel, task, address, length, pack_sockaddr(peer.address))
    return 0


def sys_shutdown(kernel: Kernel, task: Task, fd: int, how: int, *_: int) -> int:
    kernel.sockets.shut_down(socket_of(task, fd)[1], how)
    return 0
