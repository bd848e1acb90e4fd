"""readv and writev on what is no regular file: one call, not one a piece.  The values are those of a Linux run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Program, Run
from tests.kernel.calls import Call, listing, native_results, results

EAGAIN, EFAULT, EINVAL, ENOSPC = -11, -14, -22, -28
O_RDWR, O_NONBLOCK = 2, 0o4000
DATA = """
bad_second: .long text, 2, 8, 4
page_first: .long big, 4096, 8, 4
odd_first:  .long big, 5000, 8, 4
long_first: .long big, 40000, 8, 4
three:      .long text, 2, text + 2, 2, text + 4, 3
two_large:  .long big, 60000, big, 60000
into_bad:   .long room, 3, 8, 4
into_three: .long room, 3, room + 10, 2, room + 20, 100
halves:     .long room, 4, room + 4, 4
empty:      .long 8, 0, room, 0
negative:   .long room, -1, 8, 4
text:       .ascii "abcdefg"
null:       .asciz "/dev/null"
zero:       .asciz "/dev/zero"
full:       .asciz "/dev/full"
        .bss
fds:    .skip 8
big:    .skip 120000
room:   .skip 120000
        .data
"""
PIPE: tuple[Call, int] = (("pipe2", "offset fds", O_NONBLOCK), 0)
PAIR: tuple[Call, int] = (("socketpair", 1, 1 | O_NONBLOCK, 0, "offset fds"), 0)


def read(size: int, wanted: int) -> tuple[Call, int]:
    return ("read", "[fds]", "offset room", size), wanted


def readv(vector: str, count: int, wanted: int) -> tuple[Call, int]:
    return ("readv", "[fds]", f"offset {vector}", count), wanted


def writev(vector: str, count: int, wanted: int) -> tuple[Call, int]:
    return ("writev", "[fds + 4]", f"offset {vector}", count), wanted


CASES: dict[str, list[tuple[Call, int]]] = {
    "pipe, a bad piece": [
        PIPE, writev("bad_second", 2, EFAULT), read(8, EAGAIN), writev("page_first", 2, 4096), read(9000, 4096),
        writev("odd_first", 2, 4096), read(9000, 4096), writev("negative", 2, EINVAL),
    ],
    "pipe, read across pieces": [
        PIPE, writev("three", 3, 7), readv("into_bad", 2, EFAULT), readv("into_three", 3, 7),
        readv("into_three", 3, EAGAIN), readv("empty", 2, 0), writev("empty", 2, 0),
    ],
    "pipe, full": [PIPE, writev("two_large", 2, 65536), writev("two_large", 2, EAGAIN)],
    "socket": [
        PAIR, writev("bad_second", 2, EFAULT), read(8, EAGAIN), writev("odd_first", 2, EFAULT), read(9000, EAGAIN),
        writev("long_first", 2, 36544), read(100000, 36544), writev("three", 3, 7), readv("into_bad", 2, EFAULT),
        readv("into_three", 3, 7), readv("into_three", 3, EAGAIN),
    ],
    "eventfd": [
        (("eventfd2", 5, O_NONBLOCK), 3), (("readv", 3, "offset halves", 2), 8),
        (("readv", 3, "offset halves", 2), EAGAIN),
        (("readv", 3, "offset halves", 1), EINVAL), (("writev", 3, "offset halves", 2), EINVAL),
    ],
    "devices look at nothing that is written to them": [
        (("open", "offset null", O_RDWR), 3), (("write", 3, 8, 4), 4), (("writev", 3, "offset bad_second", 2), 6),
        (("open", "offset zero", O_RDWR), 4), (("write", 4, 8, 4), 4), (("readv", 4, "offset into_bad", 2), 3),
        (("open", "offset full", O_RDWR), 5), (("write", 5, 8, 4), ENOSPC), (("write", 5, 8, 0), ENOSPC),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_vectors(run: Run, program: Program, tmp_path: Path, case: str) -> None:
    calls = [call for call, _ in CASES[case]]
    wanted = [value for _, value in CASES[case]]
    assert native_results(program, tmp_path, calls, DATA) == wanted
    assert results(run, calls, DATA)[0] == wanted


def test_a_vector_is_read_and_written_across_its_pieces(run: Run) -> None:
    calls = [call for call, _ in [PIPE, writev("three", 3, 7), readv("into_three", 3, 7)]]
    calls += [("write", 1, "offset room", 22)]
    written = run(listing(calls, DATA)).stdout
    assert written[:22] == b"abc" + bytes(7) + b"de" + bytes(8) + b"fg"
