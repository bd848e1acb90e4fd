"""The path walk: rules of path_resolution(7), and the host's own file system as oracle."""

# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH116, PTH211 (paths are bytes here)

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sandbox.kernel.abi import errno
from sandbox.kernel.abi.errno import KernelError, name_of
from sandbox.kernel.abi.flags import (
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
)
from sandbox.kernel.fs.hostfs import HostTree
from sandbox.kernel.fs.ramfs import RamFs
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.inode import Directory
from sandbox.kernel.vfs.rename import rename
from tests.campaign import histories


def fails(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.errno


@pytest.fixture
def root() -> Dentry:
    """/d/e/f is a file, /d/up -> ../d, /abs -> /d/e, /dangling -> nowhere, /loop -> loop."""
    fs = RamFs()
    root = Dentry(fs.root)
    namei.mkdir(root, root, b"d", 0o755)
    namei.mkdir(root, root, b"d/e", 0o755)
    namei.open_namei(root, root, b"d/e/f", O_CREAT, 0o644)
    for name, target in (
        (b"d/up", b"../d"),
        (b"abs", b"/d/e"),
        (b"dangling", b"nowhere"),
        (b"loop", b"loop"),
    ):
        namei.symlink(root, root, target, name)
    return root


class TestWalk:
    @pytest.mark.parametrize(
        "path",
        [
            b"/d/e/f",
            b"d//e/./f",
            b"../../d/e/f",
            b"d/up/e/f",
            b"abs/f",
            b"d/e/../e/f",
            b"abs/../e/f",
            b"/../d/e/f",
        ],
    )
    def test_ways_to_one_file(self, root: Dentry, path: bytes) -> None:
        assert namei.lookup(root, root, path).path() == b"/d/e/f"

    @pytest.mark.parametrize(
        ("path", "error"),
        [
            (b"", errno.ENOENT),
            (b"d/x", errno.ENOENT),
            (b"x/y", errno.ENOENT),
            (b"x/..", errno.ENOENT),
            (b"d/e/f/", errno.ENOTDIR),
            (b"d/e/f/.", errno.ENOTDIR),
            (b"d/e/f/..", errno.ENOTDIR),
            (b"dangling", errno.ENOENT),
            (b"loop", errno.ELOOP),
            (b"loop/x", errno.ELOOP),
            (b"n" * 256, errno.ENAMETOOLONG),
            (b"d/" * 2048, errno.ENAMETOOLONG),
        ],
    )
    def test_errors(self, root: Dentry, path: bytes, error: int) -> None:
        assert fails(lambda: namei.lookup(root, root, path)) == error

    def test_forty_links_and_no_more(self, root: Dentry) -> None:
        namei.symlink(root, root, b"d", b"l1")
        for number in range(2, 42):
            namei.symlink(root, root, b"l%d" % (number - 1), b"l%d" % number)
        assert namei.lookup(root, root, b"l40").path() == b"/d"
        assert fails(lambda: namei.lookup(root, root, b"l41")) == errno.ELOOP

    def test_last_link(self, root: Dentry) -> None:
        assert namei.lookup(root, root, b"abs", follow=False).inode.kind == S_IFLNK
        assert namei.lookup(root, root, b"abs/", follow=False).inode.kind == S_IFDIR
        assert namei.readlink(root, root, b"abs") == b"/d/e"
        assert fails(lambda: namei.readlink(root, root, b"d")) == errno.EINVAL

    def test_dot_dot_stops_at_the_root(self, root: Dentry) -> None:
        assert namei.lookup(root, root, b"../..") is root
        assert namei.lookup(root, root, b"/").path() == b"/"


class TestWorkingDirectory:
    def test_follows_a_rename(self, root: Dentry) -> None:
        here = namei.lookup(root, root, b"d/e")
        rename(root, root, b"d", root, b"other")
        assert here.path() == b"/other/e"
        assert namei.lookup(root, here, b"..").path() == b"/other"

    def test_a_removed_directory(self, root: Dentry) -> None:
        namei.mkdir(root, root, b"gone", 0o755)
        here = namei.lookup(root, root, b"gone")
        namei.rmdir(root, root, b"gone")
        assert fails(here.path) == errno.ENOENT
        assert namei.lookup(root, here, b".") is here
        assert fails(lambda: namei.lookup(root, here, b"x")) == errno.ENOENT
        assert fails(lambda: namei.open_namei(root, here, b"x", O_CREAT, 0o644)) == errno.ENOENT


class TestOpen:
    @pytest.mark.parametrize(
        ("path", "flags", "error"),
        [
            (b"d", O_RDWR, errno.EISDIR),
            (b"d", O_CREAT, errno.EISDIR),
            (b"new/", O_CREAT, errno.EISDIR),
            (b"d/e/f", O_DIRECTORY, errno.ENOTDIR),
            (b"d/e/f", O_CREAT | O_EXCL, errno.EEXIST),
            (b"dangling", O_CREAT | O_EXCL, errno.EEXIST),
            (b"abs", O_NOFOLLOW, errno.ELOOP),
            (b"abs", O_NOFOLLOW | O_DIRECTORY, errno.ENOTDIR),
            (b"x", O_RDONLY, errno.ENOENT),
            (b"x/y", O_CREAT, errno.ENOENT),
        ],
    )
    def test_refused(self, root: Dentry, path: bytes, flags: int, error: int) -> None:
        assert fails(lambda: namei.open_namei(root, root, path, flags, 0o644)) == error

    def test_create_through_a_dangling_link(self, root: Dentry) -> None:
        assert namei.open_namei(root, root, b"dangling", O_CREAT | O_WRONLY, 0o600).path() == b"/nowhere"

    def test_path_only(self, root: Dentry) -> None:
        assert namei.open_namei(root, root, b"abs", O_PATH | O_NOFOLLOW, 0).inode.kind == S_IFLNK

    def test_running_programs_cannot_be_written(self, root: Dentry) -> None:
        inode = namei.lookup(root, root, b"d/e/f").inode
        inode.deny_write()
        assert fails(lambda: namei.open_namei(root, root, b"d/e/f", O_WRONLY, 0)) == errno.ETXTBSY
        inode.allow_write()
        assert namei.open_namei(root, root, b"d/e/f", O_WRONLY, 0).inode is inode


class TestRename:
    @pytest.mark.parametrize(
        ("old", "new", "error"),
        [
            (b"d", b"d/e/under", errno.EINVAL),
            (b"d/e", b"d", errno.ENOTEMPTY),
            (b"d/e/f", b"d", errno.ENOTEMPTY),
            (b"d", b"d/e/f", errno.EINVAL),
            (b"d/.", b"x", errno.EBUSY),
            (b"x", b"y", errno.ENOENT),
            (b"d/e/f", b"y/", errno.ENOTDIR),
        ],
    )
    def test_refused(self, root: Dentry, old: bytes, new: bytes, error: int) -> None:
        assert fails(lambda: rename(root, root, old, root, new)) == error


names = st.sampled_from([b"a", b"b", b"c"])
pieces = st.one_of(names, names.map(lambda name: name + b"/.."), st.just(b"."))
paths = st.builds(
    lambda parts, slash: b"/".join(parts) + slash,
    st.lists(pieces, min_size=1, max_size=4),
    st.sampled_from([b"", b"", b"", b"/"]),
)
targets = st.lists(names, min_size=1, max_size=3).map(b"/".join)
flag_sets = st.lists(
    st.sampled_from([O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW]), max_size=4
).map(lambda flags: sum(set(flags)))


class Host:
    """The oracle: real system calls below a directory.  No ``..`` made here leads above it."""

    def __init__(self) -> None:
        self.base = os.fsencode(tempfile.mkdtemp(prefix="namei-oracle-"))
        os.chmod(self.base, 0o755)

    def __call__(self, call: Callable[[], object]) -> object:
        try:
            return call()
        except OSError as error:
            return name_of(error.errno or 0)

    def open(self, path: bytes, flags: int, mode: int) -> bytes:
        descriptor = os.open(self.at(path), flags, mode)
        os.close(descriptor)
        return b""

    def at(self, path: bytes) -> bytes:
        return self.base + b"/" + path


class Guest:
    """The same operations through the walk."""

    def __init__(self, directory: Directory) -> None:
        self.root = Dentry(directory)
        directory.dentry = lambda: self.root

    def __call__(self, call: Callable[[], object]) -> object:
        try:
            return call()
        except KernelError as error:
            return str(error)

    def open(self, path: bytes, flags: int, mode: int) -> bytes:
        dentry = namei.open_namei(self.root, self.root, path, flags, mode)
        if flags & O_TRUNC and dentry.inode.kind != S_IFDIR:
            dentry.inode.truncate(0)
        return b""


class SameAsTheHost(RuleBasedStateMachine):
    """Each operation on a real directory, on one in memory, and on a second real one through the sandbox."""

    def __init__(self) -> None:
        super().__init__()
        self.umask = os.umask(0)
        self.host = Host()
        self.mirror = Host()
        self.guests = [
            Guest(RamFs().root),
            Guest(HostTree(writable=True).directory(os.fsdecode(self.mirror.base))),
        ]

    def teardown(self) -> None:
        os.umask(self.umask)
        self.guests.clear()
        shutil.rmtree(self.host.base)
        shutil.rmtree(self.mirror.base)

    def compare(self, real: Callable[[], object], ours: Callable[[Dentry], object]) -> None:
        expected = self.host(real)
        for guest in self.guests:
            root = guest.root
            assert guest(lambda root=root: ours(root)) == expected  # type: ignore[misc]

    @rule(path=paths, mode=st.sampled_from([0o755, 0o700]))
    def mkdir(self, path: bytes, mode: int) -> None:
        self.compare(lambda: os.mkdir(self.host.at(path), mode), lambda root: namei.mkdir(root, root, path, mode))

    @rule(path=paths)
    def rmdir(self, path: bytes) -> None:
        if path.replace(b"/", b"").replace(b".", b""):
            self.compare(lambda: os.rmdir(self.host.at(path)), lambda root: namei.rmdir(root, root, path))

    @rule(path=paths)
    def unlink(self, path: bytes) -> None:
        self.compare(lambda: os.unlink(self.host.at(path)), lambda root: namei.unlink(root, root, path) and None)

    @rule(old=paths, new=paths)
    def rename(self, old: bytes, new: bytes) -> None:
        self.compare(
            lambda: os.rename(self.host.at(old), self.host.at(new)),
            lambda root: rename(root, root, old, root, new),
        )

    @rule(content=targets, path=paths)
    def symlink(self, content: bytes, path: bytes) -> None:
        self.compare(
            lambda: os.symlink(content, self.host.at(path)),
            lambda root: namei.symlink(root, root, content, path),
        )

    @rule(old=paths, new=paths)
    def link(self, old: bytes, new: bytes) -> None:
        self.compare(
            lambda: os.link(self.host.at(old), self.host.at(new), follow_symlinks=False),
            lambda root: namei.link(root, namei.lookup(root, root, old, follow=False), root, new),
        )

    @rule(path=paths)
    def readlink(self, path: bytes) -> None:
        self.compare(lambda: os.readlink(self.host.at(path)), lambda root: namei.readlink(root, root, path))

    @rule(path=paths, flags=flag_sets, mode=st.sampled_from([0o644, 0o600]))
    def open(self, path: bytes, flags: int, mode: int) -> None:
        if flags & O_CREAT and flags & O_DIRECTORY:
            return
        expected = self.host(lambda: self.host.open(path, flags, mode))
        for guest in self.guests:
            assert guest(lambda guest=guest: guest.open(path, flags, mode)) == expected  # type: ignore[misc]

    @rule(path=paths, size=st.integers(0, 9000))
    def truncate(self, path: bytes, size: int) -> None:
        def ours(root: Dentry) -> None:
            inode = namei.lookup(root, root, path).inode
            if inode.kind == S_IFDIR:
                raise KernelError(errno.EISDIR)
            inode.truncate(size)

        self.compare(lambda: os.truncate(self.host.at(path), size), ours)

    @rule(path=paths, follow=st.booleans())
    def stat(self, path: bytes, follow: bool) -> None:
        def real() -> tuple[int, int, int]:
            found = os.stat(self.host.at(path), follow_symlinks=follow)
            directory = found.st_mode & S_IFMT == S_IFDIR
            return found.st_mode, found.st_nlink, 0 if directory else found.st_size

        def ours(root: Dentry) -> tuple[int, int, int]:
            found = namei.lookup(root, root, path, follow).inode.stat()
            return found.mode, found.nlink, 0 if found.mode & S_IFMT == S_IFDIR else found.size

        self.compare(real, ours)

    @invariant()
    def same_names(self) -> None:
        expected = sorted(self.walk_host(self.host.base))
        for guest in self.guests:
            assert sorted(self.walk_guest(guest.root, b"")) == expected

    def walk_host(self, base: bytes, below: bytes = b"") -> Iterator[bytes]:
        with os.scandir(base + b"/" + below) as listing:
            found = list(listing)
        for entry in found:
            path = below + b"/" + entry.name
            yield path
            if entry.is_dir(follow_symlinks=False):
                yield from self.walk_host(base, path)

    def walk_guest(self, root: Dentry, below: bytes) -> Iterator[bytes]:
        directory = namei.lookup(root, root, below or b"/").inode
        assert isinstance(directory, Directory)
        for entry in directory.entries():
            path = below + b"/" + entry.name
            yield path
            if entry.kind == S_IFDIR >> 12:
                yield from self.walk_guest(root, path)


TestSameAsTheHost, TestSameAsTheHostCampaign = histories(SameAsTheHost, 60, 300, 40)


def test_a_directory_found_below_itself_makes_no_circle(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    tree = HostTree()
    guest = Guest(tree.directory(tmp_path))
    inner = namei.lookup(guest.root, guest.root, b"a/b")
    (tmp_path / "a" / "b").rename(tmp_path / "b")
    (tmp_path / "a").rename(tmp_path / "b" / "a")
    below = namei.lookup(guest.root, inner, b"a")
    assert below.path() == b"/a/b/a"
    assert namei.lookup(guest.root, guest.root, b"b/a").path() == b"/b/a"
