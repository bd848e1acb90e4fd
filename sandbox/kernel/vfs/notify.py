"""fsnotify: who watches an inode is told what happens to it and, of a directory, to what is in it."""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.abi.flags import O_PATH, S_IFDIR
from sandbox.kernel.abi.inotify import (
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
)
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import OpenFile


class Mark(Protocol):
    """One who watches an inode; ``vfs.inode.Inode.marks`` has them."""

    def happened(self, mask: int, cookie: int, name: bytes, unlinked: bool) -> None:
        """IN_* bits, and of what is in a directory its name."""
        ...

    def gone(self) -> None:
        """There is no inode any more."""
        ...


class Named(Protocol):
    """A dentry."""

    inode: Inode
    name: bytes
    deleted: bool

    @property
    def parent(self) -> Named: ...


def tell(inode: Inode, mask: int, cookie: int = 0, name: bytes = b"", unlinked: bool = False) -> None:
    """Something happened to an inode, or in a directory to what ``name`` means."""
    for mark in list(inode.marks or ()):
        mark.happened(mask, cookie, name, unlinked)


def fsnotify(dentry: Named, mask: int) -> None:
    """Something happened to what a dentry names: its directory's watchers hear of it first, with the name."""
    inode, parent = dentry.inode, dentry.parent
    if not inode.marks and not parent.inode.marks:
        return
    mask |= _is_directory(inode)
    if parent is not dentry:
        tell(parent.inode, mask, name=dentry.name, unlinked=dentry.deleted)
    tell(inode, mask)


def fsnotify_file(file: OpenFile, mask: int) -> None:
    """The same of an open file; none that was opened with O_PATH."""
    if file.dentry is not None and not file.flags & O_PATH:
        fsnotify(file.dentry, mask)


def _is_directory(inode: Inode) -> int:
    return IN_ISDIR if inode.kind == S_IFDIR else 0


def created(directory: Inode, name: bytes, inode: Inode | None = None) -> None:
    """A directory has a new name; ``inode`` is what it means, where that is known."""
    tell(directory, IN_CREATE | (_is_directory(inode) if inode is not None else 0), name=name)


def removed(directory: Inode, dentry: Named) -> None:
    """A name is gone, and what it meant with it if nothing else holds that."""
    inode = dentry.inode
    lost_name(inode)
    inode_gone(inode)
    tell(directory, IN_DELETE | _is_directory(inode), name=dentry.name)


def lost_name(inode: Inode) -> None:
    """A file has a name less, a directory none any more."""
    if inode.kind == S_IFDIR:
        inode.unlinked = True
    elif inode.marks:
        tell(inode, IN_ATTRIB)
        inode.unlinked = not inode.stat().nlink


def moved(source: Inode, old: bytes, target: Inode, new: bytes, inode: Inode, cookie: int) -> None:
    """A name became another; one cookie holds the two halves together."""
    directory = _is_directory(inode)
    if source.marks or target.marks:
        tell(source, IN_MOVED_FROM | directory, cookie, old)
        tell(target, IN_MOVED_TO | directory, cookie, new)


def moved_itself(inode: Inode) -> None:
    tell(inode, IN_MOVE_SELF | _is_directory(inode))


def closed(file: OpenFile) -> None:
    """The last descriptor of an open file is gone."""
    fsnotify_file(file, IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE)
    inode_gone(file.inode)


def inode_gone(inode: Inode) -> None:
    """If neither a name nor an open file is left: the end of who watches it."""
    if inode.marks and inode.unlinked and not inode.open_files:
        for mark in list(inode.marks):
            mark.happened(IN_DELETE_SELF, 0, b"", False)
            mark.gone()
