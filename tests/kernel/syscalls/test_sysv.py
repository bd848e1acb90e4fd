"""System V IPC; every value was seen on a real Linux (6.18, i386 program, root)."""

from __future__ import annotations

import struct

from tests.conftest import Run
from tests.kernel.calls import Call, results

ENOENT, EINTR, E2BIG, EAGAIN, EFAULT, EEXIST, EINVAL = -2, -4, -7, -11, -14, -17, -22
EFBIG, ERANGE, ENOMSG = -27, -34, -42
CREAT, EXCL, NOWAIT = 0o1000, 0o2000, 0o4000
RDONLY, RND, REMAP = 0o10000, 0o20000, 0o40000
IPC_RMID, IPC_SET, IPC_STAT, IPC_64 = 0, 1, 2, 0x100
GETPID, GETVAL, GETALL, GETNCNT, SETVAL, SETALL = 11, 12, 13, 14, 16, 17
SEMOP, SEMTIMEDOP = 1, 4
NOERROR, EXCEPT = 0o10000, 0o20000
KEY = 0x51AB
DATA = """
three:  .word 1, 2, 3
all:    .word 0, -1, 0,  1, -2, 0,  2, 1, 0
nowait: .word 0, -1, 04000
zero:   .word 0, 0, 0
adding: .word 0, 1, 0,  1, -5, 04000
beyond: .word 7, 1, 0
most:   .word 0, 32767, 0
sleep:  .word 0, -2, 0
brief:  .long 0, 10000000
bad:    .long 0, -1
first:  .long 3; .asciz "three"
second: .long 1; .asciz "one"
third:  .long 2; .asciz "two"
none:   .long 0; .asciz "none"
name:   .asciz "/data"
big:    .long 5; .skip 8192, 0x7A
"""


def test_segments(run: Run, paging: str) -> None:
    got, buf = results(
        run,
        [
            ("shmget", KEY, 4096, 0o600),
            ("shmget", KEY, 5000, CREAT | 0o600),
            ("shmget", KEY, 4096, 0),
            ("shmget", KEY, 5001, 0),
            ("shmget", KEY, 5000, CREAT | EXCL),
            ("shmget", 0, 0, 0o600),
            ("shmat", "r1", 0x50000000, 0),
            ("shmat", "r1", 0x50000064, RND | REMAP),
            ("shmat", "r1", 0x50000000, RND),
            ("shmat", "r1", 0x50000001, 0),
            ("shmat", "r1", 0, REMAP),
            ("shmat", "r1", 0x60000000, RDONLY),
            ("open", "offset name", 0),
            ("read", "r12", 0x50000000, 5),
            ("read", "r12", 0x60000000, 5),
            ("shmctl", "r1", IPC_STAT | IPC_64, "offset buf"),
            ("shmdt", 0x60001000),
            ("shmdt", 0x60000000),
            ("shmdt", 0x60000000),
            ("shmctl", "r1", IPC_RMID, 0),
            ("shmget", KEY, 4096, 0),
            ("shmctl", "r1", IPC_STAT, "offset buf + 128"),
            ("shmdt", 0x50000000),
            ("shmctl", "r1", IPC_STAT, "offset buf"),
            ("shmctl", "r1", 77, 0),
            ("shmat", "r1", 0, 0),
        ],
        DATA,
        files={"/data": b"hello more"},
        paging=paging,
    )
    ident = got[1]
    assert got == [
        ENOENT, ident, ident, EINVAL, EEXIST, EINVAL, 0x50000000, 0x50000000, EINVAL, EINVAL, EINVAL, 0x60000000,
        3, 5, EFAULT, 0, EINVAL, 0, EINVAL, 0, ENOENT, 0, 0, EINVAL, EINVAL, EINVAL,
    ]  # fmt: skip
    assert (struct.unpack_from("<I", buf, 36), struct.unpack_from("<I", buf, 72)) == ((5000,), (2,))
    assert (buf[148:150], struct.unpack_from("<I", buf, 200)) == (struct.pack("<H", 0o1600), (1,))


def test_semaphores(run: Run) -> None:
    """A set changes as a whole or not at all."""
    got, buf = results(
        run,
        [
            ("semget", KEY, 3, 0),
            ("semget", KEY, 3, CREAT | 0o600),
            ("semget", KEY, 3, CREAT | EXCL),
            ("semget", KEY, 4, 0),
            ("semget", KEY, 0, 0),
            ("semget", 0, 0, 0o600),
            ("semget", 0, 32001, 0o600),
            ("semctl", "r1", 0, SETALL, "offset three"),
            ("semctl", "r1", 0, GETALL, "offset buf"),
            ("semctl", "r1", 1, SETVAL, -1),
            ("semctl", "r1", 1, SETVAL, 40000),
            ("semctl", "r1", 3, GETVAL),
            ("ipc", SEMOP, "r1", 3, 0, "offset all"),
            ("semctl", "r1", 1, GETVAL),
            ("semctl", "r1", 2, GETVAL),
            ("ipc", SEMOP, "r1", 1, 0, "offset nowait"),
            ("ipc", SEMOP, "r1", 1, 0, "offset zero"),
            ("ipc", SEMOP, "r1", 2, 0, "offset adding"),
            ("semctl", "r1", 0, GETVAL),
            ("ipc", SEMOP, "r1", 1, 0, "offset beyond"),
            ("ipc", SEMOP, "r1", 0, 0, "offset zero"),
            ("ipc", SEMOP, "r1", 501, 0, "offset zero"),
            ("ipc", SEMOP, -1, 1, 0, "offset zero"),
            ("ipc", SEMOP, "r1", 1, 0, 4),
            ("ipc", SEMOP, "r1", 1, 0, "offset most"),
            ("ipc", SEMOP, "r1", 1, 0, "offset adding"),
            ("semctl", "r1", 0, SETVAL, 0),
            ("ipc", SEMTIMEDOP, "r1", 1, 0, "offset sleep", "offset brief"),
            ("semctl", "r1", 0, IPC_RMID),
            ("semctl", "r1", 0, GETVAL),
        ],
        DATA,
    )
    ident = got[1]
    assert got == [
        ENOENT, ident, EEXIST, EINVAL, ident, EINVAL, EINVAL, 0, 0, ERANGE, ERANGE, EINVAL, 0, 0, 4, EAGAIN, 0, EAGAIN,
        0, EFBIG, EINVAL, E2BIG, EINVAL, EFAULT, 0, ERANGE, 0, EAGAIN, 0, EINVAL,
    ]  # fmt: skip
    assert struct.unpack_from("<3H", buf) == (1, 2, 3)


