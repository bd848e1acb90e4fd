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

import errno
import os
import resource
import stat as modes
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary, ref

from sandbox.kernel.abi.errno import EACCES, EINVAL, EIO, ENFILE, ENXIO, EPERM, EROFS, EXDEV, KernelError
from sandbox.kernel.abi.flags import (
    DT_DIR,
    DT_FIFO,
    DT_LNK,
    DT_REG,
    DT_UNKNOWN,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
)
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.vfs.inode import (
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
OPEN_FILES = 256
"""Files whose contents are open at a time; others are opened again when they are needed."""
_FIND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC


@contextmanager
def _host_errors() -> Iterator[None]:
    """The host's errors as the guest's: the same numbers, except where our own descriptors are meant."""
    try:
        yield
    except OSError as error:
        number = error.errno or EIO
        raise KernelError({errno.EMFILE: ENFILE, errno.EBADF: EIO}.get(number, number)) from error
    except ValueError as error:
        raise KernelError(EIO) from error


class InodeNumbers:
    """Inode numbers of one file system: 1, 2, … as inodes are met or made."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], int] = {}
        self._last = 0

    def next(self) -> int:
        """The number of a new inode."""
        self._last += 1
        return self._last

    def of(self, key: tuple[int, int, int]) -> int:
        """The number of a host inode, always the same."""
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = self.next()
        return number


class HostTree:
    """The inodes of host files: at most one object for each, read-only unless ``writable``.

    ``device`` is the st_dev that the guest sees.  Owners that the guest sets are kept here: on the host all files
    belong to the user who runs the sandbox.  Times after ``latest`` (nanoseconds since 1970) are shown as that: the
    guest's clock may be years behind the host's, and make(1) must not find its sources in the future.  What the guest
    itself writes meanwhile has the guest's time, ``now``.
    """

    def __init__(
        self,
        writable: bool = False,
        device: int = HOST_DEVICE,
        numbers: InodeNumbers | None = None,
        latest: int | None = None,
        now: Callable[[], int] = lambda: 0,
    ) -> None:
        self.writable = writable
        self.device = device
        self.latest, self._now = latest, now
        self._written: dict[tuple[int, int, int], int] = {}
        """When the guest last changed a file, by the guest's clock."""
        self.owners: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._live: WeakValueDictionary[tuple[int, int], HostInode] = WeakValueDictionary()
        self._numbers = numbers if numbers is not None else InodeNumbers()
        self._open: deque[ref[HostFile]] = deque()
        self._uid, self._gid = os.geteuid(), os.getegid()

    def shown(self, nanoseconds: int) -> int:
        """A time of the host as the guest sees it."""
        return nanoseconds if self.latest is None else min(nanoseconds, self.latest)

    def modified(self, inode: HostInode, nanoseconds: int) -> int:
        """The time at which an inode was written, as the guest sees it."""
        written = self._written.get(inode.key)
        return self.shown(nanoseconds) if written is None else written

    def stamp(self, inode: HostInode, when: int | None = None) -> None:
        """The guest changes an inode now, or says when it did."""
        if self.latest is not None:
            self._written[inode.key] = self._now() if when is None else when

    def forget(self, inode: HostInode) -> None:
        """Its last name is gone: its number may come again."""
        self.owners.pop(inode.key, None)
        self._written.pop(inode.key, None)

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
        return self._numbers.of((self.device, device, ino))

    def opened(self, file: HostFile) -> None:
        """A file's contents were opened: those that were opened long ago are closed."""
        self._open.append(ref(file))
        if len(self._open) > OPEN_FILES:
            oldest = self._open.popleft()()
            if oldest is not None:
                oldest.close_idle()

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
        self.key = tree.device, found.st_dev, found.st_ino
        self.kind = found.st_mode & S_IFMT
        self.ino = ino
        self.name = name
        self.readonly = not tree.writable

    def __del__(self) -> None:
        os.close(self.descriptor)

    def stat(self) -> Stat:
        with _host_errors():
            found = os.fstat(self.descriptor)
        uid, gid = self.tree.owners.get(self.key) or self.tree.owner(found.st_uid, found.st_gid)
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
            atime=self.tree.shown(found.st_atime_ns),
            mtime=self.tree.modified(self, found.st_mtime_ns),
            ctime=self.tree.shown(found.st_ctime_ns),
        )

    @property
    def magic(self) -> str:
        """A path of the host to this very inode, which no change of names can divert."""
        return f"/proc/self/fd/{self.descriptor}"

    def reopen(self, flags: int) -> int:
        """Another descriptor for the same host inode."""
        with _host_errors():
            return _open(self.magic, flags | os.O_CLOEXEC | os.O_NOCTTY)

    def chmod(self, mode: int) -> None:
        self._check_writable()
        with _host_errors():
            Path(self.magic).chmod(mode & self._mode_mask)

    def chown(self, uid: int | None, gid: int | None) -> None:
        self._check_writable()
        now = self.stat()
        self.tree.owners[self.key] = now.uid if uid is None else uid, now.gid if gid is None else gid

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        self._check_writable()
        now = self.stat()
        with _host_errors():
            os.utime(self.magic, ns=(now.atime if atime is None else atime, now.mtime if mtime is None else mtime))
        self.tree.stamp(self, now.mtime if mtime is None else mtime)

    @property
    def _mode_mask(self) -> int:
        """Bits of a mode that reach the host: no program there gets its owner's rights."""
        return 0o1777 if self.kind == S_IFDIR else 0o777

    def _check_writable(self) -> None:
        if self.readonly:
            raise KernelError(EROFS)


class HostSymlink(HostInode, Symlink):
    """A symbolic link: text, which is interpreted inside the root."""

    def target(self) -> bytes:
        with _host_errors():
            return os.readlink(b"", dir_fd=self.descriptor)


