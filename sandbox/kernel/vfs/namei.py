"""From a path name to an inode: the walk, and the calls that take a name.

A path is walked one component at a time over dentries: so ``..`` goes back the way that the walk came, and at the
root stays there, as in a chroot.  Paths are bytes, without their NUL.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import (
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    KernelError,
)
from sandbox.kernel.abi.flags import (
    MAXSYMLINKS,
    NAME_MAX,
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_TMPFILE,
    PATH_MAX,
    S_IFDIR,
    X_OK,
)
from sandbox.kernel.abi.inotify import IN_ATTRIB
from sandbox.kernel.vfs import notify
from sandbox.kernel.vfs.dcache import Dentry, unnamed
from sandbox.kernel.vfs.inode import Directory, Inode, Symlink, as_directory
from sandbox.kernel.vfs.permission import Who, limited, may_create, may_delete, may_open, own, permission
from sandbox.records import dataclass

DOTS = {b".": EINVAL, b"..": ENOTEMPTY, b"/": EBUSY}
"""Last components that name no entry, and how rmdir(2) refuses them."""


@dataclass(slots=True)
class Found:
    """Where a walk ended: ``dentry`` is None if the last component does not exist in ``parent``.

    ``name`` is the last component, ``/`` for the root or a link to it; ``slashed`` says that a slash follows
    it, so that it must be a directory.
    """

    parent: Dentry
    name: bytes
    dentry: Dentry | None
    slashed: bool = False


def walk(
    root: Dentry,
    at: Dentry,
    path: bytes,
    follow: bool,
    slash_follows: bool = True,
    creates: bool = False,
    long_last: bool = False,
    who: Who = None,
) -> Found:
    """Walk a path from ``root`` if it is absolute, else from ``at``.

    A link at its very end is walked if ``follow``, or if a slash comes after it and ``slash_follows``; with
    ``creates`` a name with a slash after it is not even looked up (EISDIR).  With ``long_last`` the last name may be
    too long: it is looked up by nobody yet.  ``who`` must be allowed to search each directory.
    Raises KernelError: EACCES, ENOENT (empty, or a directory on the way is missing), ENOTDIR, ELOOP (more than 40
    links), ENAMETOOLONG, and what a directory's lookup raises.
    """
    if not path:
        raise KernelError(ENOENT)
    if len(path) >= PATH_MAX:
        raise KernelError(ENAMETOOLONG)
    return _Walk(root, at, path, follow, slash_follows, creates, long_last, who).to_the_end()


class _Walk:
    """One walk: what has been found so far, and the components that are left, the next one last."""

    def __init__(
        self, root: Dentry, at: Dentry, path: bytes, follow: bool, slash_follows: bool, creates: bool, long_last: bool,
        who: Who,
    ) -> None:  # fmt: skip
        self._root, self._follow, self._slash_follows = root, follow, slash_follows
        self._creates, self._long_last = creates, long_last
        self._who = who if limited(who) else None
        self._found = _start(root if path.startswith(b"/") else at)
        self._slashed = path.endswith(b"/")
        self._todo = _components(path)
        self._links = 0

    def to_the_end(self) -> Found:
        while self._todo:
            name, here = self._todo.pop(), self._found.dentry
            if here is None:
                raise KernelError(ENOENT)
            directory = as_directory(here.inode)
            if self._who is not None:
                permission(directory, X_OK, self._who)
            if name == b".":
                self._found = Found(here.parent, name, here)
            elif name == b"..":
                self._found = _start(here if here is self._root else here.parent)
                self._found.name = name
            elif len(name) > NAME_MAX:
                self._too_long(here, name)
            else:
                self._look_up(here, directory, name)
        self._found.slashed = self._slashed
        return self._found

    def _too_long(self, here: Dentry, name: bytes) -> None:
        if not self._long_last or self._todo:
            raise KernelError(ENAMETOOLONG)
        self._found = Found(here, name, None)

    def _look_up(self, here: Dentry, directory: Directory, name: bytes) -> None:
        if self._creates and self._slashed and not self._todo:
            raise KernelError(EISDIR)
        try:
            inode = directory.lookup(name)
        except KernelError as error:
            if error.errno != ENOENT:
                raise
            self._found = Found(here, name, None)
            return
        follows = self._todo or self._follow or (self._slashed and self._slash_follows)
        if isinstance(inode, Symlink) and follows:
            self._follow_link(here, inode)
        else:
            self._found = Found(here, name, here.child(inode, name))

    def _follow_link(self, here: Dentry, link: Symlink) -> None:
        self._links += 1
        if self._links > MAXSYMLINKS:
            raise KernelError(ELOOP)
        there = link.jump()
        if there is not None:
            self._found = Found(there.parent, b"/", there)
            return
        target = link.target()
        self._slashed = self._slashed or (not self._todo and target.endswith(b"/"))
        self._todo += _components(target)
        self._found = _start(self._root if target.startswith(b"/") else here)


def _start(dentry: Dentry) -> Found:
    return Found(dentry.parent, b"/", dentry)


def _components(path: bytes) -> list[bytes]:
    """The names in a path, the first one last."""
    return [name for name in reversed(path.split(b"/")) if name]


def lookup(root: Dentry, at: Dentry, path: bytes, follow: bool = True, who: Who = None) -> Dentry:
    """The dentry of what a path names.  Raises KernelError as ``walk``, and ENOENT if it does not exist."""
    found = walk(root, at, path, follow, who=who)
    if found.dentry is None:
        raise KernelError(ENOENT)
    if found.slashed:
        as_directory(found.dentry.inode)
    return found.dentry


def open_namei(root: Dentry, at: Dentry, path: bytes, flags: int, mode: int, who: Who = None) -> Dentry:
    """open(2): find what a path names, create it with O_CREAT, check that it may be opened so.

    ``mode`` are the permission bits of a new file, the umask already applied.  The caller truncates
    (O_TRUNC) and makes the File. Raises KernelError: ENOENT, EEXIST, EISDIR, ENOTDIR, ELOOP, EROFS, ETXTBSY,
    EACCES, ENXIO, EOPNOTSUPP.
    """
    if flags & O_PATH:
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW
    if flags & O_TMPFILE == O_TMPFILE:
        if flags & O_CREAT or flags & O_ACCMODE == O_RDONLY:
            raise KernelError(EINVAL)
        where = lookup(root, at, path, not flags & O_NOFOLLOW, who)
        directory = as_directory(where.inode)
        may_create(directory, who)
        inode = directory.tmpfile(mode)
        own(inode, directory, who)
        if flags & O_EXCL:
            inode.linkable = False
        return unnamed(inode, b"#%d" % inode.ino, where)
    if flags & O_CREAT and flags & O_DIRECTORY:
        raise KernelError(EINVAL)
    exclusive = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL
    found = walk(root, at, path, not (flags & O_NOFOLLOW or exclusive), creates=bool(flags & O_CREAT), who=who)
    if found.dentry is None:
        if not flags & O_CREAT:
            raise KernelError(ENOENT)
        may_create(found.parent.inode, who)
        inode = as_directory(found.parent.inode).create(found.name, mode)
        own(inode, found.parent.inode, who)
        made = Dentry(inode, found.name, found.parent)
        made.fresh = True
        notify.created(found.parent.inode, found.name)
        return made
    inode = found.dentry.inode
    if exclusive:
        raise KernelError(EEXIST)
    if flags & O_CREAT and inode.kind == S_IFDIR:
        raise KernelError(EISDIR)
    if flags & O_DIRECTORY:
        as_directory(inode)
    if flags & O_PATH:
        return found.dentry
    if isinstance(inode, Symlink):
        raise KernelError(ELOOP)
    if found.slashed:
        as_directory(inode)
    may_open(inode, flags, who)
    return found.dentry


def mkdir(root: Dentry, at: Dentry, path: bytes, mode: int, who: Who = None) -> None:
    """mkdir(2), the umask already applied to ``mode``.  Raises KernelError(EEXIST, …)."""
    found = _absent(root, at, path, who)
    made = as_directory(found.parent.inode).mkdir(found.name, mode)
    own(made, found.parent.inode, who)
    notify.created(found.parent.inode, found.name, made)


def mknod(root: Dentry, at: Dentry, path: bytes, mode: int, who: Who = None) -> None:
    """mknod(2) of a regular file, FIFO or socket, the umask already applied.  Raises KernelError(EEXIST, EPERM, …)."""
    found = _absent(root, at, path, who)
    if found.slashed:
        raise KernelError(ENOENT)
    directory = as_directory(found.parent.inode)
    directory.mknod(found.name, mode)
    own(directory.lookup(found.name), directory, who)
    notify.created(found.parent.inode, found.name)


def rmdir(root: Dentry, at: Dentry, path: bytes, who: Who = None) -> None:
    """rmdir(2).  Raises KernelError(ENOTDIR, ENOTEMPTY, EBUSY, EINVAL, …)."""
    found, dentry = _existing(root, at, path, who)
    if found.name in DOTS:
        raise KernelError(DOTS[found.name])
    may_delete(found.parent.inode, dentry.inode, who)
    as_directory(found.parent.inode).rmdir(found.name)
    dentry.deleted = True
    notify.removed(found.parent.inode, dentry)


def unlink(root: Dentry, at: Dentry, path: bytes, who: Who = None) -> Inode:
    """unlink(2); the inode that lost a name.  Raises KernelError(EISDIR, ENOENT, …)."""
    found, dentry = _existing(root, at, path, who)
    if not found.slashed and found.name not in DOTS:
        may_delete(found.parent.inode, dentry.inode, who)
    if dentry.inode.kind == S_IFDIR:
        raise KernelError(EISDIR)
    if found.slashed:
        raise KernelError(ENOTDIR)
    as_directory(found.parent.inode).unlink(found.name)
    dentry.deleted = True
    notify.removed(found.parent.inode, dentry)
    return dentry.inode


def symlink(root: Dentry, at: Dentry, target: bytes, path: bytes, who: Who = None) -> None:
    """symlink(2).  Raises KernelError(EEXIST, ENOENT, ENAMETOOLONG, …)."""
    if not target:
        raise KernelError(ENOENT)
    if len(target) >= PATH_MAX:
        raise KernelError(ENAMETOOLONG)
    found = _absent(root, at, path, who)
    if found.slashed:
        raise KernelError(ENOENT)
    directory = as_directory(found.parent.inode)
    directory.symlink(found.name, target)
    own(directory.lookup(found.name), directory, who)
    notify.created(found.parent.inode, found.name)


def link(root: Dentry, source: Dentry, at: Dentry, path: bytes, who: Who = None) -> None:
    """link(2) to what was found already.  Raises KernelError(EEXIST, EPERM, EXDEV, …)."""
    found = _absent(root, at, path, who)
    if found.slashed:
        raise KernelError(ENOENT)
    if source.inode.kind == S_IFDIR:
        raise KernelError(EPERM)
    if not source.inode.linkable and not source.inode.stat().nlink:
        raise KernelError(ENOENT)
    as_directory(found.parent.inode).link(found.name, source.inode)
    notify.tell(source.inode, IN_ATTRIB)
    notify.created(found.parent.inode, found.name)


def readlink(root: Dentry, at: Dentry, path: bytes, who: Who = None) -> bytes:
    """readlink(2).  Raises KernelError(EINVAL) for what is no link."""
    inode = lookup(root, at, path, False, who).inode
    if not isinstance(inode, Symlink):
        raise KernelError(EINVAL)
    return inode.target()


def _existing(root: Dentry, at: Dentry, path: bytes, who: Who) -> tuple[Found, Dentry]:
    found = walk(root, at, path, follow=False, slash_follows=False, who=who)
    if found.dentry is None:
        raise KernelError(ENOENT)
    return found, found.dentry


def _absent(root: Dentry, at: Dentry, path: bytes, who: Who) -> Found:
    """Where a new name goes.  Raises KernelError(EEXIST, EACCES, ENOENT)."""
    found = walk(root, at, path, follow=False, slash_follows=False, who=who)
    if found.dentry is not None:
        raise KernelError(EEXIST)
    may_create(found.parent.inode, who)
    return found
