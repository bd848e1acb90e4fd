"""A tree in memory over a host directory: every change succeeds above, nothing changes below."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import O_CREAT, O_RDWR, O_TRUNC, RENAME_EXCHANGE
from sandbox.kernel.fs.namespace import FileSystem, read_all
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.inode import Inode, as_directory
from sandbox.kernel.vfs.rename import rename


@pytest.fixture
def below(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "dir" / "deep").mkdir(parents=True)
    (root / "file").write_bytes(b"f" * 5000)
    (root / "dir" / "inner").write_text("inner")
    os.link(root / "file", root / "dir" / "again")
    (root / "link").symlink_to("dir/inner")
    return root


def picture(root: Path) -> dict[str, object]:
    """Everything that can be seen of a host tree but access times."""
    seen: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        data = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        seen[str(path)] = (found.st_mode, found.st_nlink, found.st_mtime_ns, found.st_ctime_ns, data)
    return seen


def names(root: Dentry, path: bytes = b"/") -> list[bytes]:
    return [entry.name for entry in as_directory(find(root, path)).entries()]


def find(root: Dentry, path: bytes, follow: bool = True) -> Inode:
    return namei.lookup(root, root, path, follow).inode


def fails(root: Dentry, path: bytes) -> int:
    with pytest.raises(KernelError) as caught:
        find(root, path)
    return caught.value.errno


def write(inode: Inode, data: bytes) -> None:
    inode.extend(len(data))
    inode.write_block(0, data)


def test_writing_copies_only_what_is_written(below: Path) -> None:
    before = picture(below)
    root = FileSystem(below, devices=False).root
    inode = namei.open_namei(root, root, b"file", O_RDWR, 0).inode
    number = inode.stat().ino
    inode.write_block(0, b"new" + b"f" * 4093)
    assert read_all(inode) == b"new" + b"f" * 4997
    assert find(root, b"dir/again") is inode, "the other name shows the change"
    assert (inode.stat().ino, inode.stat().nlink) == (number, 2)
    inode.truncate(2)
    inode.extend(6)
    assert read_all(inode) == b"ne\0\0\0\0", "what was cut off does not come back"
    del inode
    gc.collect()
    assert read_all(find(root, b"file")) == b"ne\0\0\0\0", "nobody has it open, and it is remembered"
    assert picture(below) == before


def test_whiteouts_and_opaque_directories(below: Path) -> None:
    before = picture(below)
    root = FileSystem(below, devices=False).root
    with pytest.raises(KernelError) as caught:
        namei.rmdir(root, root, b"dir")
    assert caught.value.errno == errno.ENOTEMPTY
    for name in (b"again", b"inner"):
        namei.unlink(root, root, b"dir/" + name)
    namei.rmdir(root, root, b"dir/deep")
    assert names(root, b"dir") == []
    assert find(root, b"file").stat().nlink == 1
    namei.rmdir(root, root, b"dir")
    assert fails(root, b"dir/inner") == errno.ENOENT
    namei.mkdir(root, root, b"dir", 0o755)
    assert names(root, b"dir") == [], "a directory made anew does not show the old one"
    assert (find(root, b"dir").stat().nlink, find(root, b"/").stat().nlink) == (2, 3)
    assert picture(below) == before


def test_a_directory_is_renamed_with_what_is_in_it(below: Path) -> None:
    before = picture(below)
    root = FileSystem(below, devices=False).root
    inner = find(root, b"dir/inner")
    inside = namei.lookup(root, root, b"dir/deep")
    rename(root, root, b"dir", root, b"moved")
    rename(root, root, b"moved/inner", root, b"moved/deep/core")
    assert names(root) == [b"file", b"link", b"moved"]
    assert names(root, b"moved") == [b"again", b"deep"]
    assert find(root, b"moved/deep/core") is inner
    assert inside.path() == b"/moved/deep"
    assert fails(root, b"link") == errno.ENOENT
    rename(root, root, b"moved/deep", root, b"file", RENAME_EXCHANGE)
    assert names(root, b"file") == [b"core"]
    assert picture(below) == before


def test_attributes(below: Path) -> None:
    before = picture(below)
    root = FileSystem(below, devices=False, now=lambda: 77).root
    inode = find(root, b"dir/inner")
    inode.chown(5, None)
    inode.chmod(0o4711)
    inode.set_times(1, 2)
    found = inode.stat()
    assert (found.mode & 0o7777, found.uid, found.gid, found.atime, found.mtime, found.ctime) == (
        0o4711,
        5,
        0,
        1,
        2,
        77,
    )
    del inode
    gc.collect()
    assert find(root, b"dir/inner").stat() == found
    assert picture(below) == before


def test_removed_and_open(below: Path) -> None:
    root = FileSystem(below, devices=False).root
    inode = namei.open_namei(root, root, b"dir/inner", O_RDWR, 0).inode
    namei.unlink(root, root, b"dir/inner")
    assert (read_all(inode), inode.stat().nlink) == (b"inner", 0)
    write(inode, b"longer than before")
    made = namei.open_namei(root, root, b"dir/inner", O_RDWR | O_CREAT, 0o600).inode
    assert (made.size, read_all(inode)) == (0, b"longer than before")
    assert made.ino != inode.ino
    assert (below / "dir" / "inner").read_text() == "inner"


def test_a_single_file_of_the_host(below: Path) -> None:
    files = FileSystem(files={"/etc/given": below / "file", "/etc/made": b"made"})
    root = files.root
    namei.open_namei(root, root, b"etc/given", O_RDWR | O_TRUNC, 0).inode.truncate(0)
    rename(root, root, b"etc/made", root, b"etc/given")
    assert read_all(find(root, b"etc/given")) == b"made"
    namei.unlink(root, root, b"etc/given")
    assert names(root, b"etc") == []
    assert (below / "file").stat().st_size == 5000


def test_files_go_where_links_of_the_root_lead(below: Path) -> None:
    (below / "bin").symlink_to("usr/bin")
    (below / "usr" / "bin").mkdir(parents=True)
    for writable in (False, True):
        files = FileSystem(below, writable=writable, files={"/bin/tool": b"tool"})
        assert read_all(namei.lookup(files.root, files.root, b"/usr/bin/tool").inode) == b"tool"
        assert not list((below / "usr" / "bin").iterdir())


def test_more_files_than_descriptors(below: Path) -> None:
    import resource

    for number in range(400):
        (below / f"f{number}").write_text(str(number))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, limits[1]))
    try:
        root = FileSystem(below, devices=False).root
        held = [find(root, b"f%d" % number) for number in range(400)]
        assert [read_all(inode) for inode in held] == [b"%d" % number for number in range(400)]
        for inode in held:
            inode.chmod(0o600)
    finally:
        del held
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_limit_in_memory(below: Path) -> None:
    files = FileSystem(below, devices=False)
    files.ram.limit = 4096
    inode = find(files.root, b"file")
    inode.write_block(0, b"x")
    with pytest.raises(KernelError) as caught:
        inode.write_block(1, b"x")
    assert caught.value.errno == errno.ENOSPC
