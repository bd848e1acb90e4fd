"""Host files: what can be reached is what is below the root, whatever links, names and other processes do."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK
from sandbox.kernel.fs.hostfs import HostDirectory, HostTree
from sandbox.kernel.fs.hostinode import HOST_DEVICE
from sandbox.kernel.fs.namespace import read_all
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.inode import OTHER_ID
from sandbox.kernel.vfs.rename import rename
from sandbox.x86.errors import ConfigurationError


def fails(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.errno


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    """A root directory, with a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (root / "file").write_text("inside")
    (root / "dir" / "inner").write_text("inner")
    return root


def rooted(path: Path, writable: bool = False) -> Dentry:
    tree = HostTree(writable)
    return Dentry(tree.directory(path))


def read(root: Dentry, path: bytes, flags: int = O_RDONLY) -> bytes:
    return read_all(namei.open_namei(root, root, path, flags, 0).inode)


class TestNoEscape:
    def test_dot_dot(self, jail: Path) -> None:
        root = rooted(jail)
        assert fails(lambda: read(root, b"../secret")) == errno.ENOENT
        assert fails(lambda: read(root, b"dir/../../secret")) == errno.ENOENT
        assert read(root, b"../../../file") == b"inside"

    def test_links_are_walked_inside(self, jail: Path) -> None:
        secret = jail.parent / "secret"
        (jail / "absolute").symlink_to(secret)
        (jail / "relative").symlink_to("../secret")
        (jail / "up").symlink_to("..")
        (jail / "slash").symlink_to("/")
        (jail / "dir" / "good").symlink_to("/file")
        root = rooted(jail)
        for path in (b"absolute", b"relative", b"up/secret", b"slash/../secret", b"dir/good/../../secret"):
            assert fails(lambda path=path: read(root, path)) in (errno.ENOENT, errno.ENOTDIR)  # type: ignore[misc]
        assert read(root, b"dir/good") == b"inside"
        assert read(root, b"slash/file") == b"inside"
        assert read(root, b"up/up/file") == b"inside"

    def test_a_link_put_in_place_of_what_was_found(self, jail: Path) -> None:
        root = rooted(jail)
        found = namei.lookup(root, root, b"file").inode
        directory = namei.lookup(root, root, b"dir")
        (jail / "file").unlink()
        (jail / "file").symlink_to(jail.parent / "secret")
        (jail / "dir").rename(jail / "moved")
        (jail / "dir").symlink_to(jail.parent)
        assert read_all(found) == b"inside"
        assert read(directory, b"inner") == b"inner"
        assert fails(lambda: read(directory, b"secret")) == errno.ENOENT

    def test_a_directory_moved_out_does_not_open_the_way(self, jail: Path) -> None:
        root = rooted(jail)
        (jail / "dir" / "deep").mkdir()
        inside = namei.lookup(root, root, b"dir/deep")
        (jail / "dir").rename(jail.parent / "dir")
        assert namei.lookup(root, inside, b"../..") is root
        assert fails(lambda: namei.lookup(root, inside, b"../../../secret")) == errno.ENOENT

    def test_swapping_in_a_loop_never_shows_the_secret(self, jail: Path) -> None:
        """One thread swaps a file and a directory with links out, the walk must see one or the other."""
        root = rooted(jail)
        stop = threading.Event()
        link, real = jail / "link", jail / "real"
        link.symlink_to(jail.parent)
        real.mkdir()
        (real / "secret").write_text("decoy")
        here = jail / "here"

        def swap() -> None:
            while not stop.is_set():
                for other in (link, real):
                    other.rename(here)
                    here.rename(other)

        thread = threading.Thread(target=swap)
        thread.start()
        seen: set[object] = set()
        try:
            for _ in range(3000):
                try:
                    seen.add(read(root, b"here/secret"))
                except KernelError as error:
                    seen.add(error.errno)
        finally:
            stop.set()
            thread.join()
        assert seen <= {b"decoy", errno.ENOENT}

    def test_proc_is_no_root(self) -> None:
        for path in ("/proc", "/proc/self"):
            with pytest.raises(ConfigurationError, match="proc"):
                HostTree().directory(path)

    def test_other_mounts_are_refused(self) -> None:
        root = rooted(Path("/"))
        assert fails(lambda: namei.lookup(root, root, b"proc/self/mem")) == errno.EACCES

    def test_names_with_slashes_never_reach_the_host(self, jail: Path) -> None:
        directory = rooted(jail, writable=True).inode
        assert isinstance(directory, HostDirectory)
        for name in (b"..", b".", b"../secret", b"dir/inner", b""):
            assert fails(lambda name=name: directory.lookup(name)) == errno.EINVAL  # type: ignore[misc]
            assert fails(lambda name=name: directory.unlink(name)) == errno.EINVAL  # type: ignore[misc]
            assert fails(lambda name=name: directory.create(name, 0o644)) == errno.EINVAL  # type: ignore[misc]
        assert (jail.parent / "secret").read_text() == "secret"


