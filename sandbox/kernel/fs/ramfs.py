"""Files in memory: the root of a machine without a host directory, and what is laid over one.

Contents are kept in blocks outside guest RAM, as on a disk, up to a limit in bytes for all files together.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import (
    EEXIST,
    EFBIG,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOSPC,
    ENOTDIR,
    ENOTEMPTY,
    ENXIO,
    EPERM,
    EXDEV,
    KernelError,
)
from sandbox.kernel.abi.flags import S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, S_ISGID, S_ISUID
from sandbox.kernel.abi.structs import Stat, dirent_type, makedev
from sandbox.kernel.vfs.inode import BLOCK_SIZE, GUEST_GID, GUEST_UID, Directory, Entry, Inode, Symlink

RAM_DEVICE = makedev(0, 20)
RAM_LIMIT = 256 << 20
MAXIMUM_SIZE = (1 << 44) - 1
"""Largest size of a file: 2**32 pages."""


class RamFs:
    """One file system in memory.  ``now`` gives the time in nanoseconds since 1970, ``device`` is its st_dev."""

    def __init__(
        self,
        now: Callable[[], int] = lambda: 0,
        limit: int = RAM_LIMIT,
        device: int = RAM_DEVICE,
        mode: int = 0o755,
        first_ino: int = 1,
    ) -> None:
        self.now = now
        self.limit = limit
        self.device = device
        self.used = 0
        """Bytes in written blocks."""
        self._last_ino = first_ino - 1
        self.root: Directory = self.top(mode)

    def top(self, mode: int) -> Directory:
        """The root directory, made once."""
        return RamDirectory(self, mode)

    def next_ino(self) -> int:
        self._last_ino += 1
        return self._last_ino

    def charge(self, blocks: int) -> None:
        """Count blocks in use.  Raises KernelError(ENOSPC) at the limit."""
        if blocks > 0 and self.used + blocks * BLOCK_SIZE > self.limit:
            raise KernelError(ENOSPC)
        self.used += blocks * BLOCK_SIZE

    def file(self, data: bytes = b"", mode: int = 0o644, name: str = "") -> RamFile:
        """A file that no directory names yet; ``data`` is shared, not copied, and not counted."""
        return RamFile(self, mode, data, name)


class RamInode(Inode):
    """What all kinds share.  Whatever changes an inode calls ``copy_up`` first."""

    def __init__(self, fs: RamFs, mode: int) -> None:
        super().__init__()
        self.fs = fs
        self.ino = self._next_ino()
        self.mode = mode & 0o7777
        self.uid, self.gid = GUEST_UID, GUEST_GID
        self.nlink = 0
        self.atime = self.mtime = self.ctime = fs.now()

    def _next_ino(self) -> int:
        return self.fs.next_ino()

    def copy_up(self) -> None:
        """Become independent of what lies below; in memory nothing does."""

    @property
    def blocks(self) -> int:
        """Of 512 bytes, as st_blocks counts them."""
        return 0

    def stat(self) -> Stat:
        return Stat(
            dev=self.fs.device,
            ino=self.ino,
            mode=self.kind | self.mode,
            nlink=self.nlink,
            uid=self.uid,
            gid=self.gid,
            size=self.size,
            blocks=self.blocks,
            atime=self.atime,
            mtime=self.mtime,
            ctime=self.ctime,
        )

    @property
    def size(self) -> int:
        return 0

    def chmod(self, mode: int) -> None:
        self.changed()
        self.mode = mode & 0o7777

    def chown(self, uid: int | None, gid: int | None) -> None:
        self.changed()
        self.uid = self.uid if uid is None else uid
        self.gid = self.gid if gid is None else gid
        if self.kind != S_IFDIR:
            self.mode &= ~(S_ISUID | S_ISGID if self.mode & 0o010 else S_ISUID)

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        self.changed()
        self.atime = self.atime if atime is None else atime
        self.mtime = self.mtime if mtime is None else mtime

    def link_count(self, change: int) -> None:
        """A name more or less; a directory's goes at once."""
        self.changed()
        self.nlink = max(0, self.nlink + change)

    def changed(self) -> None:
        """Its attributes change now."""
        self.copy_up()
        self.ctime = self.fs.now()

    def modified(self) -> None:
        """Its contents change now."""
        self.changed()
        self.mtime = self.ctime


