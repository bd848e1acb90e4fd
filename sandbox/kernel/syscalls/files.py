"""Descriptors, what files are, and names."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import (
    EBADF,
    EFAULT,
    EINVAL,
    ENOTTY,
    ERANGE,
    KernelError,
)
from sandbox.kernel.abi.flags import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    F_DUPFD_CLOEXEC,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_NONBLOCK,
    O_TRUNC,
    O_WRONLY,
    S_IFREG,
)
from sandbox.kernel.abi.structs import pack_dirent64, pack_stat64, pack_statx, pack_termios, pack_winsize
from sandbox.kernel.fs import namei
from sandbox.kernel.fs.console import Console
from sandbox.kernel.fs.inode import Inode, as_directory
from sandbox.kernel.fs.namei import Dentry
from sandbox.kernel.fs.pipe import PipeInode
from sandbox.kernel.ipc import new_pipe
from sandbox.kernel.mm.writeback import sync_inode, truncated, vmtruncate
from sandbox.kernel.syscalls.io import signed
from sandbox.kernel.task import Task
from sandbox.kernel.usercopy import (
    copy_to_user,
    get_string,
    put_user,
)

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD = 0x5401, 0x540F, 0x5413, 0x541B
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL = range(5)


def _at(task: Task, fd: int) -> Dentry:
    """Where a relative path of an ``…at`` call starts."""
    if signed(fd) == AT_FDCWD:
        return task.cwd
    dentry = task.files.get(fd).dentry
    if dentry is None:
        raise KernelError(EBADF)
    return dentry


# -- open and close --------------------------------------------------------------------------------------------------


def _open(kernel: Kernel, task: Task, at: Dentry, path: int, flags: int, mode: int) -> int:
    name = get_string(kernel, task, path)
    file = kernel.files.open(task, at, name, flags & ~O_CLOEXEC, mode)
    if flags & O_TRUNC:
        truncated(kernel, file.inode)
    return task.files.install(file, close_on_exec=bool(flags & O_CLOEXEC))


def sys_open(kernel: Kernel, task: Task, path: int, flags: int, mode: int, *_: int) -> int:
    return _open(kernel, task, task.cwd, path, flags, mode)


def sys_creat(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    return _open(kernel, task, task.cwd, path, O_CREAT | O_WRONLY | O_TRUNC, mode)


def sys_openat(kernel: Kernel, task: Task, fd: int, path: int, flags: int, mode: int, *_: int) -> int:
    return _open(kernel, task, _at(task, fd), path, flags, mode)


def sys_close(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
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
    if flags & ~(O_CLOEXEC | O_NONBLOCK):
        raise KernelError(EINVAL)
    reader, writer = new_pipe(kernel, flags)
    close = bool(flags & O_CLOEXEC)
    installed: list[int] = []
    try:
        for end in (reader, writer):
            installed.append(task.files.install(end, close_on_exec=close))
        put_user(kernel, task, fds, struct.pack("<2I", *installed))
    except KernelError:
        for fd in installed:
            task.files.close(fd)
        raise
    return 0


# -- what files are --------------------------------------------------------------------------------------------------


def sys_fstat64(kernel: Kernel, task: Task, fd: int, buffer: int, *_: int) -> int:
    put_user(kernel, task, buffer, pack_stat64(task.files.get(fd).inode.stat()))
    return 0


def _stat(kernel: Kernel, task: Task, at: Dentry, path: int, buffer: int, follow: bool) -> int:
    inode = namei.lookup(kernel.files.root, at, get_string(kernel, task, path), follow).inode
    put_user(kernel, task, buffer, pack_stat64(inode.stat()))
    return 0


def sys_stat64(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, task.cwd, path, buffer, True)


def sys_lstat64(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, task.cwd, path, buffer, False)


def sys_fstatat64(kernel: Kernel, task: Task, fd: int, path: int, buffer: int, flags: int, *_: int) -> int:
    return _stat(kernel, task, _at(task, fd), path, buffer, not flags & AT_SYMLINK_NOFOLLOW)


def sys_statx(kernel: Kernel, task: Task, fd: int, path: int, flags: int, mask: int, buffer: int, *_: int) -> int:
    name = get_string(kernel, task, path)
    inode: Inode
    if not name and flags & AT_EMPTY_PATH:
        inode = task.files.get(fd).inode
    else:
        inode = namei.lookup(kernel.files.root, _at(task, fd), name, not flags & AT_SYMLINK_NOFOLLOW).inode
    put_user(kernel, task, buffer, pack_statx(inode.stat()))
    return 0


def sys_access(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    namei.lookup(kernel.files.root, task.cwd, get_string(kernel, task, path)).inode.check_access(mode)
    return 0


def sys_faccessat(kernel: Kernel, task: Task, fd: int, path: int, mode: int, *_: int) -> int:
    namei.lookup(kernel.files.root, _at(task, fd), get_string(kernel, task, path)).inode.check_access(mode)
    return 0


def sys_readlink(kernel: Kernel, task: Task, path: int, buffer: int, size: int, *_: int) -> int:
    name = get_string(kernel, task, path)
    if not size or size >> 31:
        raise KernelError(EINVAL)
    if name == b"/proc/self/exe":
        target = task.exe.encode("utf-8", "surrogateescape")
    else:
        target = namei.readlink(kernel.files.root, task.cwd, name)
    target = target[:size]
    if copy_to_user(kernel, task, buffer, target):
        raise KernelError(EFAULT)
    return len(target)


def sys_getdents64(kernel: Kernel, task: Task, fd: int, buffer: int, size: int, *_: int) -> int:
    file = task.files.get(fd)
    packed = b""
    for entry in file.entries():
        record = pack_dirent64(entry.ino, file.position + 1, entry.kind, entry.name)
        if len(packed) + len(record) > size:
            if not packed:
                raise KernelError(EINVAL)
            break
        packed += record
        file.position += 1
    if copy_to_user(kernel, task, buffer, packed):
        raise KernelError(EFAULT)
    return len(packed)


def sys_getcwd(kernel: Kernel, task: Task, buffer: int, size: int, *_: int) -> int:
    path = task.cwd.path() + b"\0"
    if size < len(path):
        raise KernelError(ERANGE)
    put_user(kernel, task, buffer, path)
    return len(path)


def sys_chdir(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    dentry = namei.lookup(kernel.files.root, task.cwd, get_string(kernel, task, path))
    as_directory(dentry.inode)
    task.cwd = dentry
    return 0


def sys_unlink(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    namei.unlink(kernel.files.root, task.cwd, get_string(kernel, task, path))
    return 0


def sys_mkdir(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    namei.mkdir(kernel.files.root, task.cwd, get_string(kernel, task, path), mode & ~task.umask)
    return 0


def sys_rmdir(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    namei.rmdir(kernel.files.root, task.cwd, get_string(kernel, task, path))
    return 0


def sys_rename(kernel: Kernel, task: Task, old: int, new: int, *_: int) -> int:
    source, target = get_string(kernel, task, old), get_string(kernel, task, new)
    namei.rename(kernel.files.root, task.cwd, source, task.cwd, target)
    return 0


def sys_ftruncate64(kernel: Kernel, task: Task, fd: int, low: int, high: int, *_: int) -> int:
    inode = task.files.get_writable(fd).inode
    if inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    vmtruncate(kernel, inode, high << 32 | low)
    return 0


def sys_ftruncate(kernel: Kernel, task: Task, fd: int, length: int, *_: int) -> int:
    return sys_ftruncate64(kernel, task, fd, length, 0)


# -- control ---------------------------------------------------------------------------------------------------------


def sys_fcntl64(kernel: Kernel, task: Task, fd: int, command: int, argument: int, *_: int) -> int:
    file = task.files.get(fd)
    if command in (F_DUPFD, F_DUPFD_CLOEXEC):
        return task.files.dup(fd, lowest=argument, close_on_exec=command == F_DUPFD_CLOEXEC)
    if command == F_GETFD:
        return int(task.files.is_close_on_exec(fd))
    if command == F_SETFD:
        task.files.set_close_on_exec(fd, bool(argument & 1))
        return 0
    if command == F_GETFL:
        return file.flags
    if command == F_SETFL:
        settable = O_APPEND | O_NONBLOCK
        file.flags = file.flags & ~settable | argument & settable
        return 0
    raise KernelError(EINVAL)


sys_fcntl = sys_fcntl64


def sys_ioctl(kernel: Kernel, task: Task, fd: int, request: int, argument: int, *_: int) -> int:
    inode = task.files.get(fd).inode
    if isinstance(inode, PipeInode) and request == FIONREAD:
        put_user(kernel, task, argument, inode.pipe.available.to_bytes(4, "little"))
        return 0
    if isinstance(inode, Console) and inode.is_terminal:
        if request == TIOCGWINSZ:
            put_user(kernel, task, argument, pack_winsize(*inode.window_size()))
            return 0
        if request == TIOCGPGRP:
            put_user(kernel, task, argument, task.pgid.to_bytes(4, "little"))
            return 0
        if request == TCGETS:
            put_user(kernel, task, argument, pack_termios(0x500, 5, 0xBF, 0x8A3B, bytes(19)))
            return 0
    raise KernelError(ENOTTY)


def sys_fsync(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    sync_inode(kernel, task.files.get(fd).inode)
    return 0


def sys_fadvise64_64(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    task.files.get(fd)
    return 0
