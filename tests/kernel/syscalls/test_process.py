"""Identity, groups, kill, wait, thread areas (man 2)."""

from __future__ import annotations

import struct

import pytest

from tests.conftest import Run
from tests.kernel.calls import results

EPERM, ESRCH, E2BIG, ECHILD, EFAULT, EINVAL, ENAMETOOLONG = -1, -3, -7, -10, -14, -22, -36


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


def test_clone_refuses(run: Run) -> None:
    """Errnos of a Linux run: THREAD needs SIGHAND, SIGHAND needs VM, NEWNS is against FS, PIDFD against DETACHED."""
    flags = (0x10000, 0x10800, 0x800, 0x10100, 0x20200, 0x401000)
    calls = [("clone", each | 17, 0, 0, 0, 0) for each in flags]
    calls += [("clone", 0x80011, 0, 0, 0x10, 0), ("clone", 0x80011, 0, 0, "offset slot", 0), ("wait4", -1, 0, 0, 0)]
    got, _ = results(run, calls, "slot: .long 99, 0, 0xFFFFF, 0x51\n")
    assert got == [EINVAL] * 6 + [EFAULT, EINVAL, ECHILD]


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


PATH_CALLS = [
    ("access", "offset big", 0), ("open", "offset big", 0, 0), ("stat64", "offset big", "offset buf"),
    ("chdir", "offset big"), ("unlink", "offset big"), ("rename", "offset big", "offset x"), ("mkdir", "offset big", 0),
    ("readlink", "offset big", "offset buf", 9), ("link", "offset big", "offset x"), ("truncate", "offset big", 0),
    ("execve", "offset big", 0, 0),
]  # fmt: skip


@pytest.mark.parametrize("size", [4096, 5000, 100_000])
def test_paths_without_nul_in_4096_bytes(run: Run, size: int) -> None:
    """Natively (gcc -m32): ENAMETOOLONG from each of them, however long."""
    got, _ = results(run, PATH_CALLS, f"big: .fill {size}, 1, 'a'\n .byte 0\nx: .asciz \"x\"")
    assert got == [ENAMETOOLONG] * len(PATH_CALLS)


def test_path_that_runs_into_a_missing_page(run: Run) -> None:
    """Natively: EFAULT after less than 4,096 bytes, ENAMETOOLONG after more."""
    calls = [
        ("mmap2", 0x60000000, 0x3000, 3, 0x32, -1, 0), ("open", "offset one", 0, 0), ("read", "r1", "r0", 0x2000),
        ("munmap", 0x60002000, 0x1000),
        ("access", 0x60001001, 0), ("access", 0x60001000, 0), ("access", 0x60000000, 0),
    ]  # fmt: skip
    got, _ = results(run, calls, 'one: .asciz "/one"', files={"/one": b"b" * 0x2000})
    assert got[3:] == [0, EFAULT, ENAMETOOLONG, ENAMETOOLONG]


LONG_ARGUMENT = """
_start: cmp dword ptr [esp], 2
        je 2f
        mov eax, 11                     # execve
        mov ebx, offset path
        mov ecx, offset list
        xor edx, edx
        int 0x80
        neg eax
        mov ebx, eax
        mov eax, 1                      # exit
        int 0x80
2:      mov edi, [esp+8]
        xor eax, eax
        or ecx, -1
        repne scasb                     # edi is behind the NUL
        neg ecx
        sub ecx, 2
        cmp ecx, {size}
        jne 3f
        mov ebx, 77
        mov eax, 1
        int 0x80
3:      ud2
        .data
path:   .asciz "/proc/self/exe"
list:   .long path, big, 0
big:    .fill {size}, 1, 'n'
        .byte 0
"""


@pytest.mark.parametrize(("size", "status"), [(4095, 77), (4096, 77), (6000, 77), (100_000, 77), (131_072, -E2BIG)])
def test_execve_with_one_long_argument(run: Run, size: int, status: int) -> None:
    """execve(2): up to 128 KB with the NUL (MAX_ARG_STRLEN), then E2BIG; tried natively."""
    assert run(LONG_ARGUMENT.format(size=size)).status == status
