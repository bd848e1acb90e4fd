"""Numbers and structures of the socket calls as an i386 program sees them (include/linux/socket.h, asm-generic)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from sandbox.kernel.abi.flags import O_CLOEXEC, O_NONBLOCK

AF_UNSPEC, AF_UNIX, AF_MAX = 0, 1, 46
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_MAX = 1, 2, 3, 5, 11
SOCK_TYPE_MASK = 0xF
SOCK_CLOEXEC, SOCK_NONBLOCK = O_CLOEXEC, O_NONBLOCK
SOMAXCONN = 4096
"""net.core.somaxconn."""

SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2

MSG_OOB, MSG_PEEK, MSG_CTRUNC, MSG_TRUNC, MSG_DONTWAIT = 1, 2, 8, 0x20, 0x40
MSG_WAITALL, MSG_NOSIGNAL, MSG_WAITFORONE, MSG_CMSG_CLOEXEC = 0x100, 0x4000, 0x10000, 0x40000000

SOL_SOCKET = 1
SO_DEBUG, SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF = range(1, 9)
SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_PRIORITY, SO_LINGER, SO_BSDCOMPAT, SO_REUSEPORT = range(9, 16)
SO_PASSCRED, SO_PEERCRED, SO_RCVLOWAT, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO = range(16, 22)
SO_PEERNAME, SO_TIMESTAMP, SO_ACCEPTCONN = 28, 29, 30
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_PASSSEC, SO_MARK, SO_PROTOCOL, SO_DOMAIN = 32, 33, 34, 36, 38, 39
SO_PEEK_OFF = 42
SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW = 66, 67

SCM_RIGHTS, SCM_CREDENTIALS = 1, 2
SCM_MAX_FD = 253
CMSG_BYTES = 12

SIOCOUTQ = 0x5411
"""Bytes of memory that what was sent, and not received, takes."""

FAMILY_BYTES, SUN_PATH_BYTES, SOCKADDR_MAX = 2, 108, 128
"""Of ``sa_family``, of ``sun_path``, and of the longest address of any family."""


class UCred(NamedTuple):
    """``struct ucred``, 12 bytes."""

    pid: int
    uid: int
    gid: int

    def pack(self) -> bytes:
        return struct.pack("<3I", *self)


NOBODY = UCred(0, 0xFFFFFFFF, 0xFFFFFFFF)
"""Of who is not known; as a message's sender its ids are shown as 65534."""


class MsgHdr(NamedTuple):
    """``struct msghdr``, 28 bytes: addresses and sizes in bytes, ``pieces`` entries of the vector."""

    name: int
    name_size: int
    vector: int
    pieces: int
    control: int
    control_size: int
    flags: int


MSGHDR_BYTES, MMSGHDR_BYTES = 28, 32


def unpack_msghdr(data: bytes) -> MsgHdr:
    return MsgHdr(*struct.unpack("<7I", data))


class Cmsg(NamedTuple):
    """One piece of ancillary data."""

    level: int
    kind: int
    data: bytes


def cmsg_align(size: int) -> int:
    return size + 3 & ~3


def pack_sockaddr(path: bytes | None) -> bytes:
    """``struct sockaddr_un`` as far as it is used: of a socket without a name only the family."""
    return struct.pack("<H", AF_UNIX) + (path or b"")


SOCKETCALLS = (
    ("", 0), ("socket", 3), ("bind", 3), ("connect", 3), ("listen", 2), ("accept", 3), ("getsockname", 3),
    ("getpeername", 3), ("socketpair", 4), ("send", 4), ("recv", 4), ("sendto", 6), ("recvfrom", 6), ("shutdown", 2),
    ("setsockopt", 5), ("getsockopt", 5), ("sendmsg", 3), ("recvmsg", 3), ("accept4", 4), ("recvmmsg", 5),
    ("sendmmsg", 4),
)  # fmt: skip
"""What socketcall(2) stands for, by number, and how many arguments each takes (include/uapi/linux/net.h)."""
