"""System V IPC by calls of its own and by ipc(2), which i386's C libraries use."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EINVAL, ENOSYS, KernelError
from sandbox.kernel.abi.structs import unpack_timespec, unpack_timespec64
from sandbox.kernel.ipc.ids import Perm
from sandbox.kernel.ipc.sem import SEMOPM, SemOp, SemSet
from sandbox.kernel.ipc.shm import SHM_LOCKED
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.memory import changes_areas
from sandbox.kernel.syscalls.paths import signed
from sandbox.kernel.task.task import Task

IPC_RMID, IPC_SET, IPC_STAT, IPC_64 = 0, 1, 2, 0x100
SHM_LOCK, SHM_UNLOCK = 11, 12
GETPID, GETVAL, GETALL, GETNCNT, GETZCNT, SETVAL, SETALL = range(11, 18)
PERM_BYTES = 36
SEMOP, SEMGET, SEMCTL, SEMTIMEDOP, MSGSND, MSGRCV, MSGGET, MSGCTL = 1, 2, 3, 4, 11, 12, 13, 14
SHMAT, SHMDT, SHMGET, SHMCTL = 21, 22, 23, 24


def sys_shmget(kernel: Kernel, task: Task, key: int, size: int, flags: int, *_: int) -> int:
    return kernel.shm.shmget(task, key, size, flags)


@changes_areas
def sys_shmat(kernel: Kernel, task: Task, ident: int, address: int, flags: int, *_: int) -> int:
    return kernel.shm.shmat(task, ident, address, flags)


@changes_areas
def sys_shmdt(kernel: Kernel, task: Task, address: int, *_: int) -> int:
    return kernel.shm.shmdt(task, address)


def _set_perm(kernel: Kernel, task: Task, perm: Perm, buffer: int) -> int:
    perm.set(kernel.uaccess.get_user(task, buffer, PERM_BYTES))
    return 0


def sys_shmctl(kernel: Kernel, task: Task, ident: int, command: int, buffer: int, *_: int) -> int:
    command &= ~IPC_64
    if command not in (IPC_RMID, IPC_SET, IPC_STAT, SHM_LOCK, SHM_UNLOCK):
        raise KernelError(EINVAL)
    segment = kernel.shm.find(ident)
    if command == IPC_SET:
        return _set_perm(kernel, task, segment.perm, buffer)
    if command == IPC_STAT:
        kernel.uaccess.put_user(task, buffer, segment.pack())
    elif command == IPC_RMID:
        kernel.shm.destroy(segment)
    else:
        segment.perm.mode = segment.perm.mode & ~SHM_LOCKED | (SHM_LOCKED if command == SHM_LOCK else 0)
    return 0


def sys_semget(kernel: Kernel, task: Task, key: int, count: int, flags: int, *_: int) -> int:
    return kernel.sem.semget(key, count, flags)


def _semop(kernel: Kernel, task: Task, ident: int, pointer: int, count: int, timeout: int | None) -> int:
    if not count or ident >> 31:
        raise KernelError(EINVAL)
    data = kernel.uaccess.get_user(task, pointer, 6 * min(count, SEMOPM + 1)) if count <= SEMOPM else bytes(6 * 501)
    return kernel.sem.semop(task, ident, [SemOp(*each) for each in struct.iter_unpack("<Hhh", data)], timeout)


def sys_semtimedop_time64(
    kernel: Kernel, task: Task, ident: int, pointer: int, count: int, timeout: int, *_: int
) -> int:
    limit = unpack_timespec64(kernel.uaccess.get_user(task, timeout, 16)) if timeout else None
    return _semop(kernel, task, ident, pointer, count, limit)


def sys_semctl(kernel: Kernel, task: Task, ident: int, number: int, command: int, argument: int, *_: int) -> int:
    command &= ~IPC_64
    found = kernel.sem.find(ident)
    if command == IPC_SET:
        return _set_perm(kernel, task, found.perm, argument)
    if command == IPC_RMID:
        kernel.sem.destroy(found)
        return 0
    if command == IPC_STAT:
        kernel.uaccess.put_user(task, argument, found.pack())
        return 0
    if command in (GETALL, SETALL):
        return _all_values(kernel, task, found, command, argument)
    return _one_value(kernel, task, found, number, command, argument)


def _all_values(kernel: Kernel, task: Task, found: SemSet, command: int, pointer: int) -> int:
    form = f"<{len(found.values)}H"
    if command == GETALL:
        kernel.uaccess.put_user(task, pointer, struct.pack(form, *found.values))
        return 0
    values = struct.unpack(form, kernel.uaccess.get_user(task, pointer, 2 * len(found.values)))
    kernel.sem.set_values(task, found, dict(enumerate(values)))
    return 0


def _one_value(kernel: Kernel, task: Task, found: SemSet, number: int, command: int, argument: int) -> int:
    if number >= len(found.values) or command not in (GETPID, GETVAL, GETNCNT, GETZCNT, SETVAL):
        raise KernelError(EINVAL)
    if command == SETVAL:
        kernel.sem.set_values(task, found, {number: signed(argument)})
        return 0
    if command == GETVAL:
        return found.values[number]
    if command == GETPID:
        return found.pids[number]
    return sum(each.number == number and bool(each.change) == (command == GETNCNT) for each in found.waiting)


def sys_msgget(kernel: Kernel, task: Task, key: int, flags: int, *_: int) -> int:
    return kernel.msg.msgget(key, flags)


def sys_msgsnd(kernel: Kernel, task: Task, ident: int, pointer: int, size: int, flags: int, *_: int) -> int:
    return kernel.msg.msgsnd(task, ident, pointer, size, flags)


def sys_msgrcv(kernel: Kernel, task: Task, ident: int, pointer: int, size: int, kind: int, flags: int, *_: int) -> int:
    return kernel.msg.msgrcv(task, ident, pointer, size, signed(kind), flags)


def sys_msgctl(kernel: Kernel, task: Task, ident: int, command: int, buffer: int, *_: int) -> int:
    command &= ~IPC_64
    if command not in (IPC_RMID, IPC_SET, IPC_STAT):
        raise KernelError(EINVAL)
    queue = kernel.msg.find(ident)
    if command == IPC_SET:
        return _set_perm(kernel, task, queue.perm, buffer)
    if command == IPC_STAT:
        kernel.uaccess.put_user(task, buffer, queue.pack())
    else:
        kernel.msg.destroy(queue)
    return 0


def sys_ipc(
    kernel: Kernel, task: Task, call: int, first: int, second: int, third: int, pointer: int, fifth: int
) -> int:
    """One call for all, the way i386 began; its upper half is a version, 0 for what C libraries use."""
    user, version, call = kernel.uaccess, call >> 16, call & 0xFFFF
    if call == SEMOP:
        return _semop(kernel, task, first, pointer, second, None)
    if call == SEMTIMEDOP:
        limit = unpack_timespec(user.get_user(task, fifth, 8)) if fifth else None
        return _semop(kernel, task, first, pointer, second, limit)
    if call == SEMGET:
        return sys_semget(kernel, task, first, second, third)
    if call == SEMCTL:
        if not pointer:
            raise KernelError(EINVAL)
        argument = int.from_bytes(user.get_user(task, pointer, 4), "little")
        return sys_semctl(kernel, task, first, second, third, argument)
    if call == MSGSND:
        return sys_msgsnd(kernel, task, first, pointer, second, third)
    if call == MSGRCV:
        if version:
            return sys_msgrcv(kernel, task, first, pointer, second, fifth, third)
        where, kind = struct.unpack("<2I", user.get_user(task, pointer, 8))
        return sys_msgrcv(kernel, task, first, where, second, kind, third)
    if call == MSGGET:
        return sys_msgget(kernel, task, first, second)
    if call == MSGCTL:
        return sys_msgctl(kernel, task, first, second, pointer)
    if call == SHMAT:
        user.put_user(task, third, sys_shmat(kernel, task, first, pointer, second).to_bytes(4, "little"))
        return 0
    if call == SHMDT:
        return sys_shmdt(kernel, task, pointer)
    if call == SHMGET:
        return sys_shmget(kernel, task, first, second, third)
    if call == SHMCTL:
        return sys_shmctl(kernel, task, first, second, pointer)
    raise KernelError(ENOSYS)
