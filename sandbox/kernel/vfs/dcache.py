"""Dentries: inodes as found under names, each of which knows its parent (fs/dcache.c)."""

from __future__ import annotations

from weakref import ref

from sandbox.kernel.abi.errno import ENOENT, KernelError
from sandbox.kernel.abi.flags import S_IFREG
from sandbox.kernel.vfs.inode import Directory, Inode


class Dentry:
    """An inode as found under a name.  The root is its own parent.

    A directory has one dentry at a time, as it has one name: so whoever stands in it sees it renamed or
    removed.
    """

    __slots__ = ("__weakref__", "deleted", "fresh", "inode", "name", "parent")

    def __init__(self, inode: Inode, name: bytes = b"", parent: Dentry | None = None) -> None:
        self.inode = inode
        self.name = name
        self.parent = parent if parent is not None else self
        self.deleted = False
        self.fresh = False
        """open(2) has just made it."""

    def path(self, root: Dentry | None = None) -> bytes:
        """The absolute path inside ``root``, or the tree's root.

        Raises KernelError(ENOENT) if it was removed.  A path that does not lead to ``root`` begins with
        ``(unreachable)``.
        """
        names: list[bytes] = []
        dentry = self
        while dentry.parent is not dentry and dentry is not root:
            if dentry.deleted:
                raise KernelError(ENOENT)
            names.append(dentry.name)
            dentry = dentry.parent
        outside = root is not None and dentry is not root
        return (b"(unreachable)/" if outside else b"/") + b"/".join(reversed(names))

    def label(self, root: Dentry | None = None) -> bytes:
        """The path for people and /proc, marked when the name is gone."""
        names: list[bytes] = []
        gone = self.inode.kind == S_IFREG and not self.inode.stat().nlink
        dentry = self
        while dentry.parent is not dentry and dentry is not root:
            gone = gone or dentry.deleted
            names.append(dentry.name)
            dentry = dentry.parent
        return b"/" + b"/".join(reversed(names)) + (b" (deleted)" if gone else b"")

    def is_below(self, inode: Inode) -> bool:
        """True if the walk to it passed ``inode``, or is at it."""
        dentry = self
        while dentry.inode is not inode:
            if dentry.parent is dentry:
                return False
            dentry = dentry.parent
        return True

    def child(self, inode: Inode, name: bytes) -> Dentry:
        """The dentry of what was found here: a directory's own one, moved here if it was elsewhere."""
        if not isinstance(inode, Directory):
            return Dentry(inode, name, self)
        known: Dentry | None = inode.dentry()
        if known is None:
            known = Dentry(inode, name, self)
            inode.dentry = ref(known)
        elif known.parent is not self or known.name != name:
            if self.is_below(inode):
                return Dentry(inode, name, self)
            known.name, known.parent = name, self
        return known

    def __repr__(self) -> str:
        return f"<dentry {self.name!r} of {self.inode!r}>"


def unnamed(inode: Inode, name: bytes, where: Dentry | None = None) -> Dentry:
    """A dentry for what no directory lists: a file of O_TMPFILE, a pipe, something removed."""
    dentry = Dentry(inode, name, where)
    dentry.deleted = where is not None
    return dentry
