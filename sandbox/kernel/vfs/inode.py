"""Inodes: what a name leads to, wherever its bytes are kept.

Mode bits stop who is not root (``permission``); to execute, root needs an x bit, too.  Other limits: a read-only file
system (EROFS), and on host files whatever the host refuses to the user who runs the sandbox.  That user is shown as
uid 0, all others as 65534.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox.kernel.abi.errno import (
    EACCES,
    EBUSY,
    EINVAL,
    EIO,
    EISDIR,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    EOPNOTSUPP,
    EPERM,
    EROFS,
    ETXTBSY,
    KernelError,
)
from sandbox.kernel.abi.flags import NAME_MAX, S_IFDIR, S_IFLNK, S_IFREG, X_OK
from sandbox.kernel.abi.structs import Stat, dirent_type
from sandbox.kernel.vfs.locks import FileLocks
from sandbox.kernel.vfs.operations import NO_OPERATIONS, FileOperations, OpenFile

BLOCK_SIZE = 4096
"""Bytes of a page-cache block."""
GUEST_UID = GUEST_GID = 0
OTHER_ID = 65534


class Entry(NamedTuple):
    """One name in a directory; ``kind`` is a DT_*."""

    name: bytes
    ino: int
    kind: int


class Inode:
    """Base of all inodes.  ``name`` is a label for people: the path or kind under which it was first met.

    The defaults are those of an inode without data: reading and writing blocks fails with EINVAL.
    """

    kind = S_IFREG
    """The type bits of st_mode."""
    ino = 0
    name = ""
    marks: list[Any] | None = None
    """Who watches it (``vfs.notify.Mark``), once somebody does."""
    open_files = 0
    unlinked = False
    """It has lost its last name while it was watched."""
    born = 0
    """When it was made, in nanoseconds since 1970, for those that keep no other times."""
    readonly = False
    """Changes fail with EROFS."""
    mappable = True
    """mmap(2) may have its pages: they do not change by themselves."""
    unmappable = EIO
    """With what mmap(2) fails on a regular file that it may not have."""
    reads_at_once = False
    """``read_block`` asks nobody but the host: no other task runs until it is done."""
    seeks_nowhere = False
    """lseek(2) succeeds and does nothing, pread(2) works."""
    write_count = 0
    """Open files that may write; below zero, running programs that forbid it (ETXTBSY)."""
    locks: FileLocks | None = None
    """Advisory locks, once there was one."""
    linkable = False
    """Made by O_TMPFILE: it may get a name though it has none."""
    i_mmap: dict[Any, int] | None = None
    """The trees of areas that map it, and in how many areas each does, once there was one; ``mm.vma`` keeps it."""
    fifo: Inode | None = None
    """What the open ends of a FIFO share, once there was one."""
    socket: Any = None
    """The socket that is bound to it."""

    def operations(self) -> FileOperations | None:
        """What open files of it do, None for what the page cache does with regular files."""
        return None

    def stat(self) -> Stat:
        """What stat(2) tells."""
        return Stat(dev=0, ino=self.ino, mode=self.kind)

    def aged(self, stat: Stat) -> Stat:
        """With the time of its making as all its times."""
        stat.atime = stat.mtime = stat.ctime = self.born
        return stat

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stat().size

    def read_block(self, index: int) -> bytes:
        """The bytes of page ``index`` (of 4096): fewer, or none, at the end of the file.

        Raises KernelError, EIO for a host that fails.
        """
        raise KernelError(EINVAL)

    def splice_read(self, position: int, count: int) -> bytes:
        """Up to ``count`` bytes for splice(2) and sendfile(2), of what has no pages.  Raises KernelError(EINVAL)."""
        raise KernelError(EINVAL)

    def write_block(self, index: int, data: bytes) -> None:
        """Write the start of a page back.  Bytes beyond the size are dropped: writing never changes it."""
        raise KernelError(EINVAL)

    def truncate(self, size: int) -> None:
        """Set the size in bytes; what is added reads as zeros.  The page cache is the caller's business."""
        raise KernelError(EINVAL)

    def extend(self, size: int) -> None:
        """Grow to ``size`` bytes if it is larger than the present size."""
        if size > self.size:
            self.truncate(size)

    def chmod(self, mode: int) -> None:
        """Set the permission bits."""
        raise KernelError(EPERM)

    def chown(self, uid: int | None, gid: int | None) -> None:
        """Set owner and group; None leaves one alone."""
        raise KernelError(EPERM)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set times in nanoseconds; None leaves one alone."""
        raise KernelError(EPERM)

    def check_open(self, write: bool) -> None:
        """Raise the KernelError with which open(2) for reading, or also for writing, must fail."""
        if write:
            if self.readonly:
                raise KernelError(EROFS)
            if self.write_count < 0:
                raise KernelError(ETXTBSY)

    def check_access(self, want: int) -> None:
        """access(2): ``want`` is R_OK, W_OK and X_OK bits.  Raises KernelError(EACCES or EROFS)."""
        if want & 2 and self.readonly and self.kind in (S_IFREG, S_IFDIR, S_IFLNK):
            raise KernelError(EROFS)
        if want & X_OK and self.kind != S_IFDIR and not self.stat().mode & 0o111:
            raise KernelError(EACCES)

    def deny_write(self) -> None:
        """A program starts to run from it.  Raises KernelError(ETXTBSY) while it is open for writing."""
        if self.write_count > 0:
            raise KernelError(ETXTBSY)
        self.write_count -= 1

    def allow_write(self) -> None:
        """Undo one ``deny_write``."""
        self.write_count += 1

    def opened(self, file: OpenFile) -> None:
        """A new open file description refers to it."""
        if file.writable and self.kind == S_IFREG:
            self.write_count += 1

    def released(self, file: OpenFile) -> None:
        """The last descriptor of an open file description is gone."""
        if file.writable and self.kind == S_IFREG:
            self.write_count -= 1

    def llseek(self, file: OpenFile, offset: int, whence: int) -> int | None:
        """The new position, where lseek(2) is not as for other files; None for the usual.  Raises KernelError."""
        return None

    def dropped(self, file: OpenFile) -> None:
        """One of several descriptors of an open file description is gone."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or self.ino}>"


