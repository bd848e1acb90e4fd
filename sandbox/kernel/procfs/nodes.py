"""Kinds of /proc's inodes: text, links that jump, directories made of functions."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import EACCES, EINVAL, ENODEV, ENOENT, KernelError
from sandbox.kernel.abi.structs import Stat, dirent_type
from sandbox.kernel.fs.namespace import PROC_DEVICE
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID, Directory, Entry, Inode, Symlink
from sandbox.kernel.vfs.operations import ALWAYS, FileOperations, Ready

LARGEST_READ = 1 << 16
"""Bytes that one read gives at most."""
LARGEST_WRITE = 4096
Make = Callable[[], bytes]


def proc_stat(inode: ProcInode, mode: int, nlink: int = 1) -> Stat:
    """What stat(2) tells of an inode of /proc: no size, and the time at which it was first looked up."""
    uid, gid = (GUEST_UID, GUEST_GID) if inode.owner is None else inode.owner()
    return inode.aged(Stat(dev=PROC_DEVICE, ino=inode.ino, mode=inode.kind | mode, nlink=nlink, uid=uid, gid=gid))


class ProcInode(Inode):
    """What all kinds share: what is a task's belongs to its user."""

    owner: Callable[[], tuple[int, int]] | None = None
    """uid and gid, None for root's."""


class Text(ProcInode):
    """A file whose bytes are made when it is read from its start."""

    mappable = False
    unmappable = ENODEV
    """Of a file of a task, or below /proc/sys; other files of /proc give EIO (proc_reg_mmap)."""

    take: Callable[[bytes], None] | None = None
    """What is done with bytes that are written to it; None for a file that is only read."""
    polls: int | None = None
    """What poll(2) says of it, None where it has no poll of its own: then epoll_ctl(2) refuses it."""

    def __init__(self, f_op: FileOperations, ino: int, make: Make, mode: int = 0o444) -> None:
        self._f_op = f_op
        self.ino = ino
        self._make = make
        self._mode = mode
        self._made: bytes | None = None

    def stat(self) -> Stat:
        return proc_stat(self, self._mode)

    def operations(self) -> FileOperations:
        return self._f_op

    def check_open(self, write: bool) -> None:
        if write and self.take is None:
            raise KernelError(EACCES)

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect."""

    def read_at(self, position: int, count: int) -> bytes:
        """Bytes from a position on; at 0 the text is made anew."""
        if not position or self._made is None:
            self._made = self._make()
        return self._made[position : position + count]

    def splice_read(self, position: int, count: int) -> bytes:
        """Who has a poll has this, and the files of a task have neither."""
        if self.polls is None:
            raise KernelError(EINVAL)
        return self.read_at(position, count)


class TextFile(FileOperations):
    """What open files of /proc do: their text crosses by a device's DMA."""

    def __init__(self, uaccess: UserAccess) -> None:
        self._uaccess = uaccess

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        assert isinstance(file.inode, Text)
        at = file.position if position is None else position
        data = file.inode.read_at(at, min(count, LARGEST_READ))
        done = self._uaccess.put_device_bytes(task, address, data)
        if position is None:
            file.position = at + done
        return done

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        assert isinstance(file.inode, Text)
        if file.inode.take is None:
            raise KernelError(EINVAL)
        count = min(count, LARGEST_WRITE)
        file.inode.take(self._uaccess.get_user(task, address, count) if count else b"")
        return count

    def poll(self, file: File, task: Task) -> Ready:
        assert isinstance(file.inode, Text)
        return Ready(ALWAYS if file.inode.polls is None else file.inode.polls)

    def can_poll(self, file: File) -> bool:
        assert isinstance(file.inode, Text)
        return file.inode.polls is not None

    def available(self, file: File) -> int:
        return -min(file.position, 1 << 31)


class Link(ProcInode, Symlink):
    """A link of /proc: it names a path, and leads to the thing itself whatever became of the path."""

    def __init__(self, ino: int, target: Make, jump: Callable[[], Dentry | None] = lambda: None) -> None:
        self.ino = ino
        self._target, self._jump = target, jump

    def stat(self) -> Stat:
        return proc_stat(self, 0o777)

    def target(self) -> bytes:
        return self._target()

    def jump(self) -> Dentry | None:
        return self._jump()


class Folder(ProcInode, Directory):
    """A directory of inodes that are made when they are asked for.

    ``names`` tells which there are, ``find`` makes one, or gives None.  ``now`` is the machine's time for what is
    looked up here for the first time, in nanoseconds since 1970; without it what is found is as old as the directory.
    """

    readonly = True

    def __init__(
        self,
        ino: int,
        names: Callable[[], list[bytes]],
        find: Callable[[bytes], Inode | None],
        now: Callable[[], int] | None = None,
    ) -> None:
        super().__init__()
        self._now = now
        self.ino = ino
        self._names, self._find = names, find

    def stat(self) -> Stat:
        return proc_stat(self, 0o555, 2)

    def _lookup(self, name: bytes) -> Inode:
        found = self._find(name)
        if found is None:
            raise KernelError(ENOENT)
        if self.owner is not None and isinstance(found, ProcInode):
            found.owner = self.owner
        found.born = found.born or (self.born if self._now is None else self._now())
        return found

    def _entries(self) -> list[Entry]:
        found = []
        for name in self._names():
            inode = self._find(name)
            if inode is not None:
                found.append(Entry(name, inode.ino, dirent_type(inode.kind)))
        return found


def fixed(ino: int, children: dict[bytes, Inode]) -> Folder:
    """A directory whose inodes are made once."""
    return Folder(ino, lambda: sorted(children), children.get)
