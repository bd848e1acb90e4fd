"""Identity, groups, kill, wait, thread areas (man 2)."""

from __future__ import annotations

import struct

from tests.conftest import Run
from tests.kernel.calls import results

EPERM, ESRCH, ECHILD, EFAULT, EINVAL = -1, -3, -10, -14, -22


def test_identity(run: Run) -> None:
    got, _ = results(
        run,
        [
            ("getpid",), ("gettid",), ("getppid",), ("getuid",), ("geteuid32",), ("getgid",), ("getpgrp",),
            ("getpgid", 0), ("getpgid", 77), ("getsid", 0), ("setsid",), ("set_tid_address", "offset buf"),
        ],
    )  # fmt: skip
    assert got == [3, 3, 2, 0, 0, 0, 2, 2, ESRCH, 2, 3, 3]


def test_affinity_names_every_cpu(run: Run) -> None:
    calls = [
        ("sched_getaffinity", 0, 4, "offset buf"), ("sched_getaffinity", 1, 128, "offset buf + 8"),
        ("sched_getaffinity", 0, 3, "offset buf"), ("sched_getaffinity", 0, 0, "offset buf"),
        ("sched_getaffinity", 999, 4, "offset buf"), ("sched_getaffinity", 0, 4, 0x10),
    ]  # fmt: skip
    got, buf = results(run, calls, cpus=3)
    assert got == [4, 4, EINVAL, EINVAL, ESRCH, EFAULT]
    assert (buf[:8], buf[8:16]) == (b"\7" + bytes(7), b"\7" + bytes(7))


def test_kill(run: Run) -> None:
    got, _ = results(
        run, [("kill", 1, 0), ("kill", 1, 65), ("kill", 99, 0), ("kill", 99, 9), ("kill", 1, 17), ("kill", -99, 0)]
    )
    assert got == [0, EINVAL, ESRCH, ESRCH, 0, ESRCH]


def test_wait(run: Run) -> None:
    got, _ = results(
        run, [("wait4", -1, 0, 0, 0), ("waitpid", 5, 0, 1), ("wait4", -1, 0, 0x100, 0), ("wait4", -1, 0, 4, 0)]
    )
    assert got == [ECHILD, ECHILD, EINVAL, EINVAL]


def test_clone_refuses_threads(run: Run) -> None:
    got, _ = results(run, [("clone", 0x10F00, 0, 0, 0, 0)])
    assert got == [EINVAL]


def test_thread_areas(run: Run) -> None:
    """set_thread_area(-1) hands out entries 6 to 8, then ESRCH; the number is stored back."""
    block = ".long -1, 0x12345678, 0xFFFFF, 0x51\n"
    got, _ = results(
        run,
        [("set_thread_area", f"offset t{number}") for number in range(4)]
        + [("set_thread_area", "offset bad"), ("set_thread_area", 0xC0000000)]
        + [("write", 1, "offset t0", 4)],
        "".join(f"t{number}: {block}" for number in range(4)) + "bad: .long 9, 0, 0, 0x51\n",
    )
    assert got == [0, 0, 0, ESRCH, EINVAL, EFAULT, 4]


def test_prctl_name(run: Run) -> None:
    got, buf = results(
        run, [("prctl", 15, "offset name"), ("prctl", 16, "offset buf"), ("prctl", 999, 0), ("prctl", 16, 0x10)],
        'name: .asciz "a-very-long-task-name"',
    )  # fmt: skip
    assert got == [0, 0, EINVAL, EFAULT]
    assert buf[:16] == b"a-very-long-tas\0"


def test_uname_and_limits(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("uname", "offset buf"),
            ("uname", 0x10),
            ("ugetrlimit", 3, "offset buf + 400"),
            ("ugetrlimit", 99, "offset buf"),
        ],
    )
    assert got == [0, EFAULT, 0, EINVAL]
    assert buf[:6] == b"Linux\0"
    assert buf[260:265] == b"i686\0"
    assert struct.unpack_from("<I", buf, 400) == (8 << 20,)
