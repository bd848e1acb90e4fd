"""poll, select, epoll, eventfd and socketpair (man 2); the results were compared with a native run."""

from __future__ import annotations

import itertools
import struct

from tests.conftest import Run
from tests.kernel.calls import results

ENOENT, EAGAIN, EFAULT, EEXIST, EINVAL, EBADF, EPERM, EPIPE, ELOOP = -2, -11, -14, -17, -22, -9, -1, -32, -40
ENOTSOCK, ESOCKTNOSUPPORT, EAFNOSUPPORT = -88, -94, -97
IN, OUT, ERR, HUP, NVAL, RDNORM, WRNORM, RDHUP = 1, 4, 8, 16, 32, 0x40, 0x100, 0x2000
O_NONBLOCK = 0o4000


def pollfds(*each: tuple[int | str, int]) -> str:
    """Assembler data: ``struct pollfd`` for (descriptor, events)."""
    return "\n".join(f".long {fd}\n.short {events}, 0x5555" for fd, events in each)


def revents(buf: bytes, count: int, at: int = 0) -> list[int]:
    return [struct.unpack_from("<H", buf, at + 8 * index + 6)[0] for index in range(count)]


def test_poll_of_a_pipe(run: Run, paging: str) -> None:
    fds = f"fds:{pollfds((3, IN | RDNORM), (4, OUT), (-1, IN), (77, IN))}"
    got, buf = results(
        run,
        [
            ("pipe", "offset ends"),
            ("poll", "offset fds", 4, 0),
            ("write", 4, "offset fds", 32),
            ("poll", "offset fds", 4, -1),
            ("read", 3, "offset buf", 32),
            ("close", 4),
            ("poll", "offset fds", 1, -1),
            ("dup2", 0, 0),
            ("write", 1, "offset fds", 0),
            ("poll", 0x10, 1, 0),
            ("poll", "offset fds", 1025 * 1024, 0),
            ("poll", "offset fds", 4, 0),
        ],
        f".balign 4\n{fds}\nends: .long 0, 0",
        paging=paging,
    )
    assert got == [0, 2, 32, 3, 32, 0, 1, 0, 0, EFAULT, EINVAL, 3]
    assert revents(buf, 4) == [0, OUT, 0, NVAL]


def test_poll_tells_hup_and_err(run: Run) -> None:
    fds = f"fds:{pollfds((3, IN), (6, OUT))}"
    got, buf = results(
        run,
        [
            ("pipe", "offset ends"),
            ("pipe", "offset ends"),
            ("close", 4),
            ("close", 5),
            ("poll", "offset fds", 2, -1),
            ("pipe", "offset ends"),
            ("write", 5, "offset fds", 16),
            ("read", 4, "offset buf", 16),
        ],
        f".balign 4\n{fds}\nends: .long 0, 0",
    )
    assert got == [0, 0, 0, 0, 2, 0, 16, 16]
    assert revents(buf, 2) == [HUP, OUT | ERR]


def test_regular_files_are_always_ready(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("open", "offset name", 0, 0),
            ("open", "offset root", 0, 0),
            ("poll", "offset fds", 2, -1),
            ("pipe", "offset ends"),
            ("write", 6, "offset fds", 16),
            ("read", 5, "offset buf", 16),
        ],
        f'.balign 4\nfds:{pollfds((3, 0xFFFF), (4, IN))}\nends: .long 0, 0\nname: .asciz "/data"\nroot: .asciz "/"',
        files={"/data": b"x"},
    )
    assert got == [3, 4, 2, 0, 16, 16]
    assert revents(buf, 2) == [IN | OUT | RDNORM | WRNORM, IN]


def test_select(run: Run, paging: str) -> None:
    """Sets are replaced by what is ready; what is left of the time is stored back."""
    got, buf = results(
        run,
        [
            ("pipe", "offset ends"),
            ("_newselect", 5, "offset reading", "offset writing", 0, 0),
            ("_newselect", 5, "offset reading", 0, 0, "offset time"),
            ("write", 4, "offset reading", 12),
            ("read", 3, "offset buf", 12),
            ("_newselect", 7, "offset all", 0, 0, 0),
            ("_newselect", -1, 0, 0, 0, 0),
            ("_newselect", 5, 0x10, 0, 0, 0),
            ("_newselect", 5, 0, 0, 0, "offset bad"),
            ("select", "offset block"),
            ("_newselect", 0, 0, 0, 0, "offset little"),
        ],
        "reading: .long 0x8\nwriting: .long 0x10\nends: .long 0, 0\nall: .long 0x40\ntime: .long 0, 1000\n"
        "bad: .long -1, 0\nlittle: .long 0, 1\nset: .long 0x18\n"
        "block: .long 5, 0, offset set, 0, offset time",
        paging=paging,
    )
    assert got == [0, 1, 0, 12, 12, EBADF, EINVAL, EFAULT, EINVAL, 1, 0]
    assert struct.unpack_from("<2I", buf) == (0, 0x10)