class TestSpecialFiles:
    def test_a_fifo_is_seen_and_never_opened_on_the_host(self, jail: Path) -> None:
        os.mkfifo(jail / "fifo")
        root = rooted(jail)
        inode = namei.open_namei(root, root, b"fifo", O_RDWR if root.inode.readonly is False else O_RDONLY, 0).inode
        assert inode.stat().mode & S_IFMT == S_IFIFO
        assert fails(lambda: inode.read_block(0)) == errno.EINVAL
        with pytest.raises(OSError, match="No such device"):
            os.open(jail / "fifo", os.O_WRONLY | os.O_NONBLOCK)

    def test_a_socket(self, jail: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(jail / "socket"))
            assert fails(lambda: read(rooted(jail), b"socket")) == errno.ENXIO

    def test_a_device(self, jail: Path) -> None:
        try:
            os.mknod(jail / "null", 0o20666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("making devices needs root")
        assert fails(lambda: read(rooted(jail), b"null")) == errno.EACCES


class TestReadOnly:
    def test_nothing_can_be_changed(self, jail: Path) -> None:
        root = rooted(jail)
        inode = namei.lookup(root, root, b"file").inode
        for call in (
            lambda: namei.open_namei(root, root, b"file", O_RDWR, 0),
            lambda: namei.open_namei(root, root, b"new", O_CREAT | O_WRONLY, 0o644),
            lambda: namei.unlink(root, root, b"file"),
            lambda: namei.mkdir(root, root, b"new", 0o755),
            lambda: namei.rmdir(root, root, b"dir"),
            lambda: rename(root, root, b"file", root, b"new"),
            lambda: namei.symlink(root, root, b"x", b"new"),
            lambda: inode.truncate(0),
            lambda: inode.write_block(0, b"x"),
            lambda: inode.chmod(0o777),
            lambda: inode.check_access(2),
        ):
            assert fails(call) == errno.EROFS
        assert (jail / "file").read_text() == "inside"


class TestWritable:
    def test_create_write_truncate(self, jail: Path) -> None:
        root = rooted(jail, writable=True)
        inode = namei.open_namei(root, root, b"new", O_CREAT | O_WRONLY, 0o6640).inode
        inode.extend(5000)
        inode.write_block(0, b"a" * 4096)
        inode.write_block(1, b"b" * 4096)
        assert (jail / "new").read_bytes() == b"a" * 4096 + b"b" * 904
        assert (jail / "new").stat().st_mode & 0o7777 == 0o640
        inode.truncate(3)
        assert read(root, b"new") == b"aaa"

    def test_a_socket_s_file(self, jail: Path) -> None:
        root = rooted(jail, writable=True)
        namei.mknod(root, root, b"socket", S_IFSOCK | 0o640)
        assert (jail / "socket").stat().st_mode == S_IFSOCK | 0o640
        inode = namei.lookup(root, root, b"socket").inode
        assert namei.lookup(root, root, b"socket").inode is inode
        with pytest.raises(KernelError) as caught:
            namei.open_namei(root, root, b"socket", O_RDWR, 0)
        assert caught.value.errno == errno.ENXIO

    def test_one_object_for_one_file(self, jail: Path) -> None:
        os.link(jail / "file", jail / "dir" / "again")
        root = rooted(jail)
        first = namei.lookup(root, root, b"file").inode
        assert namei.lookup(root, root, b"dir/again").inode is first
        assert first.stat().nlink == 2


class TestStat:
    def test_as_the_guest_sees_it(self, jail: Path) -> None:
        (jail / "link").symlink_to("file")
        root = rooted(jail)
        found = namei.lookup(root, root, b"file").inode.stat()
        host = (jail / "file").stat()
        assert (found.dev, found.size, found.uid, found.gid) == (HOST_DEVICE, 6, 0, 0)
        assert (found.mode, found.mtime) == (host.st_mode, host.st_mtime_ns)
        assert namei.lookup(root, root, b"link", follow=False).inode.stat().mode & S_IFMT == S_IFLNK

    def test_other_owners_are_nobody(self, jail: Path) -> None:
        tree = HostTree()
        assert tree.owner(os.geteuid() + 1, os.getegid() + 1) == (OTHER_ID, OTHER_ID)

    def test_numbers_do_not_depend_on_the_host(self, jail: Path) -> None:
        root = rooted(jail)
        assert root.inode.ino == 1
        assert [entry.ino for entry in rooted(jail).inode.entries()] == [2, 3]  # type: ignore[attr-defined]


def test_descriptors_are_given_back(jail: Path) -> None:
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    root = rooted(jail)
    for _ in range(50):
        read(root, b"dir/inner")
        root.inode.entries()  # type: ignore[attr-defined]
    del root
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(ConfigurationError):
            HostTree().directory(path)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        HostTree().file(tmp_path)
