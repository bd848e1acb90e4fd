"""splice, tee and vmsplice; every value was seen on a real Linux (6.18, i386 program)."""

from __future__ import annotations

import struct

from tests.conftest import Run
from tests.kernel.calls import Call, results

EBADF, EAGAIN, EFAULT, EINVAL, ESPIPE, EPIPE = -9, -11, -14, -22, -29, -32
O_NONBLOCK, NONBLOCK = 0o4000, 2
FILE, IN, OUT, IN2, OUT2 = 3, 4, 5, 6, 7
OPEN: list[Call] = [
    ("open", "offset name", 2, 0),
    ("pipe2", "offset fds", O_NONBLOCK),
    ("pipe2", "offset fds", O_NONBLOCK),
]
DATA = """
name:   .asciz "/data"
        .balign 8
text:   .ascii "abcdefgh"
at:     .quad 0
below:  .quad -1
last:   .quad 69990
five:   .quad 5
vec:    .long text, 3, text + 3, 3, 1, 5
into:   .long buf, 4, buf + 8, 4
fds:    .skip 8
"""
FILE_BYTES = bytes(ord("A") + at % 26 for at in range(70_000))


def outcome(run: Run, calls: list[Call], **config: object) -> tuple[list[int], bytes]:
    got, buf = results(run, [*OPEN, *calls], DATA, files={"/data": FILE_BYTES}, **config)
    assert got[:3] == [3, 0, 0]
    return got[3:], buf


def test_arguments(run: Run) -> None:
    got, _ = outcome(
        run,
        [
            ("splice", 99, 0, OUT, 0, 5, 0),
            ("splice", 99, 0, 98, 0, 0, 0),
            ("splice", FILE, 0, OUT, 0, 5, 64),
            ("splice", OUT, 0, FILE, 0, 5, 0),
            ("splice", FILE, 0, IN, 0, 5, 0),
            ("splice", FILE, 0, FILE, 0, 5, 0),
            ("splice", IN, 0, OUT, 0, 5, 0),
            ("splice", IN, "offset at", FILE, 0, 5, 0),
            ("splice", FILE, 0, OUT, "offset at", 5, 0),
            ("splice", IN, 0, FILE, 0, 5, 0),
            ("splice", IN, 0, OUT2, 0, 5, 0),
            ("splice", FILE, "offset below", OUT, 0, 5, 0),
            ("splice", FILE, 1, OUT, 0, 5, 0),
            ("tee", IN, OUT2, 4, 0),
            ("tee", FILE, OUT2, 4, 0),
            ("tee", IN, OUT, 4, 0),
            ("tee", IN, OUT2, 0, 0),
            ("tee", IN, OUT2, 4, 64),
            ("tee", IN, FILE, 4, 0),
        ],
    )
    assert got == [
        EBADF, 0, EINVAL, EBADF, EBADF, EINVAL, EINVAL, ESPIPE, ESPIPE, EAGAIN, EAGAIN, EINVAL, EFAULT,
        EAGAIN, EINVAL, EINVAL, 0, EINVAL, EINVAL,
    ]  # fmt: skip


def test_a_file_into_a_pipe_and_back(run: Run, paging: str) -> None:
    """Sixteen pages fit; offsets in memory move, the file's own position moves without one."""
    got, buf = outcome(
        run,
        [
            ("splice", FILE, "offset at", OUT, 0, 70_000, 0),
            ("splice", FILE, 0, OUT, 0, 5, 0),
            ("read", IN, "offset buf", 4000),
            ("splice", IN, 0, FILE, "offset five", 7, 0),
            ("splice", IN, 0, FILE, 0, 100_000, 0),
            ("lseek", FILE, 0, 1),
            ("splice", FILE, "offset last", OUT, 0, 4096, 0),
            ("splice", FILE, "offset last", OUT, 0, 4096, 0),
            ("pread64", FILE, "offset buf + 4000", 16, 0, 0),
        ],
        paging=paging,
    )
    assert got == [65536, EAGAIN, 4000, 7, 61529, 61529, 10, 0, 16]
    assert buf[:4000] == FILE_BYTES[:4000]
    assert buf[4000:4016] == FILE_BYTES[4007:4023]  # the second splice wrote over the first


