"""A file system in memory over a host directory that is only read.

Every host inode that is met gets one inode above it, which shows what is below until something changes it:

    names     [ upper names | whiteouts | the host directory ]   the first that knows a name decides
    contents  [ written blocks | the host file up to its oldest end ]
    the rest  [ own mode, owner, times, links once changed | the host's ]

An inode that changed is remembered by what it lies over, so that every way to it (a second hard link, a name
looked up again) leads to the change.  A directory that is renamed keeps what is below it: nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

from sandbox.kernel.abi.errno import ENOENT, KernelError
from sandbox.kernel.abi.structs import Stat
from sandbox.kernel.fs.hostfs import HostDirectory
from sandbox.kernel.fs.hostinode import HOST_DEVICE, HostFile, HostInode, HostSymlink, InodeNumbers
from sandbox.kernel.fs.ramfs import RamDirectory, RamFile, RamFs, RamInode
from sandbox.kernel.vfs.inode import BLOCK_SIZE, Directory, Entry, Symlink

Key = tuple[int, int, int]


class Overlay(RamFs):
    """The tree of one machine: ``lower`` is the host's root directory, None for an empty one."""

    def __init__(
        self,
        lower: HostDirectory | None,
        numbers: InodeNumbers,
        now: Callable[[], int] = lambda: 0,
        device: int = HOST_DEVICE,
    ) -> None:
        self._lower_root = lower
        self._numbers = numbers
        self._above: WeakValueDictionary[Key, RamInode] = WeakValueDictionary()
        self._kept: dict[Key, RamInode] = {}
        """The inodes above that changed and can still be reached from below."""
        super().__init__(now, device=device)

    def top(self, mode: int) -> Directory:
        return RamDirectory(self, mode) if self._lower_root is None else OverlayDirectory(self, self._lower_root)

    def next_ino(self) -> int:
        return self._numbers.next()

    def above(self, lower: HostInode) -> RamInode:
        """The one inode over a host's."""
        inode = self._above.get(lower.key)
        if inode is None:
            if isinstance(lower, HostDirectory):
                inode = OverlayDirectory(self, lower)
            elif isinstance(lower, HostFile):
                inode = OverlayFile(self, lower)
            elif isinstance(lower, HostSymlink):
                inode = OverlaySymlink(self, lower)
            else:
                inode = OverlaySpecial(self, lower)
            self._above[lower.key] = inode
        return inode

    def keep(self, inode: RamInode, lower: HostInode) -> None:
        """It changed: it must not be forgotten while nobody uses it."""
        self._kept[lower.key] = inode

    def release(self, lower: HostInode) -> None:
        """Its last name is gone."""
        self._kept.pop(lower.key, None)


class OverlayInode(RamInode):
    """What the inodes over host inodes share."""

    fs: Overlay
    lower: HostInode

    def __init__(self, fs: Overlay, lower: HostInode) -> None:
        self.lower = lower
        self.independent = False
        super().__init__(fs, 0)
        self.kind, self.name = lower.kind, lower.name

    def _next_ino(self) -> int:
        return self.lower.ino

    def copy_up(self) -> None:
        if not self.independent:
            found = self.lower.stat()
            self.mode, self.nlink, self.uid, self.gid = found.mode & 0o7777, found.nlink, found.uid, found.gid
            self.atime, self.mtime, self.ctime = found.atime, found.mtime, found.ctime
            self._take_over(found)
            self.independent = True
            self.fs.keep(self, self.lower)

    def _take_over(self, found: Stat) -> None:
        """What the kind of inode needs to know of the host's."""

    def stat(self) -> Stat:
        if self.independent:
            return super().stat()
        found = self.lower.stat()
        found.dev = self.fs.device
        return found

    def link_count(self, change: int) -> None:
        super().link_count(change)
        if not self.nlink:
            self.fs.release(self.lower)


class OverlayFile(OverlayInode, RamFile):
    """A regular file: blocks that were written, over the host's."""

    lower: HostFile
    reads_at_once = True

    @property
    def size(self) -> int:
        return self._size if self.independent else self.lower.size

    def _take_over(self, found: Stat) -> None:
        self._size = self._data_end = found.size

    def _below(self, index: int) -> bytes:
        return self.lower.read_block(index)

    def read_block(self, index: int) -> bytes:
        return super().read_block(index) if self.independent else self.lower.read_block(index)

    def check_open(self, write: bool) -> None:
        super().check_open(write)
        self.lower.check_open(False)


class OverlaySymlink(OverlayInode, Symlink):
    """A symbolic link of the host."""

    lower: HostSymlink

    @property
    def size(self) -> int:
        return self.lower.size

    def target(self) -> bytes:
        return self.lower.target()


class OverlaySpecial(OverlayInode):
    """A FIFO of the host, at whose name programs of the guest can meet; devices and sockets stay closed."""

    def check_open(self, write: bool) -> None:
        self.lower.check_open(write)


class OverlayDirectory(OverlayInode, RamDirectory):
    """A directory: upper names and whiteouts over those of the host."""

    lower: HostDirectory

    def __init__(self, fs: Overlay, lower: HostDirectory) -> None:
        self._hidden: set[bytes] = set()
        super().__init__(fs, lower)

    @property
    def size(self) -> int:
        return BLOCK_SIZE

    def _lookup(self, name: bytes) -> RamInode:
        inode = self._names.get(name)
        if inode is None:
            if name in self._hidden:
                raise KernelError(ENOENT)
            inode = self.fs.above(self.lower._lookup(name))
        return inode

    def _entries(self) -> list[Entry]:
        hidden, names = self._hidden, self._names
        below = [each for each in self.lower._entries() if each.name not in hidden and each.name not in names]
        return super()._entries() + below

    def forget(self, name: bytes) -> None:
        super().forget(name)
        self._hidden.add(name)
