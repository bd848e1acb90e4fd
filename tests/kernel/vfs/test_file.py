"""Open files and descriptors: lseek(2), dup(2), fcntl(2), close(2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import (
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
)
from sandbox.kernel.drivers.console import BytesSource, CaptureSink, standard_streams
from sandbox.kernel.fs.ramfs import RamFs
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.file import FdTable, File
from sandbox.kernel.vfs.namei import lookup
from sandbox.kernel.vfs.operations import NO_OPERATIONS


def fails(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.errno


def file(flags: int = O_RDWR, data: bytes = b"0123456789") -> File:
    return File(RamFs().file(data), flags)


class TestSeek:
    @pytest.mark.parametrize(
        ("offset", "whence", "position"),
        [
            (3, 0, 3),
            (2, SEEK_CUR, 7),
            (-5, SEEK_CUR, 0),
            (-1, SEEK_END, 9),
            (100, SEEK_END, 110),
            (4, SEEK_DATA, 4),
        ],
    )
    def test_from_five(self, offset: int, whence: int, position: int) -> None:
        opened = file()
        opened.position = 5
        assert opened.seek(offset, whence) == position == opened.position

    def test_the_hole_at_the_end(self) -> None:
        assert file().seek(4, SEEK_HOLE) == 10

    @pytest.mark.parametrize(
        ("offset", "whence", "error"),
        [
            (-1, 0, errno.EINVAL),
            (-11, SEEK_END, errno.EINVAL),
            (0, 5, errno.EINVAL),
            (10, SEEK_DATA, errno.ENXIO),
            (1 << 63, 0, errno.EOVERFLOW),
        ],
    )
    def test_refused(self, offset: int, whence: int, error: int) -> None:
        assert fails(lambda: file().seek(offset, whence)) == error

    def test_streams_have_no_position(self) -> None:
        stdin, *_ = standard_streams(NO_OPERATIONS, BytesSource(), CaptureSink(), CaptureSink())
        assert fails(lambda: File(stdin, O_RDONLY).seek(0, 0)) == errno.ESPIPE


class TestModes:
    @pytest.mark.parametrize(
        ("flags", "readable", "writable"),
        [(O_RDONLY, 1, 0), (O_WRONLY, 0, 1), (O_RDWR, 1, 1), (3, 0, 0), (O_PATH, 0, 0)],
    )
    def test_readable_writable(self, flags: int, readable: bool, writable: bool) -> None:
        table = FdTable()
        fd = table.install(file(flags))
        for get, allowed in ((table.get_readable, readable), (table.get_writable, writable)):
            if allowed:
                get(fd)
            else:
                assert fails(lambda get=get: get(fd)) == errno.EBADF  # type: ignore[misc]

    def test_writers_are_counted(self) -> None:
        inode = RamFs().file()
        table = FdTable()
        fd = table.install(File(inode, O_WRONLY))
        assert fails(inode.deny_write) == errno.ETXTBSY
        table.dup(fd)
        table.close(fd)
        assert inode.write_count == 1
        table.close_all()
        assert inode.write_count == 0


class TestFdTable:
    def test_lowest_first(self) -> None:
        table = FdTable()
        assert [table.install(file()) for _ in range(4)] == [0, 1, 2, 3]
        table.close(1)
        assert table.install(file()) == 1
        assert table.dup(0, lowest=10) == 10
        assert table.dup(0, lowest=10) == 11

    def test_errors(self) -> None:
        table = FdTable(limit=2)
        for call in (table.get, table.close, table.dup, table.is_close_on_exec, lambda fd: table.dup2(fd, 0)):
            assert fails(lambda call=call: call(7)) == errno.EBADF  # type: ignore[misc]
        table.install(file())
        table.install(file())
        assert fails(lambda: table.install(file())) == errno.EMFILE
        assert fails(lambda: table.dup(0, lowest=2)) == errno.EINVAL
        assert fails(lambda: table.dup2(0, 2)) == errno.EBADF

    def test_dup_shares_position_and_dup2_closes(self) -> None:
        table = FdTable()
        first, second = file(), file()
        table.install(first)
        table.install(second)
        assert table.dup2(0, 1) == 1
        assert (table.get(1), first.count, second.count) == (first, 2, 0)
        assert table.dup2(0, 0) == 0
        assert first.count == 2

    def test_close_on_exec(self) -> None:
        table = FdTable()
        table.install(file(), close_on_exec=True)
        table.dup(0)
        assert (table.is_close_on_exec(0), table.is_close_on_exec(1)) == (True, False)
        table.set_close_on_exec(1, True)
        table.set_close_on_exec(0, False)
        table.dup2(1, 5)
        table.close_on_exec()
        assert [fd for fd, _ in table] == [0, 5]

    def test_a_closed_number_forgets_its_mark(self) -> None:
        table = FdTable()
        table.install(file(), close_on_exec=True)
        table.close(0)
        table.install(file())
        assert not table.is_close_on_exec(0)

    def test_fork_shares_open_files(self) -> None:
        table = FdTable()
        opened = file()
        table.install(opened, close_on_exec=True)
        child = table.copy()
        child.get(0).position = 4
        assert (table.get(0).position, opened.count, child.is_close_on_exec(0)) == (4, 2, True)
        child.close(0)
        assert 0 in table and 0 not in child


calls = st.lists(st.tuples(st.sampled_from(["open", "close", "dup", "dup2"]), st.integers(0, 9), st.integers(0, 9)))


@given(calls)
def test_counts_balance(todo: list[tuple[str, int, int]]) -> None:
    """Against a dict of descriptors."""
    table, model, made = FdTable(limit=8), dict[int, File](), []
    for name, first, second in todo:
        free = next((fd for fd in range(9) if fd not in model), 8)
        try:
            if name == "open":
                made.append(file())
                assert table.install(made[-1]) == free
                model[free] = made[-1]
            elif name == "close":
                table.close(first)
                del model[first]
            elif name == "dup":
                assert table.dup(first) == free
                model[free] = model[first]
            else:
                table.dup2(first, second)
                model[second] = model[first]
        except KernelError as error:
            if error.errno == errno.EMFILE:
                assert free == 8
            else:
                assert first not in model or second >= 8
        assert dict(table) == model
        assert all(each.count == list(model.values()).count(each) for each in made)


class TestDirectories:
    def test_entries_with_dots_from_a_position(self) -> None:
        fs = RamFs()
        root = Dentry(fs.root)
        fs.root.mkdir(b"d", 0o755).create(b"f", 0o644)
        opened = File(*(lambda dentry: (dentry.inode, O_RDONLY, dentry))(lookup(root, root, b"d")))
        assert [(entry.name, entry.kind) for entry in opened.entries()] == [(b".", 4), (b"..", 4), (b"f", 8)]
        assert opened.entries()[1].ino == fs.root.ino
        opened.position = 2
        fs.root.lookup(b"d").create(b"later", 0o644)  # type: ignore[attr-defined]
        assert [entry.name for entry in opened.entries()] == [b"f"]
        opened.seek(0, 0)
        assert [entry.name for entry in opened.entries()] == [b".", b"..", b"f", b"later"]

    def test_only_directories(self) -> None:
        assert fails(file().entries) == errno.ENOTDIR
