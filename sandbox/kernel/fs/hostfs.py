"""Host files, reachable only below one directory.

Every inode holds an ``O_PATH`` descriptor of its own, got from its parent's with ``O_NOFOLLOW``: the host
resolves a name once, a single component at a time, and what was found stays what it is, whatever happens to
names meanwhile.  Links are read as text and walked by ``namei`` inside the root, and ``..`` never reaches
the host.  So a guest gets at nothing outside the directory, even while somebody moves things about in it.

Not reachable: other mounts (a directory on another device is refused with EACCES: what is mounted there may
be proc), devices and sockets (they can be seen; opening fails with EACCES or ENXIO).  A FIFO is a name at which
the guest's programs meet; the host's FIFO is never opened.

Inode numbers are given out as inodes are met and names are sorted, so that a run does not depend on the
host's.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from sandbox.kernel.abi.errno import EACCES, EINVAL, EIO, EPERM, EXDEV, KernelError
from sandbox.kernel.abi.flags import (
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
)
from sandbox.kernel.fs.hostcalls import CREATE, FIND, NAMELESS, HostCalls
from sandbox.kernel.fs.hostinode import (
    HOST_DEVICE,
    HostFile,
    HostInode,
    HostRecords,
    HostSpecial,
    HostSymlink,
    InodeNumbers,
    host_errors,
)
from sandbox.kernel.vfs.inode import (
    BLOCK_SIZE,
    Directory,
    Entry,
    Inode,
)
from sandbox.x86.errors import ConfigurationError


class HostTree(HostRecords):
    """The inodes of host files: at most one object for each, read-only unless ``writable``.

    The other arguments are those of HostRecords.
    """

    def __init__(
        self,
        writable: bool = False,
        device: int = HOST_DEVICE,
        numbers: InodeNumbers | None = None,
        latest: int | None = None,
        now: Callable[[], int] = lambda: 0,
        calls: HostCalls | None = None,
    ) -> None:
        super().__init__(writable, device, numbers, latest, now, calls)
        self._live: WeakValueDictionary[tuple[int, int], HostInode] = WeakValueDictionary()

    def directory(self, path: str | Path) -> HostDirectory:
        """The inode of a directory that the user names; links on the way to it are the user's business.

        Raises ConfigurationError.
        """
        try:
            descriptor = self.calls.root(os.fspath(path), os.O_DIRECTORY)
        except OSError as error:
            raise ConfigurationError(f"root {path}: {error.strerror}") from error
        if self.calls.stat(descriptor).st_dev == self.calls.device_of_proc():
            self.calls.close(descriptor)
            raise ConfigurationError(f"root {path}: it is in /proc, through which all of the host can be reached")
        inode = self.adopt(descriptor, "/")
        assert isinstance(inode, HostDirectory)
        return inode

    def file(self, path: str | Path) -> HostFile:
        """The inode of a regular file that the user names.  Raises ConfigurationError."""
        try:
            descriptor = self.calls.root(os.fspath(path), 0)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
        inode = self.adopt(descriptor, str(path))
        if not isinstance(inode, HostFile):
            raise ConfigurationError(f"{path}: not a regular file")
        return inode

    def adopt(self, descriptor: int, name: str) -> HostInode:
        """The inode of an open descriptor, which belongs to the inode (or is closed) afterwards."""
        found = self.calls.stat(descriptor)
        key = found.st_dev, found.st_ino
        inode = self._live.get(key)
        if inode is not None:
            self.calls.close(descriptor)
            return inode
        kind = _KINDS.get(found.st_mode & S_IFMT, HostSpecial)
        inode = kind(self, descriptor, found, self.number(*key), name)
        self._live[key] = inode
        return inode


class HostDirectory(HostInode, Directory):
    """A directory of the host."""

    tree: HostTree

    def _lookup(self, name: bytes) -> HostInode:
        with host_errors():
            return self._adopt(self.tree.calls.open(name, FIND, self.descriptor), name)

    def _adopt(self, descriptor: int, name: bytes) -> HostInode:
        found = self.tree.calls.stat(descriptor)
        if modes.S_ISDIR(found.st_mode) and found.st_dev != self.device:
            self.tree.calls.close(descriptor)
            raise KernelError(EACCES)
        return self.tree.adopt(descriptor, f"{self.name.rstrip('/')}/{os.fsdecode(name)}")

    def _entries(self) -> list[Entry]:
        with host_errors():
            listing = self.tree.calls.entries(self.descriptor)
        return [Entry(name, self.tree.number(self.device, ino), kind) for name, ino, kind in listing]

    def space(self) -> tuple[int, int]:
        """Blocks of 4096 bytes of the host's file system, and how many a user has free."""
        with host_errors():
            total, free = self.tree.calls.space(self.descriptor)
        return total // BLOCK_SIZE, free // BLOCK_SIZE

    def _create(self, name: bytes, mode: int) -> HostInode:
        with host_errors():
            descriptor = self.tree.calls.open(name, CREATE, self.descriptor)
            self.tree.calls.chmod(descriptor, mode & 0o777)
            return self._new(self._adopt(descriptor, name))

    def _new(self, inode: HostInode) -> HostInode:
        """A new inode may have the number of one that is gone."""
        self.tree.forget(inode)
        return inode

    def _mkdir(self, name: bytes, mode: int) -> Directory:
        with host_errors():
            self.tree.calls.mkdir(name, self.descriptor)
        made = self._new(self._lookup(name))
        made.chmod(mode)
        if not isinstance(made, HostDirectory):
            raise KernelError(EIO)
        return made

    def _symlink(self, name: bytes, target: bytes) -> None:
        with host_errors():
            self.tree.calls.symlink(name, self.descriptor, target)
        self._new(self._lookup(name))

    def _mknod(self, name: bytes, mode: int) -> None:
        if mode & S_IFMT in (0, S_IFREG):
            self._create(name, mode)
        elif mode & S_IFMT == S_IFIFO:
            with host_errors():
                self.tree.calls.fifo(name, self.descriptor)
            self._new(self._lookup(name)).chmod(mode)
        elif mode & S_IFMT == S_IFSOCK:
            with host_errors():
                self.tree.calls.socket(name, self.descriptor)
            self._new(self._lookup(name)).chmod(mode)
        else:
            raise KernelError(EPERM)

    def _tmpfile(self, mode: int) -> HostInode:
        with host_errors():
            descriptor = self.tree.calls.open(b".", NAMELESS, self.descriptor)
            self.tree.calls.chmod(descriptor, mode & 0o777)
            inode = self._new(self._adopt(descriptor, b"#tmpfile"))
        inode.linkable = True
        return inode

    def _link(self, name: bytes, inode: Inode) -> None:
        if not isinstance(inode, HostInode) or inode.tree is not self.tree:
            raise KernelError(EXDEV)
        with host_errors():
            self.tree.calls.link(inode.descriptor, name, self.descriptor)

    def _unlink(self, name: bytes) -> None:
        with host_errors():
            self.tree.calls.unlink(name, self.descriptor)

    def _rmdir(self, name: bytes) -> None:
        with host_errors():
            self.tree.calls.rmdir(name, self.descriptor)

    def _rename(self, name: bytes, directory: Directory, new: bytes) -> None:
        if not isinstance(directory, HostDirectory) or directory.tree is not self.tree:
            raise KernelError(EXDEV)
        with host_errors():
            self.tree.calls.rename(name, self.descriptor, new, directory.descriptor)

    def _exchange(self, name: bytes, directory: Directory, new: bytes) -> None:
        if not isinstance(directory, HostDirectory) or directory.tree is not self.tree:
            raise KernelError(EXDEV)
        raise KernelError(EINVAL)


_KINDS: dict[int, type[HostInode]] = {
    S_IFREG: HostFile,
    S_IFLNK: HostSymlink,
    S_IFDIR: HostDirectory,
}
