"""fork, exec, exit, wait, identity, kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import E2BIG, EINVAL, EPERM, ESRCH, KernelError
from sandbox.kernel.abi.flags import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_PARENT_SETTID,
    CLONE_SETTLS,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
)
from sandbox.kernel.abi.structs import UserDesc
from sandbox.kernel.exec import do_execve
from sandbox.kernel.exit import do_wait
from sandbox.kernel.fork import do_fork
from sandbox.kernel.signal import LAST_SIGNAL, send_signal
from sandbox.kernel.task import GDT_ENTRY_TLS_ENTRIES, GDT_ENTRY_TLS_MIN, Task, TaskExit
from sandbox.kernel.usercopy import get_string, get_user, get_word, put_user

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

MAX_ARGUMENTS = 4096
WAIT_OPTIONS = 0xE000000B
"""WNOHANG, WUNTRACED, WCONTINUED, and Linux's own three at the top."""


def sys_exit(kernel: Kernel, task: Task, status: int, *_: int) -> int:
    raise TaskExit((status & 0xFF) << 8)


sys_exit_group = sys_exit


def sys_fork(kernel: Kernel, task: Task, *_: int) -> int:
    return do_fork(kernel, task).pid


def sys_vfork(kernel: Kernel, task: Task, *_: int) -> int:
    return do_fork(kernel, task).pid


def sys_clone(
    kernel: Kernel, task: Task, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int, *_: int
) -> int:
    """clone as fork: a new address space always; threads are refused."""
    if flags & CLONE_THREAD or (flags & CLONE_VM and not flags & CLONE_VFORK):
        raise KernelError(EINVAL)
    child = do_fork(kernel, task)
    if stack:
        child.context.esp = stack
    if flags & CLONE_SETTLS:
        _set_tls(child, UserDesc.unpack(get_user(kernel, task, tls, UserDesc.SIZE)))
    if flags & CLONE_PARENT_SETTID:
        put_user(kernel, task, parent_tid, child.pid.to_bytes(4, "little"))
    if flags & CLONE_CHILD_CLEARTID:
        child.clear_child_tid = child_tid
    if flags & CLONE_CHILD_SETTID:
        child.set_child_tid = child_tid
    return child.pid


def sys_execve(kernel: Kernel, task: Task, path: int, argv: int, envp: int, *_: int) -> int:
    name = get_string(kernel, task, path)
    arguments, environment = _strings(kernel, task, argv), _strings(kernel, task, envp)
    inode, found = kernel.files.open_exec(task, name)
    do_execve(kernel, task, inode, found, arguments, environment)
    task.files.close_on_exec()
    return 0


def _strings(kernel: Kernel, task: Task, array: int) -> list[bytes]:
    """The strings that a NULL-terminated array of pointers names; a NULL array is empty, as Linux has it."""
    found: list[bytes] = []
    total = 0
    while array:
        pointer = get_word(kernel, task, array + 4 * len(found))
        if not pointer:
            break
        found.append(get_string(kernel, task, pointer))
        total += len(found[-1])
        if len(found) > MAX_ARGUMENTS or total > 128 * 1024:
            raise KernelError(E2BIG)
    return found


def sys_waitpid(kernel: Kernel, task: Task, pid: int, status: int, options: int, *_: int) -> int:
    return sys_wait4(kernel, task, pid, status, options, 0)


def sys_wait4(kernel: Kernel, task: Task, pid: int, status: int, options: int, usage: int, *_: int) -> int:
    if options & ~WAIT_OPTIONS:
        raise KernelError(EINVAL)
    signed = pid - (1 << 32) if pid >> 31 else pid
    child = do_wait(kernel, task, signed, options)
    if child is None:
        return 0
    if status:
        put_user(kernel, task, status, child.status.to_bytes(4, "little"))
    if usage:
        put_user(kernel, task, usage, bytes(72))
    return child.pid


def sys_getpid(kernel: Kernel, task: Task, *_: int) -> int:
    return task.pid


sys_gettid = sys_getpid


def sys_getppid(kernel: Kernel, task: Task, *_: int) -> int:
    return task.parent.pid if task.parent is not None else 0