def test_timeouts_pass_in_the_machines_time(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("clock_gettime", 1, "offset buf"),
            ("poll", 0, 0, 1500),
            ("clock_gettime", 1, "offset buf + 8"),
            ("_newselect", 0, 0, 0, 0, "offset select_time"),
            ("clock_gettime", 1, "offset buf + 16"),
            ("ppoll", 0, 0, "offset poll_time", 0, 8),
            ("clock_gettime", 1, "offset buf + 24"),
            ("pselect6_time64", 0, 0, 0, 0, "offset wide", 0),
            ("clock_gettime", 1, "offset buf + 32"),
            ("ppoll", 0, 0, "offset poll_time", "offset poll_time", 4),
            ("ppoll", 0, 0, "offset bad", 0, 8),
        ],
        "select_time: .long 2, 500000\npoll_time: .long 3, 0\nwide: .long 4, 0, 0, 0\nbad: .long 0, 1000000000",
    )
    assert got == [0] * 9 + [EINVAL, EINVAL]
    times = [seconds * 10**9 + nano for seconds, nano in struct.iter_unpack("<2I", buf[:40])]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    for wait, wanted in zip(waits, (1.5e9, 2.5e9, 3e9, 4e9), strict=True):
        assert wanted <= wait < wanted + 1e6


def test_a_writer_wakes_a_poller(run: Run) -> None:
    result = run(
        """
_start: sys pipe, "offset ends"
        sys fork
        test eax, eax
        jz child
        mov ebx, offset fds
        mov ecx, 1
        mov edx, -1
        mov eax, 168
        int 0x80
        cmp eax, 1
        jne bad
        cmp word ptr [fds + 6], 1
        jne bad
        sys read, 3, "offset got", 4
        cmp dword ptr [got], 0x64636261
        jne bad
        pass
bad:    sys exit, 1
child:  sys nanosleep, "offset second", 0
        sys write, 4, "offset text", 4
        pass
        .data
ends:   .long 0, 0
fds:    .long 3
        .short 1, 0
second: .long 1, 0
got:    .long 0
text:   .ascii "abcd"
"""
    )
    assert result.passed, result.headline()


def test_epoll(run: Run, paging: str) -> None:
    got, buf = results(
        run,
        [
            ("epoll_create1", 0o2000000),
            ("pipe", "offset ends"),
            ("epoll_ctl", 3, 1, 4, "offset reading"),
            ("epoll_ctl", 3, 1, 4, "offset reading"),
            ("epoll_ctl", 3, 3, 5, "offset reading"),
            ("epoll_ctl", 3, 2, 5, 0),
            ("epoll_ctl", 3, 9, 4, "offset reading"),
            ("epoll_ctl", 3, 1, 3, "offset reading"),
            ("epoll_ctl", 3, 1, 99, "offset reading"),
            ("epoll_ctl", 3, 1, 5, 0x10),
            ("epoll_ctl", 4, 1, 5, "offset reading"),
            ("epoll_wait", 3, "offset buf", 8, 0),
            ("epoll_ctl", 3, 1, 5, "offset writing"),
            ("epoll_wait", 3, "offset buf", 8, -1),
            ("epoll_wait", 3, "offset buf", 8, 0),
            ("write", 5, "offset ends", 8),
            ("epoll_wait", 3, "offset buf + 16", 8, -1),
            ("close", 5),
            ("epoll_wait", 3, "offset buf + 48", 8, 0),
            ("epoll_wait", 3, "offset buf", 0, 0),
            ("epoll_wait", 4, "offset buf", 1, 0),
            ("epoll_wait", 3, 0x10, 1, 0),
            ("open", "offset root", 0, 0),
            ("epoll_ctl", 3, 1, 5, "offset reading"),
            ("epoll_create", 0),
            ("epoll_create1", 1),
        ],
        "reading: .long 1\n.quad 0x1122334455667788\nwriting: .long 4 | 1 << 30\n.quad 0x99\nends: .long 0, 0\n"
        'root: .asciz "/"',
        paging=paging,
    )
    assert got == [
        3, 0, 0, EEXIST, ENOENT, ENOENT, EINVAL, EINVAL, EBADF, EFAULT, EINVAL,
        0, 0, 1, 0, 8, 1, 0, 1, EINVAL, EINVAL, EFAULT, 5, EPERM, EINVAL, EINVAL,
    ]  # fmt: skip
    assert struct.unpack_from("<IQ", buf, 0) == (OUT, 0x99)
    assert struct.unpack_from("<IQ", buf, 16) == (IN, 0x1122334455667788)
    assert struct.unpack_from("<IQ", buf, 48) == (IN | HUP, 0x1122334455667788)


