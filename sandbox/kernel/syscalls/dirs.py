"""Names and attributes: links, directories, modes, owners, times, sizes, and where a process stands."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EBADF, EINVAL, EISDIR, ENOENT, ENOTDIR, EOPNOTSUPP, EPERM, KernelError
from sandbox.kernel.abi.flags import (
    AT_EMPTY_PATH,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    O_PATH,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    W_OK,
    X_OK,
)
from sandbox.kernel.abi.inotify import IN_ACCESS, IN_ATTRIB, IN_MODIFY
from sandbox.kernel.abi.structs import (
    NANOSECONDS,
    unpack_timespec64_pair,
    unpack_timespec_pair,
    unpack_timeval_pair,
)
from sandbox.kernel.fs.userpath import CWD, dentry_of
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.rlimit import check_size
from sandbox.kernel.syscalls.paths import refuse_other, signed
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs import namei
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.inode import as_directory
from sandbox.kernel.vfs.notify import fsnotify
from sandbox.kernel.vfs.permission import chmod_bits, may_chown, may_set_times, permission
from sandbox.kernel.vfs.rename import rename

UTIME_NOW, UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE


# -- links and directories -------------------------------------------------------------------------------------------


def sys_link(kernel: Kernel, task: Task, old: int, new: int, *_: int) -> int:
    return sys_linkat(kernel, task, CWD, old, CWD, new, 0)


def sys_linkat(kernel: Kernel, task: Task, old_fd: int, old: int, new_fd: int, new: int, flags: int, *_: int) -> int:
    refuse_other(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)
    how = flags & AT_EMPTY_PATH | (0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW)
    source = kernel.paths.user_dentry(task, old_fd, old, how)
    root, at, name = kernel.paths.user_path(task, new_fd, new)
    namei.link(root, source, at, name, task.cred)
    return 0


def sys_symlink(kernel: Kernel, task: Task, target: int, path: int, *_: int) -> int:
    return sys_symlinkat(kernel, task, target, CWD, path)


def sys_symlinkat(kernel: Kernel, task: Task, target: int, fd: int, path: int, *_: int) -> int:
    text = kernel.uaccess.get_string(task, target)
    if not text:
        raise KernelError(ENOENT)
    root, at, name = kernel.paths.user_path(task, fd, path)
    namei.symlink(root, at, text, name, task.cred)
    return 0


def sys_unlink(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    return sys_unlinkat(kernel, task, CWD, path, 0)


def sys_rmdir(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    return sys_unlinkat(kernel, task, CWD, path, AT_REMOVEDIR)


def sys_unlinkat(kernel: Kernel, task: Task, fd: int, path: int, flags: int, *_: int) -> int:
    refuse_other(flags, AT_REMOVEDIR)
    where = kernel.paths.user_path(task, fd, path)
    if flags & AT_REMOVEDIR:
        namei.rmdir(*where, task.cred)
    else:
        namei.unlink(*where, task.cred)
    return 0


def sys_mkdir(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    return sys_mkdirat(kernel, task, CWD, path, mode)


def sys_mkdirat(kernel: Kernel, task: Task, fd: int, path: int, mode: int, *_: int) -> int:
    namei.mkdir(*kernel.paths.user_path(task, fd, path), mode & 0o1777 & ~task.umask, task.cred)
    return 0


def sys_mknod(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    return sys_mknodat(kernel, task, CWD, path, mode)


def sys_mknodat(kernel: Kernel, task: Task, fd: int, path: int, mode: int, *_: int) -> int:
    kind = mode & S_IFMT
    if kind == S_IFDIR:
        raise KernelError(EPERM)
    if kind not in (0, S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK):
        raise KernelError(EINVAL)
    bits = (kind or S_IFREG) | mode & 0o7777 & ~task.umask
    namei.mknod(*kernel.paths.user_path(task, fd, path), bits, task.cred)
    return 0


def sys_rename(kernel: Kernel, task: Task, old: int, new: int, *_: int) -> int:
    return sys_renameat2(kernel, task, CWD, old, CWD, new, 0)


def sys_renameat(kernel: Kernel, task: Task, old_fd: int, old: int, new_fd: int, new: int, *_: int) -> int:
    return sys_renameat2(kernel, task, old_fd, old, new_fd, new, 0)


def sys_renameat2(kernel: Kernel, task: Task, old_fd: int, old: int, new_fd: int, new: int, flags: int, *_: int) -> int:
    refuse_other(flags, RENAME_NOREPLACE | RENAME_EXCHANGE)
    if flags == RENAME_NOREPLACE | RENAME_EXCHANGE:
        raise KernelError(EINVAL)
    root, at, name = kernel.paths.user_path(task, old_fd, old)
    _root, new_at, new_name = kernel.paths.user_path(task, new_fd, new)
    rename(root, at, name, new_at, new_name, flags, kernel.files.rename_cookies, task.cred)
    return 0


# -- attributes ------------------------------------------------------------------------------------------------------


def sys_chmod(kernel: Kernel, task: Task, path: int, mode: int, *_: int) -> int:
    return sys_fchmodat(kernel, task, CWD, path, mode)


def sys_fchmodat(kernel: Kernel, task: Task, fd: int, path: int, mode: int, *_: int) -> int:
    return _chmod(task, kernel.paths.user_dentry(task, fd, path), mode)


def _chmod(task: Task, dentry: Dentry, mode: int) -> int:
    dentry.inode.chmod(chmod_bits(dentry.inode, mode & 0o7777, task.cred))
    fsnotify(dentry, IN_ATTRIB)
    return 0


def sys_fchmod(kernel: Kernel, task: Task, fd: int, mode: int, *_: int) -> int:
    return _chmod(task, _open_dentry(task, fd), mode)


def _open_dentry(task: Task, fd: int) -> Dentry:
    """How an open file was found.  Raises KernelError(EBADF)."""
    if task.files.get(fd).flags & O_PATH:
        raise KernelError(EBADF)
    return dentry_of(task, fd)


def _id(number: int, bits: int) -> int | None:
    """A uid or gid; all ones leave it alone."""
    mask = (1 << bits) - 1
    return None if number & mask == mask else number & mask


def _chown(task: Task, dentry: Dentry, uid: int, gid: int, bits: int = 32) -> int:
    new = _id(uid, bits), _id(gid, bits)
    may_chown(dentry.inode, *new, task.cred)
    dentry.inode.chown(*new)
    fsnotify(dentry, IN_ATTRIB)
    return 0


def sys_chown(kernel: Kernel, task: Task, path: int, uid: int, gid: int, *_: int) -> int:
    return _chown(task, kernel.paths.user_dentry(task, CWD, path), uid, gid, 16)


def sys_lchown(kernel: Kernel, task: Task, path: int, uid: int, gid: int, *_: int) -> int:
    return _chown(task, kernel.paths.user_dentry(task, CWD, path, AT_SYMLINK_NOFOLLOW), uid, gid, 16)


def sys_fchown(kernel: Kernel, task: Task, fd: int, uid: int, gid: int, *_: int) -> int:
    return _chown(task, _open_dentry(task, fd), uid, gid, 16)


def sys_chown32(kernel: Kernel, task: Task, path: int, uid: int, gid: int, *_: int) -> int:
    return _chown(task, kernel.paths.user_dentry(task, CWD, path), uid, gid)


def sys_lchown32(kernel: Kernel, task: Task, path: int, uid: int, gid: int, *_: int) -> int:
    return _chown(task, kernel.paths.user_dentry(task, CWD, path, AT_SYMLINK_NOFOLLOW), uid, gid)


def sys_fchown32(kernel: Kernel, task: Task, fd: int, uid: int, gid: int, *_: int) -> int:
    return _chown(task, _open_dentry(task, fd), uid, gid)


def sys_fchownat(kernel: Kernel, task: Task, fd: int, path: int, uid: int, gid: int, flags: int, *_: int) -> int:
    refuse_other(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    return _chown(task, kernel.paths.user_dentry(task, fd, path, flags), uid, gid)


# -- times -----------------------------------------------------------------------------------------------------------

Times = tuple[tuple[int, int], tuple[int, int]]
"""(seconds, nanoseconds) of access and of modification; nanoseconds may be UTIME_NOW or UTIME_OMIT."""


def _set_times(kernel: Kernel, task: Task, dentry: Dentry, times: Times | None) -> int:
    now = kernel.files.now()
    stamps: list[int | None] = []
    for seconds, part in times or ((0, UTIME_NOW), (0, UTIME_NOW)):
        if part not in (UTIME_NOW, UTIME_OMIT) and not 0 <= part < NANOSECONDS:
            raise KernelError(EINVAL)
        stamps.append(now if part == UTIME_NOW else None if part == UTIME_OMIT else seconds * NANOSECONDS + part)
    if stamps != [None, None]:
        present = times is None or times[0][1] == times[1][1] == UTIME_NOW
        may_set_times(dentry.inode, present, task.cred)
        dentry.inode.set_times(*stamps)
        fsnotify(dentry, IN_MODIFY if stamps[0] is None else IN_ACCESS if stamps[1] is None else IN_ATTRIB)
    return 0


def sys_utime(kernel: Kernel, task: Task, path: int, times: int, *_: int) -> int:
    given: Times | None = None
    if times:
        data = kernel.uaccess.get_user(task, times, 8)
        given = (
            (int.from_bytes(data[:4], "little", signed=True), 0),
            (int.from_bytes(data[4:], "little", signed=True), 0),
        )
    return _set_times(kernel, task, kernel.paths.user_dentry(task, CWD, path), given)


def sys_utimes(kernel: Kernel, task: Task, path: int, times: int, *_: int) -> int:
    return sys_futimesat(kernel, task, CWD, path, times)


def sys_futimesat(kernel: Kernel, task: Task, fd: int, path: int, times: int, *_: int) -> int:
    given = unpack_timeval_pair(kernel.uaccess.get_user(task, times, 16)) if times else None
    return _set_times(kernel, task, _timed_dentry(kernel, task, fd, path, 0), given)


def sys_utimensat(kernel: Kernel, task: Task, fd: int, path: int, times: int, flags: int, *_: int) -> int:
    given = unpack_timespec_pair(kernel.uaccess.get_user(task, times, 16)) if times else None
    return _utimensat(kernel, task, fd, path, given, flags)


def sys_utimensat_time64(kernel: Kernel, task: Task, fd: int, path: int, times: int, flags: int, *_: int) -> int:
    given = unpack_timespec64_pair(kernel.uaccess.get_user(task, times, 32)) if times else None
    return _utimensat(kernel, task, fd, path, given, flags)


def _utimensat(kernel: Kernel, task: Task, fd: int, path: int, times: Times | None, flags: int) -> int:
    if times is not None and times[0][1] == times[1][1] == UTIME_OMIT:
        return 0
    if path:
        refuse_other(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    elif flags:
        raise KernelError(EINVAL)
    return _set_times(kernel, task, _timed_dentry(kernel, task, fd, path, flags), times)


def _timed_dentry(kernel: Kernel, task: Task, fd: int, path: int, flags: int) -> Dentry:
    """What the path names, or without one the open file itself."""
    if not path and fd != CWD:
        return _open_dentry(task, fd)
    return kernel.paths.user_dentry(task, fd, path, flags)


# -- sizes -----------------------------------------------------------------------------------------------------------


def _resize(kernel: Kernel, task: Task, dentry: Dentry, size: int) -> int:
    inode = dentry.inode
    if inode.kind != S_IFREG:
        raise KernelError(EISDIR if inode.kind == S_IFDIR else EINVAL)
    check_size(task.limits, inode.size, size)
    kernel.writeback.vmtruncate(inode, size)
    fsnotify(dentry, IN_MODIFY)
    return 0


def _truncate(kernel: Kernel, task: Task, path: int, size: int) -> int:
    if size < 0:
        raise KernelError(EINVAL)
    dentry = kernel.paths.user_dentry(task, CWD, path)
    if dentry.inode.kind == S_IFREG:
        permission(dentry.inode, W_OK, task.cred)
        dentry.inode.check_open(True)
    return _resize(kernel, task, dentry, size)


def _ftruncate(kernel: Kernel, task: Task, fd: int, size: int) -> int:
    if size < 0:
        raise KernelError(EINVAL)
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if not file.writable or file.inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    return _resize(kernel, task, dentry_of(task, fd), size)


def _offset(low: int, high: int) -> int:
    """A 64-bit argument in two registers, signed."""
    value = high << 32 | low
    return value - (1 << 64) if value >> 63 else value


def sys_truncate(kernel: Kernel, task: Task, path: int, size: int, *_: int) -> int:
    return _truncate(kernel, task, path, signed(size))


def sys_truncate64(kernel: Kernel, task: Task, path: int, low: int, high: int, *_: int) -> int:
    return _truncate(kernel, task, path, _offset(low, high))


def sys_ftruncate(kernel: Kernel, task: Task, fd: int, size: int, *_: int) -> int:
    return _ftruncate(kernel, task, fd, signed(size))


def sys_ftruncate64(kernel: Kernel, task: Task, fd: int, low: int, high: int, *_: int) -> int:
    return _ftruncate(kernel, task, fd, _offset(low, high))


# -- where a process stands ------------------------------------------------------------------------------------------


def sys_chdir(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    dentry = kernel.paths.user_dentry(task, CWD, path)
    permission(as_directory(dentry.inode), X_OK, task.cred)
    task.fs.cwd = dentry
    return 0


def sys_fchdir(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    dentry = dentry_of(task, fd)
    if dentry.inode.kind != S_IFDIR:
        raise KernelError(ENOTDIR)
    permission(dentry.inode, X_OK, task.cred)
    task.fs.cwd = dentry
    return 0


def sys_chroot(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    dentry = kernel.paths.user_dentry(task, CWD, path)
    permission(as_directory(dentry.inode), X_OK, task.cred)
    if not task.cred.capable:
        raise KernelError(EPERM)
    task.fs.root = dentry
    return 0


# -- extended attributes: no file system here has them ---------------------------------------------------------------


def _no_attributes(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    kernel.paths.user_inode(task, CWD, path)
    raise KernelError(EOPNOTSUPP)


def _no_link_attributes(kernel: Kernel, task: Task, path: int, *_: int) -> int:
    kernel.paths.user_inode(task, CWD, path, AT_SYMLINK_NOFOLLOW)
    raise KernelError(EOPNOTSUPP)


def _no_open_attributes(kernel: Kernel, task: Task, fd: int, *_: int) -> int:
    task.files.get(fd)
    raise KernelError(EOPNOTSUPP)


sys_setxattr = sys_getxattr = sys_listxattr = sys_removexattr = _no_attributes
sys_lsetxattr = sys_lgetxattr = sys_llistxattr = sys_lremovexattr = _no_link_attributes
sys_fsetxattr = sys_fgetxattr = sys_flistxattr = sys_fremovexattr = _no_open_attributes
