"""renameat2(2): a name moves, takes another's place, or changes places with it; refused in Linux's order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

from sandbox.kernel.abi.errno import (
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    KernelError,
)
from sandbox.kernel.abi.flags import NAME_MAX, RENAME_EXCHANGE, RENAME_NOREPLACE, S_IFDIR, W_OK
from sandbox.kernel.vfs import notify
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.inode import Directory, Inode, as_directory
from sandbox.kernel.vfs.namei import DOTS, Found, walk
from sandbox.kernel.vfs.permission import Who, limited, may_create, may_delete, permission

UNTOLD: Iterator[int] = repeat(0)
"""Cookies where nobody watches."""


def rename(
    root: Dentry, at: Dentry, old: bytes, new_at: Dentry, new: bytes, flags: int = 0, cookies: Iterator[int] = UNTOLD,
    who: Who = None,
) -> None:  # fmt: skip
    """renameat2(2); ``cookies`` are numbers that no move had yet, for its watchers.

    Raises KernelError(ENOENT, EEXIST, EBUSY, EINVAL, ENOTEMPTY, EISDIR, ENOTDIR, EXDEV, …).
    """
    source = walk(root, at, old, follow=False, slash_follows=False, long_last=True, who=who)
    target = walk(root, new_at, new, follow=False, slash_follows=False, long_last=True, who=who)
    exchange = bool(flags & RENAME_EXCHANGE)
    moved = _check_names(source, target, flags)
    _check_slashes(moved, source, target, exchange)
    _check_nesting(moved, source, target, exchange)
    directory, into = as_directory(source.parent.inode), as_directory(target.parent.inode)
    there = target.dentry
    if limited(who):
        _check_rights(directory, moved, into, there, exchange, who)
    if there is not None and exchange:
        directory.exchange(source.name, into, target.name)
        there.name, there.parent = source.name, source.parent
    else:
        _check_kinds(moved, there)
        directory.rename(source.name, into, target.name)
        if there is not None:
            if there.inode is moved.inode:
                return
            there.deleted = True
    moved.name, moved.parent = target.name, target.parent
    _tell_of_move(directory, source.name, into, target.name, moved.inode, there, exchange, cookies)


def _check_rights(
    directory: Directory, moved: Dentry, into: Directory, there: Dentry | None, exchange: bool, who: Who
) -> None:
    """vfs_rename: names go and come, and a directory that gets another ``..`` is written.  Raises KernelError."""
    if there is not None and there.inode is moved.inode:
        return
    may_delete(directory, moved.inode, who)
    if there is None:
        may_create(into, who)
    else:
        may_delete(into, there.inode, who)
    if into is not directory:
        for each in (moved, there) if exchange else (moved,):
            if each is not None and each.inode.kind == S_IFDIR:
                permission(each.inode, W_OK, who)


def _tell_of_move(
    directory: Directory, old: bytes, into: Directory, new: bytes, inode: Inode, there: Dentry | None, exchange: bool,
    cookies: Iterator[int],
) -> None:  # fmt: skip
    """Watchers learn of a rename, in the order of fsnotify_move."""
    notify.moved(directory, old, into, new, inode, next(cookies))
    if there is not None and not exchange:
        notify.lost_name(there.inode)
    notify.moved_itself(inode)
    if there is not None and exchange:
        notify.moved(into, new, directory, old, there.inode, next(cookies))
        notify.moved_itself(there.inode)
    elif there is not None:
        notify.inode_gone(there.inode)


def _check_names(source: Found, target: Found, flags: int) -> Dentry:
    """What is to be moved.  Raises KernelError(EBUSY, EEXIST, ENAMETOOLONG, ENOENT), in Linux's order."""
    if source.name in DOTS:
        raise KernelError(EBUSY)
    if target.name in DOTS:
        raise KernelError(EEXIST if flags & RENAME_NOREPLACE else EBUSY)
    if len(source.name) > NAME_MAX:
        raise KernelError(ENAMETOOLONG)
    if source.dentry is None:
        raise KernelError(ENOENT)
    if len(target.name) > NAME_MAX:
        raise KernelError(ENAMETOOLONG)
    if target.dentry is not None and flags & RENAME_NOREPLACE:
        raise KernelError(EEXIST)
    if target.dentry is None and flags & RENAME_EXCHANGE:
        raise KernelError(ENOENT)
    return source.dentry


def _check_slashes(moved: Dentry, source: Found, target: Found, exchange: bool) -> None:
    """A slash behind a name asks for a directory.  Raises KernelError(ENOTDIR)."""
    if exchange and target.dentry is not None and target.slashed:
        as_directory(target.dentry.inode)
    if moved.inode.kind != S_IFDIR and (source.slashed or (target.slashed and not exchange)):
        raise KernelError(ENOTDIR)


def _check_nesting(moved: Dentry, source: Found, target: Found, exchange: bool) -> None:
    """Nothing goes below itself.  Raises KernelError(EINVAL, ENOTEMPTY)."""
    if target.parent.is_below(moved.inode):
        raise KernelError(EINVAL)
    if target.dentry is not None and source.parent.is_below(target.dentry.inode):
        raise KernelError(EINVAL if exchange else ENOTEMPTY)


def _check_kinds(moved: Dentry, there: Dentry | None) -> None:
    """Only directories replace directories.  Raises KernelError(ENOTDIR, EISDIR)."""
    if there is not None and there.inode is not moved.inode:
        if moved.inode.kind == S_IFDIR != there.inode.kind:
            raise KernelError(ENOTDIR)
        if moved.inode.kind != S_IFDIR == there.inode.kind:
            raise KernelError(EISDIR)
