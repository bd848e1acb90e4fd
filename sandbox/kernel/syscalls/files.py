"""Opening and closing: descriptors, pipes, FIFOs, files without a name."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.abi.flags import (
    O_CLOEXEC,
    O_CREAT,
    O_NONBLOCK,
    O_PATH,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    S_IFIFO,
    S_IFREG,
)
from sandbox.kernel.abi.inotify import IN_MODIFY, IN_OPEN
from sandbox.kernel.drivers.chrdev import CharDevice
from sandbox.kernel.fs.fifo import Fifo
from sandbox.kernel.fs.namespace import OPEN_ONLY
from sandbox.kernel.fs.pipe import PipeInode
from sandbox.kernel.fs.userpath import CWD
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.dcache import Dentry, unnamed
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.notify import fsnotify_file

TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD = 0x5401, 0x540F, 0x5413, 0x541B
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4
MFD_CLOEXEC, MFD_ALLOW_SEALING = 1, 2
MFD_NAME_MAX = 249


def sys_open(kernel: Kernel, task: Task, path: int, flags: int, mode: int, *_: int) -> int:
    return sys_openat(kernel, task, CWD, path, flags, mode)


def sys_creat(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    return sys_openat(kernel, task, CWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)


def sys_openat(kernel: Kernel, task: Task, fd: int, path: int, flags: int, mode: int, *_: int) -> int:
    _root, at, name = kernel.paths.user_path(task, fd, path)
    keep = flags & ~O_CLOEXEC
    dentry = kernel.files.find_open(task, at, name, keep, mode)
    if dentry.inode.kind == S_IFIFO and not flags & O_PATH and not isinstance(dentry.inode, CharDevice):
        file = _open_fifo(kernel, dentry, keep & ~OPEN_ONLY)
    else:
        file = kernel.files.open_found(dentry, keep)
        if flags & O_TRUNC and not flags & O_PATH:
            kernel.writeback.truncated(file.inode)
    fsnotify_file(file, IN_OPEN)
    if flags & O_TRUNC and not dentry.fresh and dentry.inode.kind == S_IFREG:
        fsnotify_file(file, IN_MODIFY)
    dentry.fresh = False
    return install(task, file, bool(flags & O_CLOEXEC))


def install(task: Task, file: File, close_on_exec: bool) -> int:
    """Give a new open file a descriptor; without one it is released.  Raises KernelError(EMFILE)."""
    try:
        return task.files.install(file, close_on_exec=close_on_exec)
    except KernelError:
        file.get().put()
        raise


def _open_fifo(kernel: Kernel, dentry: Dentry, flags: int) -> File:
    node = dentry.inode
    if isinstance(node, PipeInode) and not isinstance(node, Fifo):
        return File(node, flags, dentry)
    if isinstance(node, Fifo):
        fifo = node
    elif isinstance(node.fifo, Fifo):
        fifo = node.fifo
    else:
        fifo = node.fifo = kernel.pipes.new_fifo(node)
    return fifo.open(dentry, flags, kernel.sched.interruptible_sleep_on)


def sys_close(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    task.files.close(fd)
    return 0


def sys_close_range(kernel: Kernel, task: Task, first: int, last: int, flags: int, *_: int) -> int:
    refuse_other(flags, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)
    if first > last:
        raise KernelError(EINVAL)
    for fd, _file in task.files:
        if first <= fd <= last:
            if flags & CLOSE_RANGE_CLOEXEC:
                task.files.set_close_on_exec(fd, True)
            else:
                task.files.close(fd)
    return 0


def sys_dup(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    return task.files.dup(fd)


def sys_dup2(kernel: Kernel, task: Task, fd: int, new: int, *_: int) -> int:
    return task.files.dup2(fd, new)


def sys_dup3(kernel: Kernel, task: Task, fd: int, new: int, flags: int, *_: int) -> int:
    if fd == new or flags & ~O_CLOEXEC:
        raise KernelError(EINVAL)
    return task.files.dup2(fd, new, close_on_exec=bool(flags & O_CLOEXEC))


def sys_pipe(kernel: Kernel, task: Task, fds: int, *_: int) -> int:
    return sys_pipe2(kernel, task, fds, 0)


def sys_pipe2(kernel: Kernel, task: Task, fds: int, flags: int, *_: int) -> int:
    refuse_other(flags, O_CLOEXEC | O_NONBLOCK)
    reader, writer = kernel.pipes.new_pipe(flags)
    reader.inode.born = kernel.clock.nanoseconds
    close = bool(flags & O_CLOEXEC)
    installed: list[int] = []
    try:
        for end in (reader, writer):
            installed.append(install(task, end, close))
        kernel.uaccess.put_user(task, fds, struct.pack("<2I", *installed))
    except KernelError:
        for fd in installed:
            task.files.close(fd)
        if not installed:
            writer.get().put()
        raise
    return 0


def sys_memfd_create(kernel: Kernel, task: Task, name: int, flags: int, *_: int) -> int:
    refuse_other(flags, MFD_CLOEXEC | MFD_ALLOW_SEALING)
    label = kernel.uaccess.get_string(task, name)
    if len(label) > MFD_NAME_MAX:
        raise KernelError(EINVAL)
    inode = kernel.files.ram.file(mode=0o777)
    dentry = unnamed(inode, b"memfd:" + label, kernel.files.root)
    return install(task, File(inode, O_RDWR, dentry), bool(flags & MFD_CLOEXEC))
