"""fcntl and flock: flags of descriptors and open files, advisory locks."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EAGAIN, EBADF, EDEADLK, EINVAL, EOVERFLOW, EPERM, KernelError
from sandbox.kernel.abi.flags import (
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETLK,
    F_GETLK64,
    F_GETPIPE_SZ,
    F_SETFD,
    F_SETFL,
    F_SETLK,
    F_SETLK64,
    F_SETLKW,
    F_SETLKW64,
    F_SETPIPE_SZ,
    FD_CLOEXEC,
    O_PATH,
    O_SETTABLE,
    S_IFREG,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
)
from sandbox.kernel.abi.structs import pack_flock, pack_flock64, unpack_flock, unpack_flock64
from sandbox.kernel.fs.pipe import PipeInode
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import signed
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.locks import F_RDLCK, F_UNLCK, F_WRLCK, LAST_BYTE, FileLocks, Lock, LockList

F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG = 8, 9, 10, 11
F_SETOWN_EX, F_GETOWN_EX = 15, 16
F_OWNER_PID, F_OWNER_PGRP = 1, 2
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
F_SETLEASE, F_GETLEASE = 1024, 1025
F_ADD_SEALS, F_GET_RW_HINT, F_SET_RW_HINT = 1033, 1035, 1036
LAST_RW_HINT = 5
LARGEST_SIGNAL = 64
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
SMALL, LARGE = (16, unpack_flock, pack_flock, 0x7FFFFFFF), (24, unpack_flock64, pack_flock64, LAST_BYTE)
LOCK_COMMANDS = {
    F_GETLK: ("get", SMALL), F_SETLK: ("set", SMALL), F_SETLKW: ("wait", SMALL),
    F_GETLK64: ("get", LARGE), F_SETLK64: ("set", LARGE), F_SETLKW64: ("wait", LARGE),
    F_OFD_GETLK: ("get", LARGE), F_OFD_SETLK: ("set", LARGE), F_OFD_SETLKW: ("wait", LARGE),
}  # fmt: skip


def sys_fcntl(kernel: Kernel, task: Task, fd: int, command: int, argument: int, *_: int) -> int:
    if command in (F_GETLK64, F_SETLK64, F_SETLKW64):
        task.files.get(fd)
        raise KernelError(EINVAL)
    return sys_fcntl64(kernel, task, fd, command, argument)


def sys_fcntl64(kernel: Kernel, task: Task, fd: int, command: int, argument: int, *_: int) -> int:
    table = task.files
    file = table.get(fd)
    if command in (F_DUPFD, F_DUPFD_CLOEXEC):
        if argument >= table.limit:
            raise KernelError(EINVAL)
        return table.dup(fd, lowest=argument, close_on_exec=command == F_DUPFD_CLOEXEC)
    if command == F_GETFD:
        return int(table.is_close_on_exec(fd))
    if command == F_SETFD:
        table.set_close_on_exec(fd, bool(argument & FD_CLOEXEC))
        return 0
    if command == F_GETFL:
        return file.flags
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if command == F_SETFL:
        file.flags = file.flags & ~O_SETTABLE | argument & O_SETTABLE
        return 0
    if command in LOCK_COMMANDS:
        return _lock(kernel, task, file, command, argument)
    if command in (F_SETOWN, F_GETOWN, F_SETOWN_EX, F_GETOWN_EX, F_SETSIG, F_GETSIG):
        return _signals(kernel, task, file, command, argument)
    if command in (F_GET_RW_HINT, F_SET_RW_HINT):
        return _lifetime(kernel, task, command, argument)
    return _other(file, command, argument)


def _signals(kernel: Kernel, task: Task, file: File, command: int, argument: int) -> int:
    """Whom SIGIO would go to, and what would be sent instead of it."""
    if command == F_GETOWN:
        return file.owner
    if command == F_GETSIG:
        return file.signal
    if command == F_GETOWN_EX:
        kernel.uaccess.put_user(task, argument, struct.pack("<ii", file.owner_type, abs(file.owner)))
    elif command == F_SETSIG:
        if argument > LARGEST_SIGNAL:
            raise KernelError(EINVAL)
        file.signal = argument
    elif command == F_SETOWN:
        file.owner = signed(argument)
        file.owner_type = F_OWNER_PGRP if file.owner < 0 else F_OWNER_PID
    else:
        kind, pid = struct.unpack("<ii", kernel.uaccess.get_user(task, argument, 8))
        if not 0 <= kind <= F_OWNER_PGRP:
            raise KernelError(EINVAL)
        file.owner_type, file.owner = kind, -pid if kind == F_OWNER_PGRP else pid
    return 0


def _lifetime(kernel: Kernel, task: Task, command: int, pointer: int) -> int:
    """How long what is written will live: a hint that nothing here takes."""
    if command == F_GET_RW_HINT:
        kernel.uaccess.put_user(task, pointer, bytes(8))
    elif int.from_bytes(kernel.uaccess.get_user(task, pointer, 8), "little") > LAST_RW_HINT:
        raise KernelError(EINVAL)
    return 0


def _set_lease(file: File, kind: int) -> int:
    """No lease is granted, as if somebody had the file open, so none can be given back either."""
    if file.inode.kind != S_IFREG or kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise KernelError(EINVAL)
    raise KernelError(EAGAIN)


def _other(file: File, command: int, argument: int) -> int:
    if command == F_GETLEASE:
        return F_UNLCK
    if command == F_SETLEASE:
        return _set_lease(file, argument)
    if command == F_ADD_SEALS and not file.writable:
        raise KernelError(EPERM)
    if command in (F_SETPIPE_SZ, F_GETPIPE_SZ):
        if not isinstance(file.inode, PipeInode):
            raise KernelError(EBADF)
        return file.inode.pipe.resize(argument) if command == F_SETPIPE_SZ else file.inode.pipe.capacity
    raise KernelError(EINVAL)


def _locks(kernel: Kernel, file: File) -> FileLocks:
    locks = file.inode.locks
    if locks is None:
        locks = file.inode.locks = FileLocks(*(LockList(lambda queue: kernel.sched.wake_up(queue)) for _ in range(2)))
    return locks


def _lock(kernel: Kernel, task: Task, file: File, command: int, pointer: int) -> int:
    """The nine lock commands of fcntl(2)."""
    what, (size, unpack, pack, largest) = LOCK_COMMANDS[command]
    kind, whence, start, length, pid = unpack(kernel.uaccess.get_user(task, pointer, size))
    by_file = command in (F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW)
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK) or (by_file and pid) or (what == "get" and kind == F_UNLCK):
        raise KernelError(EINVAL)
    first, last = _range(file, whence, start, length, largest)
    wanted = Lock(kind, first, last, file if by_file else task.files, -1 if by_file else task.tgid)
    locks = _locks(kernel, file).ranges
    if what == "get":
        found = locks.conflict(wanted)
        if found is None:
            answer = pack(F_UNLCK, start, length, pid)
            answer = answer[:2] + whence.to_bytes(2, "little", signed=True) + answer[4:]
        else:
            to_end = found.end == LAST_BYTE
            answer = pack(found.kind, found.start, 0 if to_end else found.end - found.start + 1, found.pid)
        kernel.uaccess.put_user(task, pointer, answer)
        return 0
    if (kind == F_RDLCK and not file.readable) or (kind == F_WRLCK and not file.writable):
        raise KernelError(EBADF)
    _acquire(kernel, locks, wanted, what == "wait")
    return 0


def _range(file: File, whence: int, start: int, length: int, largest: int) -> tuple[int, int]:
    """First and last byte of a lock.  Raises KernelError(EINVAL, EOVERFLOW)."""
    if whence == SEEK_CUR:
        start += file.position
    elif whence == SEEK_END:
        start += file.inode.size
    elif whence != SEEK_SET:
        raise KernelError(EINVAL)
    if length < 0:
        start, length = start + length, -length
    if start < 0:
        raise KernelError(EINVAL)
    last = start + length - 1 if length else LAST_BYTE
    if start > largest or (length and last > largest):
        raise KernelError(EOVERFLOW)
    return start, last


def _acquire(kernel: Kernel, locks: LockList, wanted: Lock, wait: bool) -> None:
    """Take a lock, sleeping for it if ``wait``.  Raises KernelError: EAGAIN, EDEADLK, and for signals."""
    waiting = kernel.lock_waiters
    while wanted.kind != F_UNLCK and (found := locks.conflict(wanted)) is not None:
        if not wait:
            raise KernelError(EAGAIN)
        owner = found.owner
        while owner is not None and wanted.pid >= 0:
            if owner is wanted.owner:
                raise KernelError(EDEADLK)
            owner = waiting.get(owner)
        waiting[wanted.owner] = found.owner
        try:
            kernel.sched.interruptible_sleep_on(locks.freed)
        finally:
            del waiting[wanted.owner]
    locks.apply(wanted)


def sys_flock(kernel: Kernel, task: Task, fd: int, operation: int, *_: int) -> int:
    kinds = {LOCK_SH: F_RDLCK, LOCK_EX: F_WRLCK, LOCK_UN: F_UNLCK}
    kind = kinds.get(operation & ~LOCK_NB)
    if kind is None:
        raise KernelError(EINVAL)
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    locks = _locks(kernel, file).whole
    wanted = Lock(kind, 0, LAST_BYTE, file, -1)
    if locks.conflict(wanted) is not None:
        locks.release(file)
    _acquire(kernel, locks, wanted, not operation & LOCK_NB)
    return 0
