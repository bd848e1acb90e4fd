"""From a program's path argument to a dentry: what all calls that take names share."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, ENOENT, KernelError
from sandbox.kernel.abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.namei import Dentry

CWD = AT_FDCWD & 0xFFFFFFFF
"""AT_FDCWD as it is in a register."""


def signed(value: int) -> int:
    """A register's 32 bits as a signed number."""
    return value - (1 << 32) if value >> 31 else value


def start_at(task: Task, fd: int, name: bytes) -> Dentry:
    """Where a path of an ``…at`` call starts.  Raises KernelError(EBADF); an absolute path needs no descriptor."""
    if fd == CWD or name.startswith(b"/"):
        return task.cwd
    if not name:
        raise KernelError(ENOENT)
    return dentry_of(task, fd)


def dentry_of(task: Task, fd: int) -> Dentry:
    """How an open file was found.  Raises KernelError(EBADF)."""
    file = task.files.get(fd)
    return file.dentry if file.dentry is not None else namei.unnamed(file.inode, file.inode.name.encode())


def user_path(kernel: Kernel, task: Task, fd: int, path: int) -> tuple[Dentry, Dentry, bytes]:
    """(root, start, name) of a path argument, for ``namei``.  Raises KernelError(EFAULT, ENAMETOOLONG, EBADF)."""
    name = kernel.uaccess.get_string(task, path)
    return kernel.files.root_of(task), start_at(task, fd, name), name


def user_dentry(kernel: Kernel, task: Task, fd: int, path: int, flags: int = 0) -> Dentry:
    """What a path argument names; AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH count.  Raises KernelError."""
    name = kernel.uaccess.get_string(task, path)
    if not name and flags & AT_EMPTY_PATH:
        return task.cwd if fd == CWD else dentry_of(task, fd)
    return namei.lookup(kernel.files.root_of(task), start_at(task, fd, name), name, not flags & AT_SYMLINK_NOFOLLOW)


def user_inode(kernel: Kernel, task: Task, fd: int, path: int, flags: int = 0) -> Inode:
    """The inode of ``user_dentry``."""
    name = kernel.uaccess.get_string(task, path)
    if not name and flags & AT_EMPTY_PATH and fd != CWD:
        return task.files.get(fd).inode
    return user_dentry(kernel, task, fd, path, flags).inode


def refuse_other(flags: int, known: int) -> None:
    """Raises KernelError(EINVAL) if there are flags besides the known ones."""
    if flags & ~known:
        raise KernelError(EINVAL)
