"""inotify_init, inotify_add_watch and inotify_rm_watch."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EBADF, EINVAL, KernelError
from sandbox.kernel.abi.flags import AT_SYMLINK_NOFOLLOW, O_CLOEXEC, O_NONBLOCK, O_RDONLY, R_OK
from sandbox.kernel.abi.inotify import (
    ALL_INOTIFY_BITS,
    IN_DONT_FOLLOW,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONLYDIR,
)
from sandbox.kernel.fs.userpath import CWD
from sandbox.kernel.ipc.inotify import Inotify
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import as_directory


def sys_inotify_init1(kernel: Kernel, task: Task, flags: int, *_: int) -> int:
    refuse_other(flags, O_CLOEXEC | O_NONBLOCK)
    file = File(Inotify(kernel.uaccess, kernel.sched), O_RDONLY | flags & O_NONBLOCK)
    return task.files.install(file, close_on_exec=bool(flags & O_CLOEXEC))


def sys_inotify_init(kernel: Kernel, task: Task, *_: int) -> int:
    return sys_inotify_init1(kernel, task, 0)


def _inotify_of(task: Task, fd: int) -> Inotify:
    inode = task.files.get(fd).inode
    if not isinstance(inode, Inotify):
        raise KernelError(EINVAL)
    return inode


def sys_inotify_add_watch(kernel: Kernel, task: Task, fd: int, path: int, mask: int, *_: int) -> int:
    if not mask & ALL_INOTIFY_BITS:
        raise KernelError(EINVAL)
    if fd not in task.files:
        raise KernelError(EBADF)
    if mask & IN_MASK_ADD and mask & IN_MASK_CREATE:
        raise KernelError(EINVAL)
    group = _inotify_of(task, fd)
    how = AT_SYMLINK_NOFOLLOW if mask & IN_DONT_FOLLOW else 0
    inode = kernel.paths.user_dentry(task, CWD, path, how, R_OK).inode
    if mask & IN_ONLYDIR:
        as_directory(inode)
    return group.add_watch(inode, mask)


def sys_inotify_rm_watch(kernel: Kernel, task: Task, fd: int, number: int, *_: int) -> int:
    _inotify_of(task, fd).remove_watch(number)
    return 0
