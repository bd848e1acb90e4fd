"""Host files, reachable only below one directory.

Every inode holds an ``O_PATH`` descriptor of its own, got from its parent's with ``O_NOFOLLOW``: the host
resolves a name once, a single component at a time, and what was found stays what it is, whatever happens to
names meanwhile.  Links are read as text and walked by ``namei`` inside the root, and ``..`` never reaches
the host.  So a guest gets at nothing outside the directory, even while somebody moves things about in it.

Not reachable: other mounts (a directory on another device is refused with EACCES: what is mounted there may
be proc), devices, FIFOs and sockets (they can be seen; opening fails with EACCES or ENXIO).

Inode numbers are given out as inodes are met and names are sorted, so that a run does not depend on the
host's.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from sandbox.kernel.abi.errno import EACCES, EIO, ENFILE, ENXIO, EXDEV, KernelError
from sandbox.kernel.abi.flags import (
    DT_DIR,
    DT_LNK,
    DT_REG,
    DT_UNKNOWN,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
)
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.fs.inode import (
    BLOCK_SIZE,
    GUEST_GID,
    GUEST_UID,
    OTHER_ID,
    Directory,
    Entry,
    Inode,
    Symlink,
)
from sandbox.x86.errors import ConfigurationError

HOST_DEVICE, GIVEN_DEVICE = makedev(8, 1), makedev(8, 2)
"""st_dev of what is below the root, and of single files that the user gives."""
_FIND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC


@contextmanager
def _host_errors() -> Iterator[None]:
    """The host's errors as the guest's: the same numbers, except where our own descriptors are meant."""
    try:
        yield
    except OSError as error:
        number = error.errno or EIO
        raise KernelError({24: ENFILE, 9: EIO}.get(number, number)) from error
    except ValueError as error:
        raise KernelError(EIO) from error


class HostTree:
    """The inodes of host files: at most one object for each, read-only unless ``writable``.

    ``device`` is the st_dev that the guest sees.
    """

    def __init__(self, writable: bool = False, device: int = HOST_DEVICE) -> None:
        self.writable = writable
        self.device = device
        self._live: WeakValueDictionary[tuple[int, int], HostInode] = WeakValueDictionary()
        self._numbers: dict[tuple[int, int], int] = {}
        self._uid, self._gid = os.geteuid(), os.getegid()

    def directory(self, path: str | Path) -> HostDirectory:
        """The inode of a directory that the user names; links on the way to it are the user's business.

        Raises ConfigurationError.
        """
        try:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"root {path}: {error.strerror}") from error
        if self._is_proc(os.fstat(descriptor).st_dev):
            os.close(descriptor)
            raise ConfigurationError(f"root {path}: it is in /proc, through which all of the host can be reached")
        inode = self.adopt(descriptor, "/")
        assert isinstance(inode, HostDirectory)
        return inode

    def file(self, path: str | Path) -> HostFile:
        """The inode of a regular file that the user names.  Raises ConfigurationError."""
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
        inode = self.adopt(descriptor, str(path))
        if not isinstance(inode, HostFile):
            raise ConfigurationError(f"{path}: not a regular file")
        return inode

    def adopt(self, descriptor: int, name: str) -> HostInode:
        """The inode of an open descriptor, which belongs to the inode (or is closed) afterwards."""
        found = os.fstat(descriptor)
        key = found.st_dev, found.st_ino
        inode = self._live.get(key)
        if inode is not None:
            os.close(descriptor)
            return inode
        kind = _KINDS.get(found.st_mode & S_IFMT, HostSpecial)
        inode = kind(self, descriptor, found, self.number(*key), name)
        self._live[key] = inode
        return inode

    def number(self, device: int, ino: int) -> int:
        """The guest's inode number for a host inode."""
        return self._numbers.setdefault((device, ino), len(self._numbers) + 1)

    def owner(self, uid: int, gid: int) -> tuple[int, int]:
        """Owner and group as the guest sees them."""
        return (
            GUEST_UID if uid == self._uid else OTHER_ID,
            GUEST_GID if gid == self._gid else OTHER_ID,
        )

    @staticmethod
    def _is_proc(device: int) -> bool:
        try:
            return Path("/proc/self").stat().st_dev == device
        except OSError:
            return False


class HostInode(Inode):
    """What all host inodes share.  ``descriptor`` stays open as long as the object lives."""

    def __init__(self, tree: HostTree, descriptor: int, found: os.stat_result, ino: int, name: str) -> None:
        super().__init__()
        self.tree = tree
        self.descriptor = descriptor
        self.device = found.st_dev
        self.kind = found.st_mode & S_IFMT
        self.ino = ino
        self.name = name
        self.readonly = not tree.writable

    def __del__(self) -> None:
        os.close(self.descriptor)

    def stat(self) -> Stat:
        with _host_errors():
            found = os.fstat(self.descriptor)
        uid, gid = self.tree.owner(found.st_uid, found.st_gid)
        return Stat(
            dev=self.tree.device,
            ino=self.ino,
            mode=found.st_mode,
            nlink=found.st_nlink,
            uid=uid,
            gid=gid,
            rdev=makedev(os.major(found.st_rdev), os.minor(found.st_rdev)),
            size=found.st_size,
            blocks=found.st_blocks,
            atime=found.st_atime_ns,
            mtime=found.st_mtime_ns,
            ctime=found.st_ctime_ns,
        )

    def reopen(self, flags: int) -> int:
        """Another descriptor for the same host inode, which no change of names can divert."""
        with _host_errors():
            return os.open(f"/proc/self/fd/{self.descriptor}", flags | os.O_CLOEXEC | os.O_NOCTTY)