class RamFile(RamInode):
    """A regular file: the bytes that it was made of, and over them the blocks that were written."""

    def __init__(self, fs: RamFs, mode: int, data: bytes = b"", name: str = "") -> None:
        super().__init__(fs, mode)
        self.name = name
        self._blocks: dict[int, bytes] = {}
        self._data = data
        self._data_end = self._size = len(data)

    def __del__(self) -> None:
        self.fs.used -= len(self._blocks) * BLOCK_SIZE

    @property
    def size(self) -> int:
        return self._size

    @property
    def blocks(self) -> int:
        return min(-(-self.size // BLOCK_SIZE), len(self._blocks) + -(-self._data_end // BLOCK_SIZE)) * 8

    def _below(self, index: int) -> bytes:
        """A block of what the file was made of."""
        return self._data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]

    def read_block(self, index: int) -> bytes:
        start = index * BLOCK_SIZE
        left = self._size - start
        if left <= 0:
            return b""
        block = self._blocks.get(index)
        if block is None:
            block = self._below(index)[: self._data_end - start] if start < self._data_end else b""
        return block.ljust(min(left, BLOCK_SIZE), b"\0")

    def write_block(self, index: int, data: bytes) -> None:
        self.copy_up()
        keep = min(self._size - index * BLOCK_SIZE, BLOCK_SIZE)
        if keep <= 0:
            return
        old = self.read_block(index) if len(data) < keep else b""
        if index not in self._blocks:
            self.fs.charge(1)
        self._blocks[index] = bytes(data[:keep]) + old[len(data) :]
        self.modified()

    def truncate(self, size: int) -> None:
        if not 0 <= size <= MAXIMUM_SIZE:
            raise KernelError(EFBIG if size > 0 else EINVAL)
        self.copy_up()
        if size < self._size:
            keep = -(-size // BLOCK_SIZE)
            gone = [index for index in self._blocks if index >= keep]
            for index in gone:
                del self._blocks[index]
            self.fs.charge(-len(gone))
            last = size // BLOCK_SIZE
            if last in self._blocks:
                self._blocks[last] = self._blocks[last][: size % BLOCK_SIZE]
            self._data_end = min(self._data_end, size)
        self._size = size
        self.modified()


class RamSymlink(RamInode, Symlink):
    """A symbolic link."""

    def __init__(self, fs: RamFs, target: bytes) -> None:
        super().__init__(fs, 0o777)
        self._target = target

    @property
    def size(self) -> int:
        return len(self._target)

    def target(self) -> bytes:
        return self._target


class RamSpecial(RamInode):
    """A FIFO or a socket: a name to meet at."""

    def __init__(self, fs: RamFs, mode: int) -> None:
        super().__init__(fs, mode)
        self.kind = mode & S_IFMT

    def check_open(self, write: bool) -> None:
        if self.kind != S_IFIFO:
            raise KernelError(ENXIO)


class RamDirectory(RamInode, Directory):
    """A directory; ``nlink`` counts its name, its ``.`` and the ``..`` of its subdirectories."""

    def __init__(self, fs: RamFs, mode: int) -> None:
        super().__init__(fs, mode)
        self._names: dict[bytes, RamInode] = {}
        self.removed = False
        self.nlink = 2

    @property
    def size(self) -> int:
        return BLOCK_SIZE

    @property
    def blocks(self) -> int:
        return BLOCK_SIZE // 512

    def _lookup(self, name: bytes) -> RamInode:
        inode = self._names.get(name)
        if inode is None:
            raise KernelError(ENOENT)
        return inode

    def _entries(self) -> list[Entry]:
        return [Entry(name, inode.ino, dirent_type(inode.kind)) for name, inode in self._names.items()]

    # -- names without rules -----------------------------------------------------------------------------

    def put(self, name: bytes, inode: Inode) -> None:
        """Let a name mean an inode of this file system from now on, whatever it meant.  Raises KernelError(EXDEV)."""
        if not isinstance(inode, RamInode) or inode.fs is not self.fs:
            raise KernelError(EXDEV)
        self.modified()
        self._names[name] = inode
        inode.name = inode.name or name.decode(errors="replace")

    def forget(self, name: bytes) -> None:
        """Let a name mean nothing any more."""
        self.modified()
        self._names.pop(name, None)

    def _subdirectories(self, change: int) -> None:
        if self.nlink > 1:
            self.link_count(change)

    # -- names as system calls change them ---------------------------------------------------------------

    def add(self, name: bytes, inode: Inode) -> None:
        """Give an inode of this file system a name.  Raises KernelError(EEXIST, EXDEV, ENOENT)."""
        if self.removed:
            raise KernelError(ENOENT)
        if self._known(name) is not None:
            raise KernelError(EEXIST)
        self.put(name, inode)
        if isinstance(inode, RamDirectory):
            self._subdirectories(1)
        elif isinstance(inode, RamInode):
            inode.link_count(1)

    def _known(self, name: bytes) -> RamInode | None:
        try:
            return self._lookup(name)
        except KernelError as error:
            if error.errno != ENOENT:
                raise
            return None

    def _create(self, name: bytes, mode: int) -> RamFile:
        inode = RamFile(self.fs, mode)
        self.add(name, inode)
        return inode

    def _mkdir(self, name: bytes, mode: int) -> RamDirectory:
        inode = self.new_directory(mode)
        self.add(name, inode)
        return inode

    def new_directory(self, mode: int) -> RamDirectory:
        """A directory of this file system without a name."""
        return RamDirectory(self.fs, mode)

    def _symlink(self, name: bytes, target: bytes) -> None:
        self.add(name, RamSymlink(self.fs, target))

    def _mknod(self, name: bytes, mode: int) -> None:
        if mode & S_IFMT in (0, S_IFREG):
            self._create(name, mode)
        elif mode & S_IFMT in (S_IFIFO, S_IFSOCK):
            self.add(name, RamSpecial(self.fs, mode))
        else:
            raise KernelError(EPERM)

    def _tmpfile(self, mode: int) -> RamFile:
        if self.removed:
            raise KernelError(ENOENT)
        inode = RamFile(self.fs, mode)
        inode.linkable = True
        return inode

    def _link(self, name: bytes, inode: Inode) -> None:
        if inode.kind == S_IFDIR:
            raise KernelError(EPERM)
        self.add(name, inode)

    def _unlink(self, name: bytes) -> None:
        inode = self._lookup(name)
        if inode.kind == S_IFDIR:
            raise KernelError(EISDIR)
        self._drop(name, inode)

    def _rmdir(self, name: bytes) -> None:
        inode = self._lookup(name)
        if not isinstance(inode, RamDirectory):
            raise KernelError(ENOTDIR)
        if inode.pinned or inode._entries():
            raise KernelError(ENOTEMPTY)
        self._drop(name, inode)

    def _drop(self, name: bytes, inode: RamInode) -> None:
        self.forget(name)
        if isinstance(inode, RamDirectory):
            self._subdirectories(-1)
            inode.link_count(-inode.nlink)
            inode.removed = True
        else:
            inode.link_count(-1)

    def _rename(self, name: bytes, directory: Directory, new: bytes) -> None:
        inode = self._lookup(name)
        if not isinstance(directory, RamDirectory) or directory.fs is not self.fs:
            raise KernelError(EXDEV)
        if directory.removed:
            raise KernelError(ENOENT)
        there = directory._known(new)
        if there is inode:
            return
        if there is not None:
            if inode.kind == S_IFDIR:
                directory._rmdir(new)
            else:
                directory._unlink(new)
        self.forget(name)
        directory.put(new, inode)
        if inode.kind == S_IFDIR:
            self._subdirectories(-1)
            directory._subdirectories(1)
        inode.changed()

    def _exchange(self, name: bytes, directory: Directory, new: bytes) -> None:
        inode = self._lookup(name)
        if not isinstance(directory, RamDirectory) or directory.fs is not self.fs:
            raise KernelError(EXDEV)
        there = directory._lookup(new)
        self.put(name, there)
        directory.put(new, inode)
        moved = (inode.kind == S_IFDIR) - (there.kind == S_IFDIR)
        if moved:
            self._subdirectories(-moved)
            directory._subdirectories(moved)
        inode.changed()
        there.changed()
