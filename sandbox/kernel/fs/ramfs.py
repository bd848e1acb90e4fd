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
    EPERM,
    EXDEV,
    KernelError,
)
from sandbox.kernel.abi.flags import S_IFDIR
from sandbox.kernel.abi.structs import Stat, dirent_type, makedev
from sandbox.kernel.fs.inode import BLOCK_SIZE, GUEST_GID, GUEST_UID, Directory, Entry, Inode, Symlink

RAM_DEVICE = makedev(0, 20)
RAM_LIMIT = 256 << 20
MAXIMUM_SIZE = (1 << 44) - 1
"""Largest size of a file: 2**32 pages."""


class RamFs:
    """One file system in memory.  ``now`` gives the time in nanoseconds since 1970."""

    def __init__(self, now: Callable[[], int] = lambda: 0, limit: int = RAM_LIMIT) -> None:
        self.now = now
        self.limit = limit
        self.used = 0
        """Bytes in written blocks."""
        self._last_ino = 0
        self.root = RamDirectory(self, 0o755)

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


class _RamInode(Inode):
    """What the three kinds share."""

    def __init__(self, fs: RamFs, mode: int) -> None:
        super().__init__()
        self.fs = fs
        self.ino = fs.next_ino()
        self.mode = mode & 0o7777
        self.nlink = 0
        self.atime = self.mtime = self.ctime = fs.now()

    def stat(self) -> Stat:
        size = self.size
        return Stat(
            dev=RAM_DEVICE,
            ino=self.ino,
            mode=self.kind | self.mode,
            nlink=self.nlink,
            uid=GUEST_UID,
            gid=GUEST_GID,
            size=size,
            blocks=(size + 511) // 512,
            atime=self.atime,
            mtime=self.mtime,
            ctime=self.ctime,
        )

    def chmod(self, mode: int) -> None:
        self.mode = mode & 0o7777
        self.ctime = self.fs.now()

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        self.atime = self.atime if atime is None else atime
        self.mtime = self.mtime if mtime is None else mtime
        self.ctime = self.fs.now()

    def modified(self) -> None:
        self.mtime = self.ctime = self.fs.now()


class RamFile(_RamInode):
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

    def read_block(self, index: int) -> bytes:
        start = index * BLOCK_SIZE
        left = self._size - start
        if left <= 0:
            return b""
        block = self._blocks.get(index)
        if block is None:
            block = self._data[start : min(start + BLOCK_SIZE, self._data_end)]
        return block.ljust(min(left, BLOCK_SIZE), b"\0")

    def write_block(self, index: int, data: bytes) -> None:
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


class RamSymlink(_RamInode, Symlink):
    """A symbolic link."""

    def __init__(self, fs: RamFs, target: bytes) -> None:
        super().__init__(fs, 0o777)
        self._target = target

    @property
    def size(self) -> int:
        return len(self._target)

    def target(self) -> bytes:
        return self._target


class RamDirectory(_RamInode, Directory):
    """A directory; ``nlink`` counts its name, its ``.`` and the ``..`` of its subdirectories."""

    def __init__(self, fs: RamFs, mode: int) -> None:
        super().__init__(fs, mode)
        self._names: dict[bytes, _RamInode] = {}
        self.nlink = 2

    @property
    def size(self) -> int:
        return BLOCK_SIZE

    def _lookup(self, name: bytes) -> _RamInode:
        inode = self._names.get(name)
        if inode is None:
            raise KernelError(ENOENT)
        return inode

    def _entries(self) -> list[Entry]:
        return [Entry(name, inode.ino, dirent_type(inode.kind)) for name, inode in self._names.items()]

    def add(self, name: bytes, inode: Inode) -> None:
        """Give an inode of this file system a name.  Raises KernelError(EEXIST, EXDEV)."""
        if not isinstance(inode, _RamInode) or inode.fs is not self.fs:
            raise KernelError(EXDEV)
        if name in self._names:
            raise KernelError(EEXIST)
        if not self.nlink:
            raise KernelError(ENOENT)
        self._names[name] = inode
        if inode.kind == S_IFDIR:
            self.nlink += 1
        else:
            inode.nlink += 1
        inode.name = inode.name or name.decode(errors="replace")
        self.modified()

    def _create(self, name: bytes, mode: int) -> RamFile:
        inode = RamFile(self.fs, mode)
        self.add(name, inode)
        return inode

    def _mkdir(self, name: bytes, mode: int) -> RamDirectory:
        inode = RamDirectory(self.fs, mode)
        self.add(name, inode)
        return inode

    def _symlink(self, name: bytes, target: bytes) -> None:
        self.add(name, RamSymlink(self.fs, target))

    def _link(self, name: bytes, inode: Inode) -> None:
        if inode.kind == S_IFDIR:
            raise KernelError(EPERM)
        self.add(name, inode)

    def _unlink(self, name: bytes) -> None:
        inode = self._lookup(name)
        if inode.kind == S_IFDIR:
            raise KernelError(EISDIR)
        self._drop(name)

    def _rmdir(self, name: bytes) -> None:
        inode = self._lookup(name)
        if not isinstance(inode, RamDirectory):
            raise KernelError(ENOTDIR)
        if inode._names or inode.pinned:
            raise KernelError(ENOTEMPTY)
        self._drop(name)

    def _drop(self, name: bytes) -> None:
        inode = self._names.pop(name)
        if inode.kind == S_IFDIR:
            self.nlink -= 1
            inode.nlink = 0
        else:
            inode.nlink -= 1
        inode.ctime = self.fs.now()
        self.modified()

    def _rename(self, name: bytes, directory: Directory, new: bytes) -> None:
        inode = self._lookup(name)
        if not isinstance(directory, RamDirectory) or directory.fs is not self.fs:
            raise KernelError(EXDEV)
        there = directory._names.get(new)
        if there is inode:
            return
        if there is not None:
            if inode.kind == S_IFDIR:
                directory._rmdir(new)
            else:
                directory._unlink(new)
        del self._names[name]
        directory._names[new] = inode
        if inode.kind == S_IFDIR:
            self.nlink -= 1
            directory.nlink += 1
        self.modified()
        directory.modified()