def sys_getpgrp(kernel: Kernel, task: Task, *_: int) -> int:
    return task.pgid


def sys_getpgid(kernel: Kernel, task: Task, pid: int, *_: int) -> int:
    return _find(kernel, task, pid).pgid


def sys_setpgid(kernel: Kernel, task: Task, pid: int, pgid: int, *_: int) -> int:
    target = _find(kernel, task, pid)
    if target is not task and target.parent is not task:
        raise KernelError(ESRCH)
    if pgid >> 31:
        raise KernelError(EINVAL)
    target.pgid = pgid or target.pid
    return 0


def sys_setsid(kernel: Kernel, task: Task, *_: int) -> int:
    if task.pgid == task.pid:
        raise KernelError(EPERM)
    task.pgid = task.sid = task.pid
    return task.pid


def sys_getsid(kernel: Kernel, task: Task, pid: int, *_: int) -> int:
    return _find(kernel, task, pid).sid


def _find(kernel: Kernel, task: Task, pid: int) -> Task:
    found = task if not pid else kernel.tasks.get(pid)
    if found is None:
        raise KernelError(ESRCH)
    return found


def sys_kill(kernel: Kernel, task: Task, pid: int, number: int, *_: int) -> int:
    if number > LAST_SIGNAL:
        raise KernelError(EINVAL)
    signed = pid - (1 << 32) if pid >> 31 else pid
    if signed > 0:
        targets = [_find(kernel, task, signed)]
    elif signed == -1:
        targets = [each for each in kernel.tasks.values() if each.pid > 1 and each is not task]
    else:
        group = -signed or task.pgid
        targets = [each for each in kernel.tasks.values() if each.pgid == group]
    if not targets:
        raise KernelError(ESRCH)
    for each in targets:
        send_signal(kernel, each, number)
    return 0


def sys_tgkill(kernel: Kernel, task: Task, tgid: int, tid: int, number: int, *_: int) -> int:
    return sys_kill(kernel, task, tid, number)


def sys_tkill(kernel: Kernel, task: Task, tid: int, number: int, *_: int) -> int:
    return sys_kill(kernel, task, tid, number)


def sys_set_thread_area(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    """Entry -1 takes a free one and stores its number, 6 to 8, back."""
    desc = UserDesc.unpack(get_user(kernel, task, pointer, UserDesc.SIZE))
    if desc.entry_number == -1:
        free = [slot for slot, descriptor in enumerate(task.tls) if not descriptor]
        if not free:
            raise KernelError(ESRCH)
        desc.entry_number = free[0] + GDT_ENTRY_TLS_MIN
        put_user(kernel, task, pointer, desc.entry_number.to_bytes(4, "little"))
    _set_tls(task, desc)
    kernel.load_tls(task.cpu, task)
    return 0


def _set_tls(task: Task, desc: UserDesc) -> None:
    slot = desc.entry_number - GDT_ENTRY_TLS_MIN
    if not 0 <= slot < GDT_ENTRY_TLS_ENTRIES or (desc.contents > 1 and not desc.clears):
        raise KernelError(EINVAL)
    if desc.clears:
        task.tls[slot] = 0
        return
    low = desc.limit & 0xFFFF | (desc.base & 0xFFFFFF) << 16 | desc.access << 40
    task.tls[slot] = low | (desc.limit >> 16 & 0xF) << 48 | desc.granularity << 52 | (desc.base >> 24) << 56


def sys_set_tid_address(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    task.clear_child_tid = pointer
    return task.pid


def sys_sched_yield(kernel: Kernel, task: Task, *_: int) -> int:
    kernel.sched.yield_cpu(task)
    return 0


def _zero(kernel: Kernel, task: Task, *_: int) -> int:
    return 0


sys_getuid = sys_geteuid = sys_getgid = sys_getegid = _zero
sys_getuid32 = sys_geteuid32 = sys_getgid32 = sys_getegid32 = _zero


def sys_pause(kernel: Kernel, task: Task, *_: int) -> int:
    kernel.sched.sleep(task, "a signal")
    return 0
