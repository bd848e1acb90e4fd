"""May somebody do that to a file?  Mode bits, owners and the sticky bit (path_resolution(7), capabilities(7)).

File system id 0 has root's capabilities over files: to it mode bits say nothing, except that a file which nobody may
execute is not executed.  None as the subject is the kernel itself.
"""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.abi.errno import EACCES, ENXIO, EPERM, KernelError
from sandbox.kernel.abi.flags import (
    O_ACCMODE,
    O_NOATIME,
    O_RDONLY,
    O_TRUNC,
    O_WRONLY,
    R_OK,
    S_IFDIR,
    S_IFSOCK,
    S_ISGID,
    S_ISVTX,
    W_OK,
    X_OK,
)
from sandbox.kernel.vfs.inode import Inode


class Subject(Protocol):
    """Whose rights count: ids of the file system (credentials(7)), and supplementary groups."""

    @property
    def fsuid(self) -> int: ...

    @property
    def fsgid(self) -> int: ...

    @property
    def groups(self) -> tuple[int, ...]: ...


Who = Subject | None


def limited(who: Who) -> bool:
    """Mode bits count for it."""
    return who is not None and who.fsuid != 0


def permission(inode: Inode, want: int, who: Who) -> None:
    """``want`` is R_OK, W_OK and X_OK bits, X_OK of a directory to search it.  Raises KernelError(EACCES or EROFS)."""
    inode.check_access(want)
    if who is None or not who.fsuid:
        return
    stat = inode.stat()
    shift = 6 if who.fsuid == stat.uid else 3 if in_group(who, stat.gid) else 0
    if want & ~(stat.mode >> shift):
        raise KernelError(EACCES)


def in_group(who: Subject, gid: int) -> bool:
    """It is a member."""
    return gid == who.fsgid or gid in who.groups


def owns(inode: Inode, who: Who) -> None:
    """Only the owner, or root, may.  Raises KernelError(EPERM)."""
    if who is not None and who.fsuid and inode.stat().uid != who.fsuid:
        raise KernelError(EPERM)


def may_open(inode: Inode, flags: int, who: Who) -> None:
    """An existing inode, in Linux's order.  Raises KernelError(EISDIR, EACCES, EPERM, ENXIO, EROFS, ETXTBSY)."""
    write = flags & O_ACCMODE != O_RDONLY or bool(flags & O_TRUNC)
    if limited(who) and not (write and inode.kind == S_IFDIR):
        permission(inode, (W_OK if write else 0) | (R_OK if flags & O_ACCMODE != O_WRONLY else 0), who)
        if flags & O_NOATIME:
            owns(inode, who)
    if inode.kind == S_IFSOCK:
        raise KernelError(ENXIO)
    inode.check_open(write)


def may_create(directory: Inode, who: Who) -> None:
    """A new name in a directory.  Raises KernelError(EACCES, EROFS)."""
    if limited(who):
        permission(directory, W_OK | X_OK, who)


def may_delete(directory: Inode, victim: Inode, who: Who) -> None:
    """A name of a directory goes; in a sticky one only its owner, or the file's, may.  Raises KernelError."""
    if who is None or not who.fsuid:
        return
    permission(directory, W_OK | X_OK, who)
    stat = directory.stat()
    if stat.mode & S_ISVTX and who.fsuid not in (stat.uid, victim.stat().uid):
        raise KernelError(EPERM)


def own(made: Inode, directory: Inode, who: Who) -> None:
    """A new file is its maker's; in a directory with S_ISGID it has that one's group, and a directory the bit."""
    above, mode = directory.stat(), made.stat().mode
    handed_on = bool(above.mode & S_ISGID)
    uid, gid = (0, 0) if who is None else (who.fsuid, who.fsgid)
    gid = above.gid if handed_on else gid
    if uid or gid:
        made.chown(uid, gid)
    keeps = mode | (S_ISGID if handed_on and made.kind == S_IFDIR else 0)
    if keeps != made.stat().mode:
        made.chmod(keeps & 0o7777)


def chmod_bits(inode: Inode, mode: int, who: Who) -> int:
    """The mode that chmod(2) sets.  Raises KernelError(EPERM)."""
    owns(inode, who)
    if who is not None and who.fsuid and not in_group(who, inode.stat().gid):
        return mode & ~S_ISGID
    return mode


def may_chown(inode: Inode, uid: int | None, gid: int | None, who: Who) -> None:
    """chown(2): an owner may give a file to a group of his; the rest is root's.  Raises KernelError(EPERM)."""
    if who is None or not who.fsuid:
        return
    stat = inode.stat()
    mine = stat.uid == who.fsuid
    if uid is not None and not (mine and uid == stat.uid):
        raise KernelError(EPERM)
    if gid is not None and not (mine and (gid == stat.gid or in_group(who, gid))):
        raise KernelError(EPERM)


def may_set_times(inode: Inode, now: bool, who: Who) -> None:
    """utimes(2): the present time by whoever may write, others by the owner.  Raises KernelError(EACCES, EPERM)."""
    if who is None or not who.fsuid or inode.stat().uid == who.fsuid:
        return
    if not now:
        raise KernelError(EPERM)
    permission(inode, W_OK, who)