def test_pipes_hand_pages_on_and_share_them(run: Run, paging: str) -> None:
    """What tee copied does not grow when either ring gets more."""
    got, buf = outcome(
        run,
        [
            ("write", OUT, "offset text", 6),
            ("tee", IN, OUT2, 4, 0),
            ("write", OUT2, "offset text", 2),
            ("write", OUT, "offset text + 6", 2),
            ("read", IN2, "offset buf", 100),
            ("read", IN, "offset buf + 16", 100),
            ("write", OUT, "offset text", 6),
            ("splice", IN, 0, OUT2, 0, 4, 0),
            ("write", OUT2, "offset text", 2),
            ("write", OUT, "offset text + 6", 2),
            ("splice", IN, 0, OUT2, 0, 100, 0),
            ("read", IN2, "offset buf + 32", 100),
        ],
        paging=paging,
    )
    assert got == [6, 4, 2, 2, 6, 8, 6, 4, 2, 2, 4, 10]
    assert (buf[:6], buf[16:24], buf[32:42]) == (b"abcdab", b"abcdefgh", b"abcdabefgh")


def test_memory_into_a_pipe_and_back(run: Run, paging: str) -> None:
    got, buf = outcome(
        run,
        [
            ("vmsplice", OUT, "offset vec", 2, 0),
            ("vmsplice", OUT, "offset vec", 3, 0),
            ("vmsplice", OUT, "offset vec + 16", 1, 0),
            ("vmsplice", FILE, "offset vec", 2, 0),
            ("vmsplice", OUT, "offset vec", 2000, 0),
            ("vmsplice", OUT, 0, 0, 0),
            ("vmsplice", OUT, 1, 1, 0),
            ("vmsplice", OUT, "offset vec", 2, 64),
            ("vmsplice", 99, "offset vec", 2, 0),
            ("vmsplice", IN, "offset into", 2, 0),
            ("read", IN, "offset buf + 16", 100),
            ("vmsplice", IN, "offset into", 2, NONBLOCK),
        ],
        paging=paging,
    )
    assert got == [6, 6, EFAULT, EBADF, EINVAL, 0, EFAULT, EINVAL, EBADF, 8, 4, EAGAIN]
    assert (buf[:4], buf[8:12], buf[16:20]) == (b"abcd", b"efab", b"cdef")


def test_nobody_reads(run: Run) -> None:
    """With SIGPIPE ignored."""
    got, _ = outcome(
        run,
        [
            ("signal", 13, 1),
            ("close", IN2),
            ("write", OUT, "offset text", 3),
            ("splice", IN, 0, OUT2, 0, 3, 0),
            ("tee", IN, OUT2, 3, 0),
            ("splice", FILE, 0, OUT2, 0, 3, 0),
            ("vmsplice", OUT2, "offset vec", 1, 0),
            ("close", OUT),
            ("splice", IN, 0, FILE, 0, 99, 0),
            ("splice", IN, 0, FILE, 0, 99, 0),
        ],
    )
    assert got == [0, 0, 3, EPIPE, EPIPE, EPIPE, EPIPE, 0, 3, 0]


def test_into_a_socket(run: Run) -> None:
    calls: list[Call] = [
        ("socketpair", 1, 1, 0, "offset fds"),
        ("write", OUT, "offset text", 3),
        ("splice", IN, 0, 8, 0, 3, 0),
        ("sendfile", 8, FILE, 0, 4),
        ("read", 9, "offset buf", 10),
    ]
    got, buf = outcome(run, calls)
    assert (got, buf[:7]) == ([0, 3, 3, 4, 7], b"abcABCD")


def test_copy_file_range_at_the_end_of_the_same_file(run: Run) -> None:
    """Ranges overlap only as far as there is something to copy."""
    calls: list[Call] = [
        ("lseek", FILE, 0, 2),
        ("copy_file_range", FILE, 0, FILE, 0, 1, 0),
        ("copy_file_range", FILE, "offset at", FILE, "offset five", 10, 0),
        ("copy_file_range", FILE, "offset at", FILE, "offset five", 5, 0),
    ]
    assert outcome(run, calls)[0] == [70_000, 0, EINVAL, 5]


def test_owners_of_signals_leases_and_hints(run: Run) -> None:
    calls: list[Call] = [
        ("fcntl64", FILE, 8, "-7"),
        ("fcntl64", FILE, 16, "offset buf"),
        ("fcntl64", FILE, 10, 10),
        ("fcntl64", FILE, 11),
        ("fcntl64", FILE, 10, 99),
        ("fcntl64", FILE, 1024, 0),
        ("fcntl64", FILE, 1024, 77),
        ("fcntl64", IN, 1024, 0),
        ("fcntl64", FILE, 1025),
        ("fcntl64", FILE, 1035, "offset buf + 8"),
    ]
    got, buf = outcome(run, calls)
    assert got == [0, 0, 0, 10, EINVAL, EAGAIN, EINVAL, EINVAL, 2, 0]
    assert struct.unpack("<iiQ", buf[:16]) == (2, 7, 0)
