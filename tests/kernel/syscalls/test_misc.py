"""Time, randomness and the rest (man 2)."""

from __future__ import annotations

import struct

from tests.conftest import Run
from tests.kernel.calls import results

EFAULT, EINVAL = -14, -22


def test_clocks_agree_and_go_forward(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("time", 0), ("gettimeofday", "offset buf", 0), ("clock_gettime", 0, "offset buf + 8"),
            ("clock_gettime", 1, "offset buf + 16"), ("clock_gettime", 1, "offset buf + 24"),
            ("clock_gettime", 77, "offset buf"), ("clock_gettime", 1, 0x10), ("time", 0x10),
        ],
    )  # fmt: skip
    now = got[0]
    assert got[1:] == [0, 0, 0, 0, EINVAL, EFAULT, EFAULT]
    seconds, micro, again, nano, *monotonic = struct.unpack_from("<8I", buf)
    assert seconds == again == now
    assert micro < 10**6
    assert nano < 10**9
    assert tuple(monotonic[2:]) > tuple(monotonic[:2])


def test_random_bytes(run: Run) -> None:
    first = results(run, [("getrandom", "offset buf", 64, 0), ("getrandom", 0x10, 8, 0)], seed=1)
    again = results(run, [("getrandom", "offset buf", 64, 0), ("getrandom", 0x10, 8, 0)], seed=1)
    other = results(run, [("getrandom", "offset buf", 64, 0)], seed=2)
    assert first == again
    assert first[0] == [64, EFAULT]
    assert first[1] != other[1]
    assert len(set(first[1][:64])) > 20


def test_umask(run: Run) -> None:
    assert results(run, [("umask", 0o777), ("umask", 0o7022), ("umask", 0)])[0] == [0o022, 0o777, 0o022]


def test_sysinfo_counts_memory(run: Run) -> None:
    got, buf = results(run, [("sysinfo", "offset buf"), ("sysinfo", 0x10)], ram=32 << 20)
    total, free = struct.unpack_from("<2I", buf, 16)
    assert got == [0, EFAULT]
    assert 24 << 20 < free < total < 32 << 20