class Symlink(Inode):
    """A symbolic link."""

    kind = S_IFLNK

    def target(self) -> bytes:
        """The path that it holds."""
        raise KernelError(EINVAL)

    def operations(self) -> FileOperations:
        return NO_OPERATIONS

    def jump(self) -> Any:
        """The dentry where the link leads without a walk (links of /proc), None for an ordinary one."""
        return None


class DirectoryOperations(FileOperations):
    """A directory is read by other calls."""

    def read(self, file: OpenFile, task: object, address: int, count: int, position: int | None = None) -> int:
        raise KernelError(EISDIR)


_DIRECTORY_OPERATIONS = DirectoryOperations()


class Directory(Inode):
    """A directory: names to inodes.

    ``pinned`` names lie over what the directory holds, as mounts do: found first, and not to be removed.
    Subclasses implement the methods with a leading underscore.
    """

    kind = S_IFDIR

    def __init__(self) -> None:
        self.pinned: dict[bytes, Inode] = {}
        self.dentry: Callable[[], Any] = lambda: None
        """A weak reference to the dentry where the directory was found last."""

    def operations(self) -> FileOperations:
        return _DIRECTORY_OPERATIONS

    def read_block(self, index: int) -> bytes:
        raise KernelError(EISDIR)

    def check_open(self, write: bool) -> None:
        if write:
            raise KernelError(EISDIR)

    def lookup(self, name: bytes) -> Inode:
        """The inode of a name (never ``.`` or ``..``).  Raises KernelError(ENOENT)."""
        self._check_name(name)
        return self.pinned.get(name) or self._lookup(name)

    def entries(self) -> list[Entry]:
        """All names but ``.`` and ``..``, sorted, so that runs are the same on every host."""
        found = {entry.name: entry for entry in self._entries()}
        for name, inode in self.pinned.items():
            found[name] = Entry(name, inode.ino, dirent_type(inode.kind))
        return [found[name] for name in sorted(found)]

    def create(self, name: bytes, mode: int) -> Inode:
        """A new empty regular file.  Raises KernelError(EEXIST, EROFS, ENOSPC)."""
        self._check_change(name)
        return self._create(name, mode)

    def mkdir(self, name: bytes, mode: int) -> Directory:
        """A new directory.  Raises KernelError(EEXIST, EROFS)."""
        self._check_change(name)
        return self._mkdir(name, mode)

    def symlink(self, name: bytes, target: bytes) -> None:
        """A new symbolic link.  Raises KernelError(EEXIST, EROFS)."""
        self._check_change(name)
        self._symlink(name, target)

    def mknod(self, name: bytes, mode: int) -> None:
        """A new FIFO or socket: ``mode`` with its type bits.  Raises KernelError(EEXIST, EPERM, EROFS)."""
        self._check_change(name)
        self._mknod(name, mode)

    def tmpfile(self, mode: int) -> Inode:
        """A regular file without a name (O_TMPFILE).  Raises KernelError(EOPNOTSUPP, EROFS)."""
        if self.readonly:
            raise KernelError(EROFS)
        return self._tmpfile(mode)

    def link(self, name: bytes, inode: Inode) -> None:
        """Another name for a file.  Raises KernelError(EEXIST, EXDEV, EROFS)."""
        self._check_change(name)
        self._link(name, inode)

    def unlink(self, name: bytes) -> None:
        """Remove a name that is no directory's.  Raises KernelError(ENOENT, EISDIR, EBUSY, EROFS)."""
        self._check_change(name)
        self._unlink(name)

    def rmdir(self, name: bytes) -> None:
        """Remove an empty directory.  Raises KernelError(ENOENT, ENOTDIR, ENOTEMPTY, EBUSY, EROFS)."""
        self._check_change(name)
        self._rmdir(name)

    def rename(self, name: bytes, directory: Directory, new: bytes) -> None:
        """Move a name to another directory of the same file system, over what is there.

        Raises KernelError(ENOENT, EXDEV, EISDIR, ENOTDIR, ENOTEMPTY, EBUSY, EROFS).
        """
        self._check_change(name)
        directory._check_change(new)
        self._rename(name, directory, new)

    def exchange(self, name: bytes, directory: Directory, new: bytes) -> None:
        """Swap what two names of one file system mean.  Raises KernelError(ENOENT, EXDEV, EINVAL, EBUSY, EROFS)."""
        self._check_change(name)
        directory._check_change(new)
        self._exchange(name, directory, new)

    @staticmethod
    def _check_name(name: bytes) -> None:
        if len(name) > NAME_MAX:
            raise KernelError(ENAMETOOLONG)
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            raise KernelError(EINVAL)

    def _check_change(self, name: bytes) -> None:
        self._check_name(name)
        if name in self.pinned:
            raise KernelError(EBUSY)
        if self.readonly:
            raise KernelError(EROFS)

    def _lookup(self, name: bytes) -> Inode:
        raise KernelError(ENOENT)

    def _entries(self) -> list[Entry]:
        return []

    def _create(self, name: bytes, mode: int) -> Inode:
        raise KernelError(EROFS)

    def _mkdir(self, name: bytes, mode: int) -> Directory:
        raise KernelError(EROFS)

    def _symlink(self, name: bytes, target: bytes) -> None:
        raise KernelError(EROFS)

    def _mknod(self, name: bytes, mode: int) -> None:
        raise KernelError(EROFS)

    def _tmpfile(self, mode: int) -> Inode:
        raise KernelError(EOPNOTSUPP)

    def _link(self, name: bytes, inode: Inode) -> None:
        raise KernelError(EROFS)

    def _unlink(self, name: bytes) -> None:
        raise KernelError(EROFS)

    def _rmdir(self, name: bytes) -> None:
        raise KernelError(EROFS)

    def _rename(self, name: bytes, directory: Directory, new: bytes) -> None:
        raise KernelError(EROFS)

    def _exchange(self, name: bytes, directory: Directory, new: bytes) -> None:
        raise KernelError(EINVAL)


def as_directory(inode: Inode) -> Directory:
    """The inode as a directory.  Raises KernelError(ENOTDIR)."""
    if not isinstance(inode, Directory):
        raise KernelError(ENOTDIR)
    return inode
