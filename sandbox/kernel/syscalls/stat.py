"""What files and file systems are: the stat family, access, readlink, directory entries."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import EBADF, EFAULT, EINVAL, ENOENT, ERANGE, KernelError
from sandbox.kernel.abi.flags import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_NO_AUTOMOUNT,
    AT_STATX_SYNC_TYPE,
    AT_SYMLINK_NOFOLLOW,
    O_PATH,
    STATX_RESERVED,
)
from sandbox.kernel.abi.inotify import IN_ACCESS
from sandbox.kernel.abi.structs import (
    Stat,
    pack_dirent,
    pack_dirent64,
    pack_old_dirent,
    pack_old_stat,
    pack_stat,
    pack_stat64,
    pack_statfs,
    pack_statfs64,
    pack_statx,
)
from sandbox.kernel.fs.userpath import CWD
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.inode import Entry, Inode, Symlink
from sandbox.kernel.vfs.notify import fsnotify_file
from sandbox.kernel.vfs.permission import permission
from sandbox.x86.paging import PAGE_SIZE

STATFS64_BYTES = 84
Pack = Callable[[Stat], bytes]


def _stat(kernel: Kernel, task: Task, fd: int, path: int, flags: int, buffer: int, pack: Pack) -> int:
    kernel.uaccess.put_user(task, buffer, pack(kernel.paths.user_inode(task, fd, path, flags).stat()))
    return 0


def _fstat(kernel: Kernel, task: Task, fd: int, buffer: int, pack: Pack) -> int:
    kernel.uaccess.put_user(task, buffer, pack(task.files.get(fd).inode.stat()))
    return 0


def sys_oldstat(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, CWD, path, 0, buffer, pack_old_stat)


def sys_oldlstat(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, CWD, path, AT_SYMLINK_NOFOLLOW, buffer, pack_old_stat)


def sys_oldfstat(kernel: Kernel, task: Task, fd: int, buffer: int, *_: int) -> int:
    return _fstat(kernel, task, fd, buffer, pack_old_stat)


def sys_stat(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, CWD, path, 0, buffer, pack_stat)


def sys_lstat(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, CWD, path, AT_SYMLINK_NOFOLLOW, buffer, pack_stat)


def sys_fstat(kernel: Kernel, task: Task, fd: int, buffer: int, *_: int) -> int:
    return _fstat(kernel, task, fd, buffer, pack_stat)


def sys_stat64(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, CWD, path, 0, buffer, pack_stat64)


def sys_lstat64(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    return _stat(kernel, task, CWD, path, AT_SYMLINK_NOFOLLOW, buffer, pack_stat64)


def sys_fstat64(kernel: Kernel, task: Task, fd: int, buffer: int, *_: int) -> int:
    return _fstat(kernel, task, fd, buffer, pack_stat64)


def sys_fstatat64(kernel: Kernel, task: Task, fd: int, path: int, buffer: int, flags: int, *_: int) -> int:
    refuse_other(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)
    return _stat(kernel, task, fd, path, flags, buffer, pack_stat64)


def sys_statx(kernel: Kernel, task: Task, fd: int, path: int, flags: int, mask: int, buffer: int, *_: int) -> int:
    refuse_other(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)
    if mask & STATX_RESERVED or flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE:
        raise KernelError(EINVAL)
    return _stat(kernel, task, fd, path, flags, buffer, pack_statx)


def sys_access(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    return sys_faccessat2(kernel, task, CWD, path, mode, 0)


def sys_faccessat(kernel: Kernel, task: Task, fd: int, path: int, mode: int, *_: int) -> int:
    return sys_faccessat2(kernel, task, fd, path, mode, 0)


def sys_faccessat2(kernel: Kernel, task: Task, fd: int, path: int, mode: int, flags: int, *_: int) -> int:
    refuse_other(mode, 7)
    refuse_other(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    who = task.cred if flags & AT_EACCESS else task.cred.real
    permission(kernel.paths.user_inode(task, fd, path, flags, who), mode, who)
    return 0


def sys_readlink(kernel: Kernel, task: Task, path: int, buffer: int, size: int, *_: int) -> int:
    return sys_readlinkat(kernel, task, CWD, path, buffer, size)


def sys_readlinkat(kernel: Kernel, task: Task, fd: int, path: int, buffer: int, size: int, *_: int) -> int:
    if not size or size >> 31:
        raise KernelError(EINVAL)
    flags = AT_SYMLINK_NOFOLLOW | (AT_EMPTY_PATH if fd != CWD else 0)
    inode = kernel.paths.user_dentry(task, fd, path, flags).inode
    if not isinstance(inode, Symlink):
        raise KernelError(EINVAL if kernel.uaccess.get_string(task, path) else ENOENT)
    target = inode.target()[:size]
    if kernel.uaccess.copy_to_user(task, buffer, target):
        raise KernelError(EFAULT)
    return len(target)


# -- directories -----------------------------------------------------------------------------------------------------


def _getdents(
    kernel: Kernel,
    task: Task,
    fd: int,
    buffer: int,
    size: int,
    pack: Callable[[Entry, int], bytes],
    most: int = 1 << 30,
) -> int:
    """Records of the directory's entries, whole ones only, into user memory; the bytes stored."""
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    records: list[bytes] = []
    length = 0
    for at, entry in enumerate(file.entries()[: min(size // 12 + 1, most)], file.position + 1):
        record = pack(entry, at)
        if length + len(record) > size:
            if not records:
                raise KernelError(EINVAL)
            break
        records.append(record)
        length += len(record)
    left = kernel.uaccess.copy_to_user(task, buffer, b"".join(records))
    while left > 0:
        left -= len(records[-1])
        length -= len(records.pop())
        if not records:
            raise KernelError(EFAULT)
    file.position += len(records)
    fsnotify_file(file, IN_ACCESS)
    return length


def sys_getdents64(kernel: Kernel, task: Task, fd: int, buffer: int, size: int, *_: int) -> int:
    return _getdents(
        kernel, task, fd, buffer, size, lambda entry, at: pack_dirent64(entry.ino, at, entry.kind, entry.name)
    )


def sys_getdents(kernel: Kernel, task: Task, fd: int, buffer: int, size: int, *_: int) -> int:
    return _getdents(
        kernel, task, fd, buffer, size, lambda entry, at: pack_dirent(entry.ino, at, entry.kind, entry.name)
    )


def sys_readdir(kernel: Kernel, task: Task, fd: int, buffer: int, *_: int) -> int:
    """The first of the three: one entry a call, its result 1."""

    def pack(entry: Entry, at: int) -> bytes:
        return pack_old_dirent(entry.ino, at - 1, entry.name)

    return int(bool(_getdents(kernel, task, fd, buffer, PAGE_SIZE, pack, 1)))


def sys_getcwd(kernel: Kernel, task: Task, buffer: int, size: int, *_: int) -> int:
    path = task.cwd.path(kernel.files.root_of(task)) + b"\0"
    if size < len(path):
        raise KernelError(ERANGE)
    kernel.uaccess.put_user(task, buffer, path)
    return len(path)


# -- file systems ----------------------------------------------------------------------------------------------------


def _statfs(kernel: Kernel, inode: Inode) -> tuple[int, int, int]:
    """(magic number, blocks, free blocks)."""
    return kernel.files.usage(inode)


def sys_statfs(kernel: Kernel, task: Task, path: int, buffer: int, *_: int) -> int:
    magic, blocks, free = _statfs(kernel, kernel.paths.user_inode(task, CWD, path))
    kernel.uaccess.put_user(task, buffer, pack_statfs(magic, blocks=blocks, free=free))
    return 0


def sys_fstatfs(kernel: Kernel, task: Task, fd: int, buffer: int, *_: int) -> int:
    magic, blocks, free = _statfs(kernel, task.files.get(fd).inode)
    kernel.uaccess.put_user(task, buffer, pack_statfs(magic, blocks=blocks, free=free))
    return 0


def sys_statfs64(kernel: Kernel, task: Task, path: int, size: int, buffer: int, *_: int) -> int:
    if size != STATFS64_BYTES:
        raise KernelError(EINVAL)
    magic, blocks, free = _statfs(kernel, kernel.paths.user_inode(task, CWD, path))
    kernel.uaccess.put_user(task, buffer, pack_statfs64(magic, blocks=blocks, free=free))
    return 0


def sys_fstatfs64(kernel: Kernel, task: Task, fd: int, size: int, buffer: int, *_: int) -> int:
    if size != STATFS64_BYTES:
        raise KernelError(EINVAL)
    magic, blocks, free = _statfs(kernel, task.files.get(fd).inode)
    kernel.uaccess.put_user(task, buffer, pack_statfs64(magic, blocks=blocks, free=free))
    return 0
