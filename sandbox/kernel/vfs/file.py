"""Open files: the description that dup and fork share, and the table of descriptors of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sandbox.kernel.abi.errno import (
    EBADF,
    EINVAL,
    EMFILE,
    ENXIO,
    EOVERFLOW,
    ESPIPE,
    KernelError,
)
from sandbox.kernel.abi.flags import (
    DT_DIR,
    O_ACCMODE,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    S_IFDIR,
    S_IFREG,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
)
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.inode import Entry, Inode, as_directory
from sandbox.kernel.vfs.notify import closed, inode_gone
from sandbox.records import dataclass

DEFAULT_LIMIT = 1024
"""Descriptors of a process (RLIMIT_NOFILE)."""
MAXIMUM_POSITION = (1 << 63) - 1
LARGEST_SMALL = (1 << 31) - 1
"""Largest size and position of a file that is open without O_LARGEFILE."""


@dataclass(slots=True, eq=False)
class File:
    """An open file description: ``flags`` are O_*, ``position`` bytes (entries in a directory).

    ``count`` is the number of descriptors, in all processes, that refer to it.  ``dentry`` is how it was
    found, None for what has no name (pipes, the console).
    """

    inode: Inode
    flags: int
    dentry: Dentry | None = None
    position: int = 0
    count: int = 0
    owner: int = 0
    """The pid, or the group's negative, for SIGIO (F_SETOWN); kept, not used, like the next two."""
    owner_type: int = 1
    """F_OWNER_TID 0, F_OWNER_PID 1, F_OWNER_PGRP 2."""
    signal: int = 0
    """In place of SIGIO (F_SETSIG)."""
    _listing: list[Entry] | None = None
    _pinned: Inode | None = None
    """The directory where it was found: it cannot go while the file is open."""

    def __post_init__(self) -> None:
        self.inode.opened(self)
        self.inode.open_files += 1
        if self.dentry is not None and self.dentry.parent is not self.dentry:
            self._pinned = self.dentry.parent.inode
            self._pinned.open_files += 1

    @property
    def readable(self) -> bool:
        return self.flags & O_ACCMODE in (O_RDONLY, O_RDWR) and not self.flags & O_PATH

    @property
    def writable(self) -> bool:
        return self.flags & O_ACCMODE in (O_WRONLY, O_RDWR) and not self.flags & O_PATH

    def get(self) -> File:
        """One more descriptor refers to it."""
        self.count += 1
        return self

    def put(self) -> None:
        """One descriptor less; the last releases the inode."""
        self.count -= 1
        if self.count == 0:
            if self.inode.locks is not None:
                self.inode.locks.released(self)
            self.inode.released(self)
            self.inode.open_files -= 1
            closed(self)
            if self._pinned is not None:
                self._pinned.open_files -= 1
                inode_gone(self._pinned)
        else:
            self.inode.dropped(self)

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2): the new position.  Raises KernelError(ESPIPE, EINVAL, ENXIO, EOVERFLOW)."""
        if self.flags & O_PATH:
            raise KernelError(EBADF)
        own = self.inode.llseek(self, offset, whence)
        if own is not None:
            self.position = own
            return own
        if self.inode.kind not in (S_IFREG, S_IFDIR):
            if self.inode.seeks_nowhere:
                return 0
            raise KernelError(ESPIPE)
        if whence == SEEK_SET:
            position = offset
        elif whence == SEEK_CUR:
            position = self.position + offset
        elif whence == SEEK_END:
            position = self.inode.size + offset
        elif whence in (SEEK_DATA, SEEK_HOLE):
            size = self.inode.size
            if not 0 <= offset < size:
                raise KernelError(ENXIO)
            position = offset if whence == SEEK_DATA else size
        else:
            raise KernelError(EINVAL)
        if position < 0:
            raise KernelError(EINVAL)
        if position > MAXIMUM_POSITION:
            raise KernelError(EOVERFLOW)
        self.position = position
        return position

    def entries(self) -> list[Entry]:
        """The directory's entries from ``position`` on, ``.`` and ``..`` first; the caller advances the
        position.

        The listing is taken when reading starts, so that changes meanwhile neither repeat nor skip a name.
        Raises KernelError(ENOTDIR).
        """
        directory = as_directory(self.inode)
        if self._listing is None or self.position == 0:
            parent = self.dentry.parent.inode if self.dentry is not None else directory
            dots = [Entry(b".", directory.ino, DT_DIR), Entry(b"..", parent.ino, DT_DIR)]
            self._listing = dots + directory.entries()
        return self._listing[self.position :]


class FdTable:
    """The descriptors of a process; the lowest free number is always given first."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self.users = 1
        """Tasks that have this table (CLONE_FILES)."""
        self.hold: Callable[[File], None] | None = None
        """Set while several tasks share it: keeps a file for the call that asked, whoever closes it meanwhile."""
        self._files: dict[int, File] = {}
        self._first_free = 0
        """No descriptor below is free."""
        self._close_on_exec: set[int] = set()

    def __iter__(self) -> Iterator[tuple[int, File]]:
        return iter(sorted(self._files.items()))

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, fd: int) -> bool:
        return fd in self._files

    def get(self, fd: int) -> File:
        """The open file of a descriptor.  Raises KernelError(EBADF)."""
        file = self._files.get(fd)
        if file is None:
            raise KernelError(EBADF)
        if self.hold is not None:
            self.hold(file)
        return file

    def get_readable(self, fd: int) -> File:
        """The same for read(2).  Raises KernelError(EBADF) if it is not open for reading."""
        file = self.get(fd)
        if not file.readable:
            raise KernelError(EBADF)
        return file

    def get_writable(self, fd: int) -> File:
        """The same for write(2).  Raises KernelError(EBADF) if it is not open for writing."""
        file = self.get(fd)
        if not file.writable:
            raise KernelError(EBADF)
        return file

    def install(self, file: File, *, lowest: int = 0, close_on_exec: bool = False) -> int:
        """Give an open file the lowest free descriptor from ``lowest`` on.

        Raises KernelError(EMFILE), or EINVAL if ``lowest`` is itself beyond the limit.
        """
        if not 0 <= lowest < self.limit:
            raise KernelError(EINVAL if lowest else EMFILE)
        fd = max(lowest, self._first_free)
        while fd in self._files:
            fd += 1
        if lowest <= self._first_free:
            self._first_free = fd
        if fd >= self.limit:
            raise KernelError(EMFILE)
        self._put(fd, file, close_on_exec)
        return fd

    def check_room(self) -> None:
        """Raises KernelError(EMFILE) when no descriptor is free."""
        if len(self._files) >= self.limit and all(fd in self._files for fd in range(self.limit)):
            raise KernelError(EMFILE)

    def dup(self, fd: int, *, lowest: int = 0, close_on_exec: bool = False) -> int:
        """dup(2) and fcntl(F_DUPFD).  Raises KernelError(EBADF, EMFILE, EINVAL)."""
        return self.install(self.get(fd), lowest=lowest, close_on_exec=close_on_exec)

    def dup2(self, fd: int, new: int, *, close_on_exec: bool = False) -> int:
        """dup2(2), and dup3(2) but for its refusal of equal descriptors.  Raises KernelError(EBADF)."""
        file = self.get(fd)
        if not 0 <= new < self.limit:
            raise KernelError(EBADF)
        if new != fd:
            file.get()
            if new in self._files:
                self.close(new)
            self._put(new, file, close_on_exec)
            file.put()
        return new

    def close(self, fd: int) -> None:
        """Raises KernelError(EBADF)."""
        file = self._files.pop(fd, None)
        if file is None:
            raise KernelError(EBADF)
        self._close_on_exec.discard(fd)
        self._first_free = min(self._first_free, fd)
        if file.inode.locks is not None:
            file.inode.locks.closed(self)
        file.put()

    def is_close_on_exec(self, fd: int) -> bool:
        """FD_CLOEXEC.  Raises KernelError(EBADF)."""
        self.get(fd)
        return fd in self._close_on_exec

    def set_close_on_exec(self, fd: int, value: bool) -> None:
        """Raises KernelError(EBADF)."""
        self.get(fd)
        if value:
            self._close_on_exec.add(fd)
        else:
            self._close_on_exec.discard(fd)

    def copy(self) -> FdTable:
        """The table of a forked child: the same open files."""
        child = FdTable(self.limit)
        for fd, file in self._files.items():
            child._files[fd] = file.get()
        child._first_free = self._first_free
        child._close_on_exec = set(self._close_on_exec)
        return child

    def share(self, hold: Callable[[File], None]) -> FdTable:
        """One more task has it."""
        self.users += 1
        self.hold = hold
        return self

    def unshare(self) -> FdTable:
        """For who wants a table of his own: this one if nobody else has it, else a copy."""
        if self.users == 1:
            return self
        own = self.copy()
        self.release()
        return own

    def release(self) -> None:
        """A task less has it; the last closes everything."""
        self.users -= 1
        if not self.users:
            self.close_all()
        elif self.users == 1:
            self.hold = None

    def close_on_exec(self) -> None:
        """execve(2): close what is marked."""
        for fd in sorted(self._close_on_exec):
            self.close(fd)

    def close_all(self) -> None:
        """exit(2)."""
        for fd in sorted(self._files):
            self.close(fd)

    def _put(self, fd: int, file: File, close_on_exec: bool) -> None:
        self._files[fd] = file.get()
        if close_on_exec:
            self._close_on_exec.add(fd)
