"""timerfd; every value was seen on a real Linux (6.18, i386 program)."""

from __future__ import annotations

import struct

import pytest

from tests.conftest import Run
from tests.kernel.calls import Call, results

EBADF, EAGAIN, EFAULT, EINVAL = -9, -11, -14, -22
O_NONBLOCK, ABSTIME = 0o4000, 1
MILLION = 1_000_000
DATA = f"""
off:    .long 0, 0, 0, 0
once:   .long 0, 0, 0, {10 * MILLION}
often:  .long 0, {20 * MILLION}, 0, {10 * MILLION}
late:   .long 0, {100 * MILLION}, 0, {1}
bad:    .long 0, 0, 0, 1000000000
worse:  .long 0, 0, -1, 0
pause:  .long 0, {60 * MILLION}
second: .long 1, 0
wide:   .quad 0, 0, 99, 5
polled: .long 3, 5
"""
CREATE: Call = ("timerfd_create", 1, O_NONBLOCK)


@pytest.mark.parametrize(
    ("clock", "there"), [(-1, 0), (0, 1), (1, 1), (2, 0), (5, 0), (6, 0), (7, 1), (8, 1), (9, 1), (10, 0)]
)
def test_clocks(run: Run, clock: int, there: int) -> None:
    assert results(run, [("timerfd_create", clock, 0)])[0] == [3 if there else EINVAL]


def test_arguments(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("timerfd_create", 1, 1),
            CREATE,
            ("read", 3, "offset buf", 8),
            ("read", 3, "offset buf", 4),
            ("write", 3, "offset buf", 8),
            ("timerfd_gettime", 3, "offset buf"),
            ("timerfd_settime", 0, 0, "offset once", 0),
            ("timerfd_settime", 99, 0, "offset once", 0),
            ("timerfd_settime", 3, 8, "offset once", 0),
            ("timerfd_settime", 3, 0, "offset bad", 0),
            ("timerfd_settime", 3, 0, "offset worse", 0),
            ("timerfd_settime", 3, 0, 4, 0),
            ("timerfd_gettime", 3, 4),
            ("timerfd_gettime", 0, "offset buf"),
        ],
        DATA,
    )
    assert got == [
        EINVAL, 3, EAGAIN, EINVAL, EINVAL, 0, EINVAL, EBADF, EINVAL, EINVAL, EINVAL, EFAULT, EFAULT, EINVAL,
    ]  # fmt: skip
    assert buf[:16] == bytes(16)


def test_once(run: Run, paging: str) -> None:
    """poll sleeps until it expires; read takes the count and leaves it disarmed."""
    got, buf = results(
        run,
        [
            CREATE,
            ("timerfd_settime", 3, 0, "offset once", 0),
            ("poll", "offset polled", 1, 0),
            ("poll", "offset polled", 1, -1),
            ("read", 3, "offset buf", 100),
            ("read", 3, "offset buf + 8", 8),
            ("timerfd_gettime", 3, "offset buf + 16"),
        ],
        DATA,
        paging=paging,
    )
    assert got == [3, 0, 0, 1, 8, EAGAIN, 0]
    assert struct.unpack_from("<Q", buf) == (1,) and buf[16:32] == bytes(16)


def test_periods_that_nobody_saw_are_counted(run: Run) -> None:
    got, buf = results(
        run,
        [
            CREATE,
            ("timerfd_settime", 3, 0, "offset often", 0),
            ("nanosleep", "offset pause", 0),
            ("read", 3, "offset buf", 8),
            ("timerfd_gettime", 3, "offset buf + 8"),
            ("fcntl64", 3, 4, 0),
            ("read", 3, "offset buf + 24", 8),
            ("timerfd_settime64", 3, 0, "offset wide", 0),
            ("timerfd_settime", 3, 0, "offset off", "offset buf + 32"),
        ],
        DATA,
    )
    assert got == [3, 0, 0, 8, 0, 0, 8, 0, 0]
    ticks, _, period, seconds, left, more = struct.unpack_from("<Q4iQ", buf)
    assert (ticks, period, seconds, more) == (3, 20 * MILLION, 0, 1) and 0 < left <= 20 * MILLION
    assert struct.unpack_from("<3i", buf, 32) == (0, 0, 98)  # 99.000000005 seconds, and some went by


def test_a_time_that_is_past(run: Run) -> None:
    """Armed for 1 ns after the start of the monotonic clock, after a second: eleven periods are over."""
    got, buf = results(
        run,
        [
            ("nanosleep", "offset second", 0),
            CREATE,
            ("timerfd_settime", 3, ABSTIME, "offset late", 0),
            ("read", 3, "offset buf", 8),
            ("dup", 3),
            ("close", 3),
            ("read", 4, "offset buf + 8", 8),
        ],
        DATA,
    )
    assert got == [0, 3, 0, 8, 4, 0, EAGAIN]
    assert struct.unpack_from("<Q", buf) == (11,)
