"""Descriptors, pipes, reading and writing as programs call them (man 2)."""

from __future__ import annotations

import struct

import pytest

from tests.conftest import Run
from tests.kernel.calls import results

ENOENT, EBADF, EFAULT, EISDIR, EINVAL, EMFILE, ENOTTY, ESPIPE = -2, -9, -14, -21, -22, -24, -25, -29
NAME = 'name: .asciz "/data"\n'
DATA = bytes(range(256)) * 40


def test_read_seek_pread(run: Run, paging: str) -> None:
    got, buf = results(
        run,
        [
            ("open", "offset name", 0, 0),
            ("read", "r0", "offset buf", 10),
            ("lseek", "r0", 4090, 0),
            ("read", "r0", "offset buf + 16", 12),
            ("lseek", "r0", 0, 1),
            ("lseek", "r0", 0, 2),
            ("read", "r0", "offset buf", 10),
            ("lseek", "r0", -1, 0),
            ("pread64", "r0", "offset buf + 32", 4, 5, 0),
            ("read", "r0", 0x10, 0),
            ("write", "r0", "offset buf", 1),
            ("close", "r0"),
            ("close", "r0"),
            ("read", "r0", "offset buf", 1),
        ],
        NAME,
        files={"/data": DATA},
        paging=paging,
    )
    assert got == [3, 10, 4090, 12, 4102, len(DATA), 0, EINVAL, 4, 0, EBADF, 0, EBADF, EBADF]
    assert (buf[:10], buf[16:28], buf[32:36]) == (DATA[:10], DATA[4090:4102], DATA[5:9])


def test_bad_buffers(run: Run) -> None:
    """EFAULT with nothing moved; a count that could be moved in part (read(2) may return fewer bytes)."""
    got, buf = results(
        run,
        [
            ("open", "offset name", 0, 0),
            ("read", "r0", 0x10, 5),
            ("read", "r0", 0xC0000000, 5),
            ("read", "r0", "offset buf", 3),
            ("write", 1, 0x10, 5),
            ("write", 1, 0xFFFFFFFF, 5),
            ("open", 0x10, 0, 0),
            ("open", "offset none", 0, 0),
            ("write", 99, 0x10, 5),
        ],
        NAME + 'none: .asciz "/none"',
        files={"/data": DATA},
    )
    assert got == [3, EFAULT, EFAULT, 3, EFAULT, EFAULT, EFAULT, ENOENT, EBADF]
    assert buf[:3] == DATA[:3], "a failed read does not move the position"


def test_pipe(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("pipe", "offset buf"),
            ("write", 4, "offset name", 5),
            ("read", 3, "offset buf + 16", 100),
            ("write", 3, "offset name", 1),
            ("read", 4, "offset buf", 1),
            ("lseek", 3, 0, 0),
            ("close", 4),
            ("read", 3, "offset buf", 10),
        ],
        NAME,
    )
    assert got == [0, 5, 5, EBADF, EBADF, ESPIPE, 0, 0]
    assert struct.unpack_from("<2I", buf) == (3, 4)
    assert buf[16:21] == b"/data"


@pytest.mark.parametrize("where", [0x10, 0xC0000000])
def test_a_failed_pipe_leaves_no_descriptor(run: Run, where: int) -> None:
    got, _ = results(run, [("pipe", where), ("close", 3), ("close", 4), ("dup", 0)])
    assert got == [EFAULT, EBADF, EBADF, 3]


def test_dup(run: Run) -> None:
    got, _ = results(
        run,
        [
            ("dup", 1), ("dup2", 1, 10), ("dup2", 1, 1), ("dup2", 77, 5), ("dup2", 1, 5000), ("dup3", 1, 1, 0),
            ("dup", 77), ("close", 10), ("write", 10, "offset buf", 1),
        ],
    )  # fmt: skip
    assert got == [3, 10, 1, EBADF, EBADF, EINVAL, EBADF, 0, EBADF]


def test_create_write_read_back(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("open", "offset new", 0x42, 0o644),
            ("write", "r0", "offset name", 5),
            ("lseek", "r0", 8190, 0),
            ("write", "r0", "offset name", 5),
            ("lseek", "r0", 0, 0),
            ("read", "r0", "offset buf", 4),
            ("pread64", "r0", "offset buf + 8", 8, 8188, 0),
            ("unlink", "offset new"),
            ("open", "offset new", 0, 0),
        ],
        NAME + 'new: .asciz "/tmp-file"',
    )
    assert got == [3, 5, 8190, 5, 0, 4, 7, 0, ENOENT]
    assert (buf[:4], buf[8:15]) == (b"/dat", b"\0\0/data")


def test_vectors(run: Run) -> None:
    got, buf = results(
        run,
        [
            ("open", "offset name", 0, 0),
            ("readv", "r0", "offset vector", 2),
            ("readv", "r0", "offset vector", 5000),
            ("readv", "r0", 0x10, 1),
            ("writev", 1, "offset vector", 0),
        ],
        NAME + "vector: .long buf, 3, buf + 100, 5\n",
        files={"/data": DATA},
    )
    assert got == [3, 8, EINVAL, EFAULT, 0]
    assert (buf[:3], buf[100:105]) == (DATA[:3], DATA[3:8])


def test_directories_and_terminals(run: Run) -> None:
    got, _ = results(
        run,
        [
            ("open", "offset bin", 0, 0),
            ("read", "r0", "offset buf", 1),
            ("open", "offset bin", 1, 0),
            ("ioctl", 1, 0x5401, 0),
        ],
        'bin: .asciz "/bin"',
    )
    assert got == [3, EISDIR, EISDIR, ENOTTY]


def test_descriptors_run_out(run: Run) -> None:
    text = """
_start: sys dup2, 1, 1
        mov eax, 41
        mov ebx, 1
        int 0x80
        cmp eax, 0
        jge _start
        neg eax
        sys exit, eax
"""
    assert run(text).status == -EMFILE
