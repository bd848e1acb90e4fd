"""Host files one by one, but for directories, and what is kept of all of them; ``hostfs`` says what is out of reach."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from weakref import ref

from sandbox.kernel.abi.errno import EACCES, EIO, ENFILE, ENXIO, EROFS, KernelError
from sandbox.kernel.abi.flags import (
    S_IFDIR,
    S_IFIFO,
    S_IFMT,
    S_IFSOCK,
)
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.fs.hostcalls import HostCalls, HostStat
from sandbox.kernel.vfs.inode import (
    BLOCK_SIZE,
    GUEST_GID,
    GUEST_UID,
    OTHER_ID,
    Inode,
    Symlink,
)

HOST_DEVICE, GIVEN_DEVICE = makedev(8, 1), makedev(8, 2)
"""st_dev of what is below the root, and of single files that the user gives."""
OPEN_FILES = 256
"""Files whose contents are open at a time; others are opened again when they are needed."""


class HostErrors:
    """The host's errors as the guest's: the same numbers, except where our own descriptors are meant."""

    __slots__ = ()

    def __enter__(self) -> None:
        """It keeps nothing, so that one serves all."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            number = error.errno or EIO
            raise KernelError({errno.EMFILE: ENFILE, errno.EBADF: EIO}.get(number, number)) from error
        if isinstance(error, ValueError):
            raise KernelError(EIO) from error


_HOST_ERRORS = HostErrors()


def host_errors() -> HostErrors:
    """For the calls of a ``with``."""
    return _HOST_ERRORS


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


class HostRecords:
    """What is kept of host files, and how the guest sees them; ``device`` is their st_dev.

    Owners that the guest sets are kept here: on the host all files belong to the user who runs the sandbox.  Times
    after ``latest`` (nanoseconds since 1970) are shown as that: the guest's clock may be years behind the host's, and
    make(1) must not find its sources in the future.  What the guest itself writes meanwhile has the guest's time,
    ``now``.
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
        self.calls = calls if calls is not None else HostCalls()
        self.writable = writable
        self.device = device
        self.latest, self._now = latest, now
        self._written: dict[tuple[int, int, int], int] = {}
        """When the guest last changed a file, by the guest's clock."""
        self.owners: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._numbers = numbers if numbers is not None else InodeNumbers()
        self._open: deque[ref[HostFile]] = deque()
        self._uid, self._gid = self.calls.users()

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


class HostInode(Inode):
    """What all host inodes share.  ``descriptor`` stays open as long as the object lives."""

    def __init__(self, tree: HostRecords, descriptor: int, found: HostStat, ino: int, name: str) -> None:
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
        self.tree.calls.close(self.descriptor)

    def stat(self) -> Stat:
        with host_errors():
            found = self.tree.calls.stat(self.descriptor)
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

    def reopen(self, flags: int) -> int:
        """Another descriptor for the same host inode."""
        with host_errors():
            return self.tree.calls.reopen(self.descriptor, flags)

    def chmod(self, mode: int) -> None:
        self._check_writable()
        with host_errors():
            self.tree.calls.chmod(self.descriptor, mode & self._mode_mask)

    def chown(self, uid: int | None, gid: int | None) -> None:
        self._check_writable()
        now = self.stat()
        self.tree.owners[self.key] = now.uid if uid is None else uid, now.gid if gid is None else gid

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        self._check_writable()
        now = self.stat()
        with host_errors():
            times = now.atime if atime is None else atime, now.mtime if mtime is None else mtime
            self.tree.calls.utime(self.descriptor, *times)
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
        with host_errors():
            return self.tree.calls.target(self.descriptor)


class HostSpecial(HostInode):
    """A device, FIFO or socket of the host: visible, never opened on the host."""

    def check_open(self, write: bool) -> None:
        if self.kind != S_IFIFO:
            raise KernelError(ENXIO if self.kind == S_IFSOCK else EACCES)


class HostFile(HostInode):
    """A regular file of the host, read and written block by block."""

    reads_at_once = True
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
            self.tree.calls.close(descriptor)
        self._read_descriptor = self._write_descriptor = -1

    @property
    def size(self) -> int:
        with host_errors():
            return self.tree.calls.size(self.descriptor, self._read_descriptor)

    def check_open(self, write: bool) -> None:
        super().check_open(write)
        self._for_reading()
        if write:
            self._for_writing()

    def read_block(self, index: int) -> bytes:
        descriptor = self._for_reading()
        with host_errors():
            return self.tree.calls.read(descriptor, BLOCK_SIZE, index * BLOCK_SIZE)

    def write_block(self, index: int, data: bytes) -> None:
        start = index * BLOCK_SIZE
        descriptor = self._for_writing()
        with host_errors():
            self.tree.calls.write(descriptor, bytes(data[: max(0, min(BLOCK_SIZE, self.size - start))]), start)
        self.tree.stamp(self)

    def truncate(self, size: int) -> None:
        descriptor = self._for_writing()
        with host_errors():
            self.tree.calls.truncate(descriptor, size)
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
