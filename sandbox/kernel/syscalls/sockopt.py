"""getsockopt and setsockopt of the local family: SOL_SOCKET, as net/core/sock.c answers it."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import (
    EDOM,
    EINVAL,
    ENOPROTOOPT,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    KernelError,
)
from sandbox.kernel.abi.socket import (
    AF_UNIX,
    SO_ACCEPTCONN,
    SO_BROADCAST,
    SO_BSDCOMPAT,
    SO_DEBUG,
    SO_DOMAIN,
    SO_DONTROUTE,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_MARK,
    SO_NO_CHECK,
    SO_OOBINLINE,
    SO_PASSCRED,
    SO_PASSSEC,
    SO_PEEK_OFF,
    SO_PEERCRED,
    SO_PEERNAME,
    SO_PRIORITY,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_RCVTIMEO_NEW,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDBUFFORCE,
    SO_SNDLOWAT,
    SO_SNDTIMEO,
    SO_SNDTIMEO_NEW,
    SO_TIMESTAMP,
    SO_TYPE,
    SOL_SOCKET,
    pack_sockaddr,
)
from sandbox.kernel.base.time import SECOND
from sandbox.kernel.ipc.af_unix import LISTEN, UnixSocket
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import signed
from sandbox.kernel.syscalls.socket import put_sized, socket_of
from sandbox.kernel.task.task import Task

LARGEST_BUFFER = 4 << 20
"""Bytes of net.core.wmem_max and rmem_max; what is asked for is doubled, as socket(7) says."""
SMALLEST_SNDBUF, SMALLEST_RCVBUF = 4608, 2304
"""SOCK_MIN_SNDBUF and SOCK_MIN_RCVBUF (include/net/sock.h)."""
FLAGS = frozenset({
    SO_DEBUG, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST, SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_TIMESTAMP,
    SO_PASSSEC,
})  # fmt: skip
"""Options that are on or off and change nothing here."""
KEPT = frozenset({SO_PRIORITY, SO_MARK})
TIMES = {SO_RCVTIMEO: "<2i", SO_SNDTIMEO: "<2i", SO_RCVTIMEO_NEW: "<2q", SO_SNDTIMEO_NEW: "<2q"}
"""Options that hold seconds and microseconds."""
RECEIVING = (SO_RCVTIMEO, SO_RCVTIMEO_NEW)


# -- reading ---------------------------------------------------------------------------------------------------------


def _word(sock: UnixSocket, option: int) -> int | None:
    """The value of an option that is one number, None for others."""
    if option in FLAGS or option in KEPT:
        return sock.options.get(option, 0)
    if option == SO_ERROR:
        return sock.take_error()
    return {
        SO_TYPE: sock.type, SO_DOMAIN: AF_UNIX, SO_PROTOCOL: 0, SO_ACCEPTCONN: int(sock.state == LISTEN),
        SO_SNDBUF: sock.sndbuf, SO_RCVBUF: sock.rcvbuf, SO_RCVLOWAT: sock.rcvlowat, SO_SNDLOWAT: 1,
        SO_PEEK_OFF: sock.peek_off,
        SO_PASSCRED: int(sock.passcred), SO_BSDCOMPAT: 0, SO_REUSEPORT: 0,
    }.get(option)  # fmt: skip


def _value(sock: UnixSocket, option: int) -> bytes:
    """The bytes of an option.  Raises KernelError(ENOPROTOOPT, ENOTCONN)."""
    word = _word(sock, option)
    if word is not None:
        return struct.pack("<i", word)
    if option == SO_PEERCRED:
        return sock.peercred.pack()
    if option == SO_LINGER:
        return struct.pack("<2i", *sock.linger)
    if option in TIMES:
        time = (sock.rcvtimeo if option in RECEIVING else sock.sndtimeo) or 0
        return struct.pack(TIMES[option], time // SECOND, time % SECOND // 1000)
    if option == SO_PEERNAME:
        if sock.peer is None:
            raise KernelError(ENOTCONN)
        return pack_sockaddr(sock.peer.address)
    raise KernelError(ENOPROTOOPT)


def sys_getsockopt(
    kernel: Kernel, task: Task, fd: int, level: int, option: int, value: int, length: int, *_: int
) -> int:
    sock = socket_of(task, fd)[1]
    if level != SOL_SOCKET:
        raise KernelError(EOPNOTSUPP)
    room = signed(kernel.uaccess.get_word(task, length))
    if room < 0:
        raise KernelError(EINVAL)
    data = _value(sock, option)
    if option == SO_PEERNAME and len(data) < room:
        raise KernelError(EINVAL)
    put_sized(kernel, task, value, length, data[:room], min(room, len(data)))
    return 0


# -- setting ---------------------------------------------------------------------------------------------------------


def _set_time(sock: UnixSocket, option: int, data: bytes) -> None:
    seconds, part = struct.unpack(TIMES[option], data)
    if not 0 <= part < 1_000_000:
        raise KernelError(EDOM)
    time = seconds * SECOND + part * 1000 if seconds >= 0 else 1
    if option in RECEIVING:
        sock.rcvtimeo = time or None
    else:
        sock.sndtimeo = time or None


def _set_buffer(task: Task, sock: UnixSocket, option: int, value: int) -> None:
    if option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        if not task.cred.capable:
            raise KernelError(EPERM)
        wanted = max(0, value)
    else:
        wanted = min(value & 0xFFFFFFFF, LARGEST_BUFFER)
    wanted = min(wanted, 0x3FFFFFFF) * 2
    if option in (SO_SNDBUF, SO_SNDBUFFORCE):
        sock.sndbuf = max(wanted, SMALLEST_SNDBUF)
        sock.changed()
    else:
        sock.rcvbuf = max(wanted, SMALLEST_RCVBUF)


def _set_word(task: Task, sock: UnixSocket, option: int, value: int) -> None:
    """Raises KernelError(EPERM, ENOPROTOOPT)."""
    if option in FLAGS:
        sock.options[option] = int(bool(value))
    elif option in KEPT:
        sock.options[option] = value
    elif option == SO_PASSCRED:
        sock.passcred = bool(value)
    elif option in (SO_SNDBUF, SO_RCVBUF, SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        _set_buffer(task, sock, option, value)
    elif option == SO_RCVLOWAT:
        sock.rcvlowat = 0x7FFFFFFF if value < 0 else value or 1
    elif option == SO_PEEK_OFF:
        sock.peek_off = value
    elif option == SO_REUSEPORT and value:
        raise KernelError(EOPNOTSUPP)
    elif option not in (SO_BSDCOMPAT, SO_REUSEPORT):
        raise KernelError(ENOPROTOOPT)


def sys_setsockopt(
    kernel: Kernel, task: Task, fd: int, level: int, option: int, value: int, length: int, *_: int
) -> int:
    sock = socket_of(task, fd)[1]
    if length >> 31:
        raise KernelError(EINVAL)
    if level != SOL_SOCKET:
        raise KernelError(EOPNOTSUPP)
    if length < 4:
        raise KernelError(EINVAL)
    word = signed(kernel.uaccess.get_word(task, value))
    if option in TIMES:
        size = struct.calcsize(TIMES[option])
        if length < size:
            raise KernelError(EINVAL)
        _set_time(sock, option, kernel.uaccess.get_user(task, value, size))
    elif option == SO_LINGER:
        if length < 8:
            raise KernelError(EINVAL)
        on, seconds = struct.unpack("<2i", kernel.uaccess.get_user(task, value, 8))
        sock.linger = int(bool(on)), seconds if on else 0
    else:
        _set_word(task, sock, option, word)
    return 0