class HostSymlink(HostInode, Symlink):
    """A symbolic link: text, which is interpreted inside the root."""

    def target(self) -> bytes:
        with _host_errors():
            return os.readlink(b"", dir_fd=self.descriptor)


class HostSpecial(HostInode):
    """A device, FIFO or socket of the host: visible, never opened."""

    def check_open(self, write: bool) -> None:
        raise KernelError(ENXIO if self.kind == S_IFSOCK else EACCES)


class HostFile(HostInode):
    """A regular file of the host, read and written block by block."""

    _read_descriptor = -1
    _write_descriptor = -1

    def __del__(self) -> None:
        for descriptor in {self._read_descriptor, self._write_descriptor, self.descriptor} - {-1}:
            os.close(descriptor)

    @property
    def size(self) -> int:
        with _host_errors():
            return os.fstat(self.descriptor).st_size

    def check_open(self, write: bool) -> None:
        super().check_open(write)
        self._for_reading()
        if write:
            self._for_writing()

    def read_block(self, index: int) -> bytes:
        descriptor = self._for_reading()
        with _host_errors():
            return os.pread(descriptor, BLOCK_SIZE, index * BLOCK_SIZE)

    def write_block(self, index: int, data: bytes) -> None:
        start = index * BLOCK_SIZE
        descriptor = self._for_writing()
        with _host_errors():
            left = memoryview(data)[: max(0, min(BLOCK_SIZE, self.size - start))]
            while left:
                done = os.pwrite(descriptor, left, start)
                start += done
                left = left[done:]

    def truncate(self, size: int) -> None:
        descriptor = self._for_writing()
        with _host_errors():
            os.ftruncate(descriptor, size)

    def chmod(self, mode: int) -> None:
        descriptor = self._for_writing()
        with _host_errors():
            os.fchmod(descriptor, mode & 0o777)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        descriptor = self._for_writing()
        now = self.stat()
        with _host_errors():
            os.utime(descriptor, ns=(now.atime if atime is None else atime, now.mtime if mtime is None else mtime))

    def _for_reading(self) -> int:
        if self._read_descriptor < 0:
            self._read_descriptor = self.reopen(os.O_RDONLY)
        return self._read_descriptor

    def _for_writing(self) -> int:
        super().check_open(True)
        if self._write_descriptor < 0:
            self._write_descriptor = self.reopen(os.O_WRONLY)
        return self._write_descriptor


class HostDirectory(HostInode, Directory):
    """A directory of the host."""

    def _lookup(self, name: bytes) -> HostInode:
        with _host_errors():
            return self._adopt(os.open(name, _FIND, dir_fd=self.descriptor), name)

    def _adopt(self, descriptor: int, name: bytes) -> HostInode:
        found = os.fstat(descriptor)
        if modes.S_ISDIR(found.st_mode) and found.st_dev != self.device:
            os.close(descriptor)
            raise KernelError(EACCES)
        return self.tree.adopt(descriptor, f"{self.name.rstrip('/')}/{os.fsdecode(name)}")

    def _entries(self) -> list[Entry]:
        with _host_errors():
            descriptor = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
            try:
                with os.scandir(descriptor) as listing:
                    return [
                        Entry(
                            os.fsencode(each.name),
                            self.tree.number(self.device, each.inode()),
                            _kind_of(each),
                        )
                        for each in sorted(listing, key=lambda each: each.name)
                    ]
            finally:
                os.close(descriptor)

    def _create(self, name: bytes, mode: int) -> HostInode:
        with _host_errors():
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=self.descriptor)
            os.fchmod(descriptor, mode & 0o777)
            return self._adopt(descriptor, name)

    def _mkdir(self, name: bytes, mode: int) -> Directory:
        with _host_errors():
            os.mkdir(name, mode & 0o777, dir_fd=self.descriptor)
        made = self._lookup(name)
        if not isinstance(made, HostDirectory):
            raise KernelError(EIO)
        return made

    def _symlink(self, name: bytes, target: bytes) -> None:
        with _host_errors():
            os.symlink(target, name, dir_fd=self.descriptor)

    def _link(self, name: bytes, inode: Inode) -> None:
        if not isinstance(inode, HostInode) or inode.tree is not self.tree:
            raise KernelError(EXDEV)
        with _host_errors():
            os.link(
                f"/proc/self/fd/{inode.descriptor}".encode(),
                name,
                dst_dir_fd=self.descriptor,
                follow_symlinks=True,
            )

    def _unlink(self, name: bytes) -> None:
        with _host_errors():
            os.unlink(name, dir_fd=self.descriptor)

    def _rmdir(self, name: bytes) -> None:
        with _host_errors():
            os.rmdir(name, dir_fd=self.descriptor)

    def _rename(self, name: bytes, directory: Directory, new: bytes) -> None:
        if not isinstance(directory, HostDirectory) or directory.tree is not self.tree:
            raise KernelError(EXDEV)
        with _host_errors():
            os.rename(name, new, src_dir_fd=self.descriptor, dst_dir_fd=directory.descriptor)


def _kind_of(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return DT_LNK
    if entry.is_dir(follow_symlinks=False):
        return DT_DIR
    return DT_REG if entry.is_file(follow_symlinks=False) else DT_UNKNOWN


_KINDS: dict[int, type[HostInode]] = {
    S_IFREG: HostFile,
    S_IFLNK: HostSymlink,
    modes.S_IFDIR: HostDirectory,
}