def test_messages(run: Run, paging: str) -> None:
    got, buf = results(
        run,
        [
            ("msgget", KEY, 0),
            ("msgget", KEY, CREAT | 0o600),
            ("msgget", KEY, CREAT | EXCL),
            ("msgsnd", "r1", "offset first", 6, 0),
            ("msgsnd", "r1", "offset second", 4, 0),
            ("msgsnd", "r1", "offset third", 4, 0),
            ("msgsnd", "r1", "offset none", 4, 0),
            ("msgsnd", "r1", "offset first", 8193, 0),
            ("msgsnd", "r1", 4, 4, 0),
            ("msgrcv", "r1", "offset buf", 100, 2, 0),
            ("msgrcv", "r1", "offset buf + 16", 100, 2, NOWAIT),
            ("msgrcv", "r1", "offset buf + 16", 100, -2, 0),
            ("msgrcv", "r1", "offset buf + 32", 3, 0, 0),
            ("msgrcv", "r1", "offset buf + 32", 3, 0, NOERROR),
            ("msgrcv", "r1", "offset buf", 100, 0, NOWAIT),
            ("msgrcv", "r1", "offset buf", -1, 0, 0),
            ("msgsnd", "r1", "offset big", 8192, 0),
            ("msgsnd", "r1", "offset big", 8192, 0),
            ("msgsnd", "r1", "offset second", 1, NOWAIT),
            ("msgrcv", "r1", "offset buf", 100, 5, EXCEPT | NOWAIT),
            ("msgctl", "r1", IPC_RMID, 0),
            ("msgrcv", "r1", "offset buf", 10, 0, 0),
        ],
        DATA,
        paging=paging,
    )
    assert got == [
        ENOENT, got[1], EEXIST, 0, 0, 0, EINVAL, EINVAL, EFAULT, 4, ENOMSG, 4, E2BIG, 3, ENOMSG, EINVAL, 0, 0, EAGAIN,
        ENOMSG, 0, EINVAL,
    ]  # fmt: skip
    assert (buf[:8], buf[16:24], buf[32:39]) == (b"\2\0\0\0two\0", b"\1\0\0\0one\0", b"\3\0\0\0thr")


def test_a_signal_ends_the_wait(run: Run) -> None:
    calls: list[Call] = [
        ("signal", 14, "offset handler"),
        ("msgget", 0, 0o600),
        ("alarm", 1),
        ("msgrcv", "r1", "offset buf", 10, 0, 0),
        ("semget", 0, 1, 0o600),
        ("signal", 14, "offset handler"),
        ("alarm", 1),
        ("ipc", SEMOP, "r4", 1, 0, "offset sleep"),
    ]
    got, _ = results(run, calls, DATA + ".text\nhandler: ret\n.data\n")
    assert (got[3], got[7]) == (EINTR, EINTR)


def test_between_processes(run: Run, paging: str) -> None:
    """A child stores to a segment, undoes a semaphore by its end, and a removal wakes who sleeps."""
    result = run(
        """
        .equ SYS_shmget, 395
        .equ SYS_shmat, 397
        .equ SYS_semget, 393
        .equ SYS_semctl, 394
        .equ SYS_ipc, 117
_start: sys shmget, 0, 4096, 0x180
        sys shmat, eax, 0x50000000, 0
        sys semget, 0, 1, 0x180
        mov ebp, eax
        sys fork
        test eax, eax
        jnz parent
        mov dword ptr [0x50000000], 0x1234
        sys ipc, 1, ebp, 1, 0, "offset up"
        sys nanosleep, "offset nap", 0
        sys semctl, ebp, 0, 0
        sys exit, 0
parent: sys ipc, 1, ebp, 1, 0, "offset down"
        test eax, eax
        jnz bad
        cmp dword ptr [0x50000000], 0x1234
        jne bad
        sys ipc, 1, ebp, 1, 0, "offset down"
        cmp eax, -43
        jne bad
        pass
bad:    sys exit, 1
        .data
up:     .word 0, 1, 0
down:   .word 0, -1, 0
nap:    .long 0, 20000000
""",
        paging=paging,
    )
    assert result.passed, result.headline()
