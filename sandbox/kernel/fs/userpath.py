"""From a program's path argument to a dentry: what all calls that take names share (user_path_at)."""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.abi.errno import ENOENT, KernelError
from sandbox.kernel.abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from sandbox.kernel.fs.namespace import FileSystem, Walker
from sandbox.kernel.mm.mm import Process
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.dcache import Dentry, unnamed
from sandbox.kernel.vfs.file import FdTable
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.permission import Subject, permission

CWD = AT_FDCWD & 0xFFFFFFFF
"""AT_FDCWD as it is in a register."""


class Caller(Process, Walker, Protocol):
    """A task with descriptors, user memory and a place in the tree."""

    files: FdTable


class UserPaths:
    """Reads path arguments and walks them."""

    def __init__(self, files: FileSystem, uaccess: UserAccess) -> None:
        self._files, self._uaccess = files, uaccess

    def user_path(self, task: Caller, fd: int, path: int) -> tuple[Dentry, Dentry, bytes]:
        """(root, start, name) of a path argument, for ``namei``.  Raises KernelError(EFAULT, ENAMETOOLONG, EBADF)."""
        name = self._uaccess.get_string(task, path)
        return self._files.root_of(task), start_at(task, fd, name), name

    def user_dentry(self, task: Caller, fd: int, path: int, flags: int = 0, want: int = 0) -> Dentry:
        """What a path argument names; AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH count.

        The task must have the rights ``want`` to it (R_OK, W_OK, X_OK).  Raises KernelError.
        """
        found = self._walk(task, fd, self._uaccess.get_string(task, path), flags, task.cred)
        if want:
            permission(found.inode, want, task.cred)
        return found

    def user_inode(self, task: Caller, fd: int, path: int, flags: int = 0, who: Subject | None = None) -> Inode:
        """The inode of ``user_dentry``; ``who`` is another subject than the task (access(2))."""
        name = self._uaccess.get_string(task, path)
        if not name and flags & AT_EMPTY_PATH and fd != CWD:
            return task.files.get(fd).inode
        return self._walk(task, fd, name, flags, who or task.cred).inode

    def _walk(self, task: Caller, fd: int, name: bytes, flags: int, who: Subject) -> Dentry:
        if not name and flags & AT_EMPTY_PATH:
            return task.cwd if fd == CWD else dentry_of(task, fd)
        start = start_at(task, fd, name)
        return namei.lookup(self._files.root_of(task), start, name, not flags & AT_SYMLINK_NOFOLLOW, who)


def start_at(task: Caller, fd: int, name: bytes) -> Dentry:
    """Where a path of an ``…at`` call starts.  Raises KernelError(EBADF); an absolute path needs no descriptor."""
    if fd == CWD or name.startswith(b"/"):
        return task.cwd
    if not name:
        raise KernelError(ENOENT)
    return dentry_of(task, fd)


def dentry_of(task: Caller, fd: int) -> Dentry:
    """How an open file was found.  Raises KernelError(EBADF)."""
    file = task.files.get(fd)
    return file.dentry if file.dentry is not None else unnamed(file.inode, file.inode.name.encode())