class HostSpecial(HostInode):
    """A device, FIFO or socket of the host: visible, never opened on the host."""

    def check_open(self, write: bool) -> None:
        if self.kind != S_IFIFO:
            raise KernelError(ENXIO if self.kind == S_IFSOCK else EACCES)


class HostFile(HostInode):
    """A regular file of the host, read and written block by block."""

    _read_descriptor = -1
    _write_descriptor = -1

    def __del__(self) -> None:
        self._close()
        super().__del__()

    def close_idle(self) -> None:
        """Close the contents, unless a program may be writing to them."""
        if self.write_count <= 0:
            self._close()

    def _close(self) -> None:
        for descriptor in {self._read_descriptor, self._write_descriptor} - {-1}:
            os.close(descriptor)
        self._read_descriptor = self._write_descriptor = -1

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
        self.tree.stamp(self)

    def truncate(self, size: int) -> None:
        descriptor = self._for_writing()
        with _host_errors():
            os.ftruncate(descriptor, size)
        self.tree.stamp(self)

    def _for_reading(self) -> int:
        if self._read_descriptor < 0:
            self._read_descriptor = self.reopen(os.O_RDONLY)
            self.tree.opened(self)
        return self._read_descriptor

    def _for_writing(self) -> int:
        super().check_open(True)
        if self._write_descriptor < 0:
            self._write_descriptor = self.reopen(os.O_WRONLY)
            self.tree.opened(self)
        return self._write_descriptor


class HostDirectory(HostInode, Directory):
    """A directory of the host."""

    def _lookup(self, name: bytes) -> HostInode:
        with _host_errors():
            return self._adopt(_open(name, _FIND, dir_fd=self.descriptor), name)

    def _adopt(self, descriptor: int, name: bytes) -> HostInode:
        found = os.fstat(descriptor)
        if modes.S_ISDIR(found.st_mode) and found.st_dev != self.device:
            os.close(descriptor)
            raise KernelError(EACCES)
        return self.tree.adopt(descriptor, f"{self.name.rstrip('/')}/{os.fsdecode(name)}")

    def _entries(self) -> list[Entry]:
        with _host_errors():
            descriptor = _open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
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

    def space(self) -> tuple[int, int]:
        """Blocks of 4096 bytes of the host's file system, and how many a user has free."""
        with _host_errors():
            found = os.statvfs(self.magic)
        return found.f_blocks * found.f_frsize // BLOCK_SIZE, found.f_bavail * found.f_frsize // BLOCK_SIZE

    def _create(self, name: bytes, mode: int) -> HostInode:
        with _host_errors():
            descriptor = _open(name, _CREATE, 0o600, dir_fd=self.descriptor)
            os.fchmod(descriptor, mode & 0o777)
            return self._new(self._adopt(descriptor, name))

    def _new(self, inode: HostInode) -> HostInode:
        """A new inode may have the number of one that is gone."""
        self.tree.forget(inode)
        return inode

    def _mkdir(self, name: bytes, mode: int) -> Directory:
        with _host_errors():
            os.mkdir(name, 0o700, dir_fd=self.descriptor)
        made = self._new(self._lookup(name))
        made.chmod(mode)
        if not isinstance(made, HostDirectory):
            raise KernelError(EIO)
        return made

    def _symlink(self, name: bytes, target: bytes) -> None:
        with _host_errors():
            os.symlink(target, name, dir_fd=self.descriptor)
        self._new(self._lookup(name))

    def _mknod(self, name: bytes, mode: int) -> None:
        if mode & S_IFMT in (0, S_IFREG):
            self._create(name, mode)
        elif mode & S_IFMT == S_IFIFO:
            with _host_errors():
                os.mkfifo(name, 0o600, dir_fd=self.descriptor)
            self._new(self._lookup(name)).chmod(mode)
        elif mode & S_IFMT == S_IFSOCK:
            with _host_errors():
                os.mknod(name, S_IFSOCK | 0o600, dir_fd=self.descriptor)
            self._new(self._lookup(name)).chmod(mode)
        else:
            raise KernelError(EPERM)

    def _tmpfile(self, mode: int) -> HostInode:
        with _host_errors():
            descriptor = _open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self.descriptor)
            os.fchmod(descriptor, mode & 0o777)
            inode = self._new(self._adopt(descriptor, b"#tmpfile"))
        inode.linkable = True
        return inode

    def _link(self, name: bytes, inode: Inode) -> None:
        if not isinstance(inode, HostInode) or inode.tree is not self.tree:
            raise KernelError(EXDEV)
        with _host_errors():
            os.link(
                inode.magic.encode(),
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

    def _exchange(self, name: bytes, directory: Directory, new: bytes) -> None:
        if not isinstance(directory, HostDirectory) or directory.tree is not self.tree:
            raise KernelError(EXDEV)
        raise KernelError(EINVAL)


def _open(path: str | bytes, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
    """os.open; when all descriptors are in use, the limit is raised as far as the host lets us."""
    try:
        return os.open(path, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if error.errno != errno.EMFILE or soft == hard:
            raise
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return os.open(path, flags, mode, dir_fd=dir_fd)


def _kind_of(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return DT_LNK
    if entry.is_dir(follow_symlinks=False):
        return DT_DIR
    if entry.is_file(follow_symlinks=False):
        return DT_REG
    try:
        return DT_FIFO if modes.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode) else DT_UNKNOWN
    except OSError:
        return DT_UNKNOWN


_KINDS: dict[int, type[HostInode]] = {
    S_IFREG: HostFile,
    S_IFLNK: HostSymlink,
    S_IFDIR: HostDirectory,
}
