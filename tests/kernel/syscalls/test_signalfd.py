"""signalfd; every value was seen on a real Linux (6.18, i386 program)."""

from __future__ import annotations

import struct

from tests.conftest import Run
from tests.kernel.calls import Call, results

EBADF, EAGAIN, EFAULT, EINVAL = -9, -11, -14, -22
O_NONBLOCK = 0o4000
SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGRT = 10, 12, 14, 17, 35
DATA = """
mask:   .long 1<<9 | 1<<11 | 1<<13 | 1<<16, 1<<2
second: .long 1<<11, 0
all:    .long -1, -1
polled: .long 3, 5
info:   .long 35, 0, -1, 1, 0, 0x1234
        .skip 104
"""
CREATE: Call = ("signalfd4", -1, "offset mask", 8, O_NONBLOCK)
BLOCK: Call = ("rt_sigprocmask", 0, "offset all", 0, 8)


def record(buf: bytes, number: int) -> tuple[int, ...]:
    """signo, code, status, int, and the pointer with 64 bits."""
    signo, _, code, *_, status, value, pointer = struct.unpack_from("<IiiIIiIIIIiiQ", buf, 128 * number)
    return signo, code, status, value, pointer


def test_arguments(run: Run) -> None:
    got, _ = results(
        run,
        [
            CREATE,
            ("signalfd4", -1, "offset mask", 4, 0),
            ("signalfd4", -1, "offset mask", 8, 1),
            ("signalfd4", -1, 4, 8, 0),
            ("signalfd4", 99, "offset mask", 8, 0),
            ("signalfd4", 0, "offset mask", 8, 0),
            ("signalfd4", 3, "offset mask", 8, 0),
            ("read", 3, "offset buf", 128),
            ("read", 3, "offset buf", 127),
            ("write", 3, "offset buf", 128),
            ("poll", "offset polled", 1, 0),
        ],
        DATA,
    )
    assert got == [3, EINVAL, EINVAL, EFAULT, EBADF, EINVAL, 3, EAGAIN, EINVAL, EINVAL, 0]


def test_blocked_signals_are_read(run: Run, paging: str) -> None:
    """The lowest number first; a standard signal waits once, a real-time one as often as it was sent."""
    got, buf = results(
        run,
        [
            BLOCK,
            CREATE,
            ("getpid",),
            ("kill", "r2", SIGRT - 34),
            ("rt_sigqueueinfo", "r2", SIGRT, "offset info"),
            ("rt_sigqueueinfo", "r2", SIGRT, "offset info"),
            ("kill", "r2", SIGUSR2),
            ("kill", "r2", SIGUSR2),
            ("poll", "offset polled", 1, -1),
            ("read", 3, "offset buf", 512),
            ("read", 3, "offset buf + 512", 128),
        ],
        DATA,
        paging=paging,
    )
    assert (got[:2], got[3:]) == ([0, 3], [0, 0, 0, 0, 0, 1, 384, EAGAIN])
    assert [record(buf, at) for at in range(3)] == [(SIGUSR2, 0, 0, 0, 0), *[(SIGRT, -1, 0, 0x1234, 0x1234)] * 2]


def test_reading_sleeps_until_a_signal_comes(run: Run) -> None:
    calls: list[Call] = [
        BLOCK,
        ("signalfd", -1, "offset mask", 8),
        ("alarm", 1),
        ("read", 3, "offset buf", 128),
    ]
    got, buf = results(run, calls, DATA)
    assert (got, record(buf, 0)) == ([0, 3, 0, 128], (SIGALRM, 128, 0, 0, 0))


def test_another_mask_and_a_bad_buffer(run: Run) -> None:
    """What could not be stored is lost; what is not in the mask goes on waiting."""
    got, buf = results(
        run,
        [
            BLOCK,
            CREATE,
            ("signalfd", 3, "offset second", 8),
            ("getpid",),
            ("kill", "r3", SIGUSR1),
            ("read", 3, "offset buf", 128),
            ("kill", "r3", SIGUSR2),
            ("read", 3, 4, 128),
            ("read", 3, "offset buf", 128),
            ("rt_sigpending", "offset buf + 8", 8),
        ],
        DATA,
    )
    assert (got[:3], got[4:]) == ([0, 3, 3], [0, EAGAIN, 0, EFAULT, EAGAIN, 0])
    assert struct.unpack_from("<Q", buf, 8) == (1 << SIGUSR1 - 1,)