def test_epoll_edges_and_nesting(run: Run) -> None:
    got, _ = results(
        run,
        [
            ("epoll_create1", 0),
            ("eventfd2", 1, 0),
            ("epoll_ctl", 3, 1, 4, "offset edge"),
            ("epoll_wait", 3, "offset buf", 8, 0),
            ("epoll_wait", 3, "offset buf", 8, 0),
            ("write", 4, "offset one", 8),
            ("epoll_wait", 3, "offset buf", 8, 0),
            ("epoll_wait", 3, "offset buf", 8, 0),
            ("epoll_create1", 0),
            ("epoll_ctl", 5, 1, 3, "offset level"),
            ("epoll_wait", 5, "offset buf", 8, 0),
            ("write", 4, "offset one", 8),
            ("epoll_wait", 5, "offset buf", 8, 0),
            ("epoll_ctl", 3, 1, 5, "offset level"),
        ],
        "edge: .long 1 << 31 | 1\n.quad 7\nlevel: .long 1\n.quad 8\none: .quad 1",
    )
    assert got == [3, 4, 0, 1, 0, 8, 1, 0, 5, 0, 0, 8, 1, ELOOP]


def test_eventfd(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("eventfd2", 5, O_NONBLOCK),
            ("write", 3, "offset two", 8),
            ("read", 3, "offset buf", 8),
            ("read", 3, "offset buf", 8),
            ("write", 3, "offset most", 8),
            ("write", 3, "offset two", 8),
            ("write", 3, "offset all", 8),
            ("write", 3, "offset two", 4),
            ("read", 3, "offset buf + 8", 8),
            ("eventfd2", 2, 1 | O_NONBLOCK),
            ("read", 4, "offset buf + 16", 8),
            ("read", 4, "offset buf + 24", 100),
            ("read", 4, "offset buf + 24", 8),
            ("eventfd2", 0, 2),
            ("eventfd", 9),
            ("read", 5, "offset buf + 32", 7),
        ],
        "two: .quad 2\nmost: .quad -2\nall: .quad -1",
    )
    assert got == [
        3, 8, 8, EAGAIN, 8, EAGAIN, EINVAL, EINVAL, 8, 4, 8, 8, EAGAIN, EINVAL, 5, EINVAL,
    ]  # fmt: skip
    assert struct.unpack_from("<4Q", buf) == (7, (1 << 64) - 2, 1, 1)


def test_socketpair(run: Run, paging: str) -> None:
    got, buf = results(
        run,
        [
            ("socketpair", 1, 1 | O_NONBLOCK, 0, "offset ends"),
            ("read", 3, "offset buf", 4),
            ("write", 3, "offset text", 5),
            ("poll", "offset fds", 2, 0),
            ("read", 4, "offset buf", 100),
            ("sendto", 4, "offset text", 5, 0x4000, 0, 0),
            ("recvfrom", 3, "offset buf + 8", 3, 0, 0, 0),
            ("socketcall", 10, "offset receive"),
            ("shutdown", 3, 1),
            ("read", 4, "offset buf", 4),
            ("close", 4),
            ("sendto", 3, "offset text", 5, 0x4000, 0, 0),
            ("socketcall", 1, "offset inet"),
            ("socketcall", 99, "offset inet"),
            ("socketpair", 99, 1, 0, "offset ends"),
            ("socketpair", 1, 1, 0, 0x10),
            ("sendto", 1, "offset text", 5, 0, 0, 0),
            ("dup", 3),
        ],
        'ends: .long 0, 0\ntext: .ascii "hello"\n.balign 4\n'
        f"fds:{pollfds((3, IN | OUT), (4, IN | OUT))}\n"
        "receive: .long 3, offset buf + 16, 100, 0\ninet: .long 99, 1, 0",
        paging=paging,
    )
    assert got == [
        0, EAGAIN, 5, 2, 5, 5, 3, 2, 0, 0, 0, EPIPE, EAFNOSUPPORT, EINVAL, EAFNOSUPPORT, EFAULT, ENOTSOCK, 4,
    ]  # fmt: skip
    assert (buf[:5], buf[8:11], buf[16:18]) == (b"hello", b"hel", b"lo")
