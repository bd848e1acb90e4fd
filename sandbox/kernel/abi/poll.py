"""Event bits and structures of poll(2), epoll(7) and eventfd(2) beyond the six that every program knows."""

from __future__ import annotations

from struct import Struct, iter_unpack

POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND = 0x40, 0x80, 0x100, 0x200
POLLMSG, POLLRDHUP = 0x400, 0x2000

EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD = 1, 2, 3
EPOLLEXCLUSIVE, EPOLLWAKEUP, EPOLLONESHOT, EPOLLET = 1 << 28, 1 << 29, 1 << 30, 1 << 31

EFD_SEMAPHORE = 1

_EVENT = Struct("<IQ")
EPOLL_EVENT_BYTES = _EVENT.size


def pack_epoll_event(events: int, data: int) -> bytes:
    """``struct epoll_event``, 12 bytes: a 64-bit member is aligned to 4 on i386."""
    return _EVENT.pack(events, data)


def unpack_epoll_event(data: bytes) -> tuple[int, int]:
    """(events, the program's own 64 bits)."""
    events, own = next(iter_unpack(_EVENT.format, data))
    return events, own
