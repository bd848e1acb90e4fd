"""Files in memory against a bytearray, and the rules of the directories over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import S_IFDIR, S_IFREG
from sandbox.kernel.fs.ramfs import RamFile, RamFs

BLOCK = 4096


def contents(file: RamFile) -> bytes:
    blocks = [file.read_block(index) for index in range(-(-file.size // BLOCK))]
    assert all(len(block) == BLOCK for block in blocks[:-1])
    assert file.read_block(len(blocks)) == b""
    return b"".join(blocks)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 4), st.binary(max_size=64).map(lambda data: data * 70)),
        st.tuples(st.just("truncate"), st.integers(0, 5 * BLOCK), st.none()),
        st.tuples(st.just("extend"), st.integers(0, 5 * BLOCK), st.none()),
    ),
    max_size=30,
)


@given(st.binary(max_size=300).map(lambda data: data * 50), operations)
def test_same_as_a_bytearray(start: bytes, todo: list[tuple[str, int, bytes | None]]) -> None:
    fs = RamFs()
    file, model = fs.file(start), bytearray(start)
    for name, number, data in todo:
        if name == "truncate" or (name == "extend" and number > len(model)):
            model = model[:number].ljust(number, b"\0")
        if data is None:
            getattr(file, name)(number)
        else:
            file.write_block(number, data)
            at = number * BLOCK
            piece = data[: max(0, min(BLOCK, len(model) - at))]
            model[at : at + len(piece)] = piece
        assert file.size == len(model)
        assert contents(file) == model
    del file
    assert fs.used == 0


def test_the_limit_is_enospc() -> None:
    fs = RamFs(limit=2 * BLOCK)
    file = fs.file()
    file.truncate(1 << 40)
    assert file.read_block(7) == bytes(BLOCK)
    file.write_block(0, b"x")
    file.write_block(1 << 27, b"y")
    with pytest.raises(KernelError) as caught:
        file.write_block(5, b"z")
    assert caught.value.errno == errno.ENOSPC
    file.write_block(0, b"again")
    file.truncate(0)
    assert fs.used == 0


def test_times_and_mode() -> None:
    time = [1000]
    fs = RamFs(now=lambda: time[0])
    file = fs.root.create(b"f", 0o640)
    time[0] = 2000
    file.extend(10)
    assert (file.stat().mtime, file.stat().atime) == (2000, 1000)
    file.set_times(5, None)
    file.chmod(0o4755)
    found = file.stat()
    assert (found.atime, found.mtime, found.mode) == (5, 2000, S_IFREG | 0o4755)


def test_links_count() -> None:
    fs = RamFs()
    file = fs.root.create(b"f", 0o644)
    fs.root.link(b"g", file)
    assert file.stat().nlink == 2
    fs.root.unlink(b"f")
    fs.root.unlink(b"g")
    assert file.stat().nlink == 0
    directory = fs.root.mkdir(b"d", 0o755)
    assert fs.root.stat().nlink == 3
    directory.mkdir(b"e", 0o755)
    assert directory.stat().nlink == 3


def test_names_from_outside_are_checked() -> None:
    fs = RamFs()
    for name in (b"", b".", b"..", b"a/b", b"a\0b"):
        for call in (fs.root.lookup, fs.root.unlink, fs.root.rmdir):
            with pytest.raises(KernelError) as caught:
                call(name)
            assert caught.value.errno == errno.EINVAL


def test_pinned_names() -> None:
    fs = RamFs()
    fs.root.create(b"b", 0o644)
    fs.root.pinned[b"a"] = pinned = fs.file(b"over")
    fs.root.pinned[b"b"] = pinned
    assert fs.root.lookup(b"b") is pinned
    assert [entry.name for entry in fs.root.entries()] == [b"a", b"b"]
    with pytest.raises(KernelError) as caught:
        fs.root.unlink(b"a")
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(KernelError) as caught:
        fs.root.rename(b"b", fs.root, b"c")
    assert caught.value.errno == errno.EBUSY


def test_entries_are_sorted_and_typed() -> None:
    fs = RamFs()
    for name in (b"z", b"a", b"m"):
        fs.root.create(name, 0o644)
    fs.root.mkdir(b"d", 0o755)
    found = fs.root.entries()
    assert [entry.name for entry in found] == [b"a", b"d", b"m", b"z"]
    assert found[1].kind == S_IFDIR >> 12
