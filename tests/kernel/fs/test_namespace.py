"""The tree of a machine: with and without a host root, and what is laid over it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import O_CREAT, O_PATH, O_RDWR, O_TRUNC, O_WRONLY
from sandbox.kernel.drivers.chrdev import memory_devices
from sandbox.kernel.drivers.console import BytesSource, CaptureSink, standard_streams
from sandbox.kernel.fs.namespace import FileSystem, read_all
from sandbox.kernel.task.cred import ROOT, Cred
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.file import FdTable
from sandbox.kernel.vfs.inode import Directory
from sandbox.kernel.vfs.operations import NO_OPERATIONS
from sandbox.x86.errors import ConfigurationError


@dataclass
class StandInTask:
    cwd: Dentry
    umask: int = 0o022
    root: Dentry | None = None
    files: FdTable = field(default_factory=FdTable)
    cred: Cred = ROOT


def task(files: FileSystem) -> Any:
    return StandInTask(files.root)


def names(files: FileSystem, path: bytes = b"/") -> list[bytes]:
    directory = namei.lookup(files.root, files.root, path).inode
    assert isinstance(directory, Directory)
    return [entry.name for entry in directory.entries()]


def content(files: FileSystem, path: bytes) -> bytes:
    return read_all(namei.lookup(files.root, files.root, path).inode)


def test_without_a_root() -> None:
    files = FileSystem(files={"/bin/prog": b"ELF"})
    assert names(files) == [b"bin", b"dev", b"tmp"]
    assert names(FileSystem(devices=False)) == []
    inode, path = files.open_exec(task(files), b"bin/prog")
    assert (path, read_all(inode)) == ("/bin/prog", b"ELF")
    opened = files.open(task(files), files.root, b"/tmp/x", O_CREAT | O_RDWR, 0o666)
    assert opened.inode.stat().mode & 0o777 == 0o644
    assert opened.flags == O_RDWR


def test_over_a_host_root(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "real").write_bytes(b"real")
    given = tmp_path / "given"
    given.write_bytes(b"given")
    files = FileSystem(tmp_path, files={"/bin/prog": b"ELF", "/deep/er/file": given, "/bin/real": b"over"})
    assert names(files) == [b"bin", b"deep", b"dev", b"given", b"tmp"]
    assert names(files, b"bin") == [b"prog", b"real"]
    assert content(files, b"/deep/er/file") == b"given"
    assert content(files, b"/deep/../bin/./real") == b"over"
    opened = files.open(task(files), files.root, b"deep/er/file", O_WRONLY | O_TRUNC)
    opened.inode.extend(3)
    opened.inode.write_block(0, b"new")
    assert content(files, b"/deep/er/file") == b"new"
    assert given.read_bytes() == b"given"


@pytest.mark.parametrize("path", ["relative", "/", "/a/../b", "/bin/file/below"])
def test_paths_that_cannot_be_laid_over(path: str) -> None:
    with pytest.raises(ConfigurationError):
        FileSystem(files={"/bin/file": b"", path: b""})


def test_absent_host_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        FileSystem(files={"/x": tmp_path / "absent"})


def test_truncating_open() -> None:
    files = FileSystem(files={"/f": b"data"})
    here = task(files)
    files.open(here, files.root, b"f", O_TRUNC | O_PATH)
    assert content(files, b"/f") == b"data"
    assert files.open(here, files.root, b"f", O_RDWR | O_TRUNC).inode.size == 0


@pytest.mark.parametrize(("path", "error"), [(b"tmp", errno.EACCES), (b"no", errno.ENOENT), (b"f", errno.EACCES)])
def test_what_cannot_be_executed(path: bytes, error: int) -> None:
    files = FileSystem()
    files.add("/f", b"", mode=0o644)
    with pytest.raises(KernelError) as caught:
        files.open_exec(task(files), path)
    assert caught.value.errno == error


def test_no_two_inodes_have_one_identity(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    files = FileSystem(tmp_path, files={"/given": tmp_path / "file", "/bytes": b""})
    files.add_devices(memory_devices(NO_OPERATIONS))
    seen = set()
    for path in (b"/", b"file", b"given", b"bytes", b"dev", b"dev/null", b"dev/zero", b"dev/full"):
        found = namei.lookup(files.root, files.root, path).inode.stat()
        seen.add((found.dev, found.ino))
    streams = standard_streams(NO_OPERATIONS, BytesSource(), CaptureSink(), CaptureSink())
    seen.update((stream.stat().dev, stream.stat().ino) for stream in streams)
    assert len(seen) == 8 + 3
