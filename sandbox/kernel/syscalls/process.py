"""fork, exec, exit, wait, identity, kill."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EACCES, EAGAIN, EINVAL, EPERM, ESRCH, KernelError
from sandbox.kernel.abi.flags import (
    CLONE_DETACHED,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_SETTLS,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    O_NONBLOCK,
)
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import NSIG
from sandbox.kernel.abi.structs import pack_rusage
from sandbox.kernel.abi.userdesc import UserDesc
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process.arguments import user_strings
from sandbox.kernel.process.exec import do_execve
from sandbox.kernel.process.exit import WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WUNTRACED, do_wait
from sandbox.kernel.process.fork import CloneArgs, do_fork, set_tls, wait_for_vfork
from sandbox.kernel.process.ptrace import report_exec
from sandbox.kernel.syscalls.pidfd import install_pidfd, process_of
from sandbox.kernel.task.sigqueue import AltStack
from sandbox.kernel.task.task import GDT_ENTRY_TLS_ENTRIES, GDT_ENTRY_TLS_MIN, Task, TaskExit

WAIT_OPTIONS = 0xE000000B
"""WNOHANG, WUNTRACED, WCONTINUED, and Linux's own three at the top."""
EXIT_SIGNAL = 0xFF
NAMESPACES = 0x7E000000
"""CLONE_NEWCGROUP to CLONE_NEWNET."""
VFORK = CloneArgs(CLONE_VM | CLONE_VFORK)
P_ALL, P_PID, P_PGID, P_PIDFD = 0, 1, 2, 3


def sys_exit(kernel: Kernel, task: Task, status: int, *_: int) -> int:
    raise TaskExit((status & 0xFF) << 8)


def sys_exit_group(kernel: Kernel, task: Task, status: int, *_: int) -> int:
    raise TaskExit(kernel.signals.group_exit(task, (status & 0xFF) << 8))


def sys_fork(kernel: Kernel, task: Task, *_: int) -> int:
    return do_fork(kernel, task).pid


def sys_vfork(kernel: Kernel, task: Task, *_: int) -> int:
    child = do_fork(kernel, task, VFORK)
    wait_for_vfork(kernel, task, child)
    return child.pid


def sys_clone(
    kernel: Kernel, task: Task, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int, *_: int
) -> int:
    _check_clone(flags)
    desc = None
    if flags & CLONE_SETTLS:
        desc = UserDesc.unpack(kernel.uaccess.get_user(task, tls, UserDesc.SIZE))
        if not GDT_ENTRY_TLS_MIN <= desc.entry_number < GDT_ENTRY_TLS_MIN + GDT_ENTRY_TLS_ENTRIES or not desc.fits_tls:
            raise KernelError(EINVAL)
    number = flags & EXIT_SIGNAL
    sent = number if number <= NSIG and not flags & CLONE_THREAD else 0
    child = do_fork(kernel, task, CloneArgs(flags, sent, stack, parent_tid, child_tid, desc))
    if flags & CLONE_PIDFD:
        kernel.uaccess.put_user(task, parent_tid, install_pidfd(task, child).to_bytes(4, "little"))
    if flags & CLONE_VFORK:
        wait_for_vfork(kernel, task, child)
    return child.pid


def _check_clone(flags: int) -> None:
    """Combinations that copy_process refuses, and namespaces, of which there is one.  Raises KernelError(EINVAL)."""
    if (
        (flags & CLONE_THREAD and not flags & CLONE_SIGHAND)
        or (flags & CLONE_SIGHAND and not flags & CLONE_VM)
        or flags & (CLONE_NEWNS | CLONE_FS) == CLONE_NEWNS | CLONE_FS
        or (flags & CLONE_PIDFD and flags & (CLONE_DETACHED | CLONE_THREAD | CLONE_PARENT_SETTID))
        or flags & NAMESPACES
    ):
        raise KernelError(EINVAL)


def sys_execve(kernel: Kernel, task: Task, path: int, argv: int, envp: int, *_: int) -> int:
    name = kernel.uaccess.get_string(task, path)
    arguments, environment = user_strings(kernel, task, argv), user_strings(kernel, task, envp)
    inode, found = kernel.files.open_exec(task, name)
    before = task.pid
    do_execve(kernel, task, inode, found, arguments, environment, name)
    task.files.close_on_exec()
    task.signals.hand, task.signals.altstack = task.signals.hand.exec(), AltStack()
    report_exec(kernel, task, before)
    return 0


def sys_waitpid(kernel: Kernel, task: Task, pid: int, status: int, options: int, *_: int) -> int:
    return sys_wait4(kernel, task, pid, status, options, 0)


def sys_wait4(kernel: Kernel, task: Task, pid: int, status: int, options: int, usage: int, *_: int) -> int:
    if options & ~WAIT_OPTIONS:
        raise KernelError(EINVAL)
    if pid == 1 << 31:
        raise KernelError(ESRCH)
    signed = pid - (1 << 32) if pid >> 31 else pid
    found = do_wait(kernel, task, signed, options | WEXITED)
    if found is None:
        return 0
    if status:
        kernel.uaccess.put_user(task, status, found.status.to_bytes(4, "little"))
    if usage:
        kernel.uaccess.put_user(task, usage, pack_rusage(found.utime, found.stime))
    return found.pid


def sys_waitid(
    kernel: Kernel, task: Task, kind: int, number: int, pointer: int, options: int, usage: int, *_: int
) -> int:
    if options & ~(WAIT_OPTIONS | WEXITED | WNOWAIT) or not options & (WEXITED | WUNTRACED | WCONTINUED):
        raise KernelError(EINVAL)
    signed = number - (1 << 32) if number >> 31 else number
    if kind == P_PIDFD:
        kind, signed, options, impatient = _of_pidfd(task, number, options)
    else:
        impatient = False
    if kind not in (P_ALL, P_PID, P_PGID) or (kind != P_ALL and signed <= (0 if kind == P_PID else -1)):
        raise KernelError(EINVAL)
    wanted = -1 if kind == P_ALL else signed if kind == P_PID else -signed
    found = do_wait(kernel, task, wanted, options)
    if found is None and impatient:
        raise KernelError(EAGAIN)
    if pointer:
        info = found.info() if found is not None else SigInfo(0, 0)
        kernel.uaccess.put_user(task, pointer, info.pack())
    if usage and found is not None:
        kernel.uaccess.put_user(task, usage, pack_rusage(found.utime, found.stime))
    return 0


def _of_pidfd(task: Task, fd: int, options: int) -> tuple[int, int, int, bool]:
    """P_PIDFD as P_PID: the number, the options, and whether a process that goes on gives EAGAIN (PIDFD_NONBLOCK)."""
    process, flags = process_of(task, fd)
    nonblock = bool(flags & O_NONBLOCK) and not options & WNOHANG
    return P_PID, process.pid, options | (WNOHANG if nonblock else 0), nonblock


def sys_getpid(kernel: Kernel, task: Task, *_: int) -> int:
    return task.tgid


def sys_gettid(kernel: Kernel, task: Task, *_: int) -> int:
    return task.pid


def sys_getppid(kernel: Kernel, task: Task, *_: int) -> int:
    return task.parent.tgid if task.parent is not None else 0


def sys_getpgrp(kernel: Kernel, task: Task, *_: int) -> int:
    return task.pgid


def sys_getpgid(kernel: Kernel, task: Task, pid: int, *_: int) -> int:
    return find_task(kernel, task, pid).pgid


def sys_setpgid(kernel: Kernel, task: Task, pid: int, pgid: int, *_: int) -> int:
    if pgid >> 31:
        raise KernelError(EINVAL)
    task = task.group.leader
    target = find_task(kernel, task, pid)
    if not target.is_leader:
        raise KernelError(EINVAL)
    if target is not task:
        if target.parent is None or target.parent.group is not task.group:
            raise KernelError(ESRCH)
        if target.sid != task.sid:
            raise KernelError(EPERM)
        if target.has_execed:
            raise KernelError(EACCES)
    if target.sid == target.pid:
        raise KernelError(EPERM)
    pgid = pgid or target.pid
    if pgid != target.pid and not any(each.pgid == pgid and each.sid == task.sid for each in kernel.tasks.values()):
        raise KernelError(EPERM)
    target.group.pgid = pgid
    return 0


def sys_setsid(kernel: Kernel, task: Task, *_: int) -> int:
    if any(each.pgid == task.tgid for each in kernel.tasks.values()):
        raise KernelError(EPERM)
    task.set_group(task.tgid, task.tgid)
    return task.tgid


def sys_getsid(kernel: Kernel, task: Task, pid: int, *_: int) -> int:
    return find_task(kernel, task, pid).sid


def find_task(kernel: Kernel, task: Task, pid: int) -> Task:
    """0 is the caller.  Raises KernelError(ESRCH)."""
    found = task if not pid else kernel.tasks.get(pid)
    if found is None:
        raise KernelError(ESRCH)
    return found


def sys_set_thread_area(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    """Entry -1 takes a free one and stores its number, 6 to 8, back; registers with that entry follow it."""
    desc = UserDesc.unpack(kernel.uaccess.get_user(task, pointer, UserDesc.SIZE))
    if not desc.fits_tls:
        raise KernelError(EINVAL)
    if desc.entry_number == -1:
        free = [slot for slot, descriptor in enumerate(task.tls) if not descriptor]
        if not free:
            raise KernelError(ESRCH)
        desc.entry_number = free[0] + GDT_ENTRY_TLS_MIN
        kernel.uaccess.put_user(task, pointer, desc.entry_number.to_bytes(4, "little"))
    set_tls(task, desc)
    kernel.desc.load_tls(task.cpu, task)
    kernel.desc.refresh(task, desc.entry_number)
    return 0


def sys_get_thread_area(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    number = int.from_bytes(kernel.uaccess.get_user(task, pointer, 4), "little", signed=True)
    slot = number - GDT_ENTRY_TLS_MIN
    if not 0 <= slot < GDT_ENTRY_TLS_ENTRIES:
        raise KernelError(EINVAL)
    kernel.uaccess.put_user(task, pointer, UserDesc.of_descriptor(number, task.tls[slot]).pack())
    return 0


def sys_set_tid_address(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    task.clear_child_tid = pointer
    return task.pid


def sys_sched_yield(kernel: Kernel, task: Task, *_: int) -> int:
    kernel.sched.yield_cpu(task)
    return 0


def sys_getpriority(kernel: Kernel, task: Task, which: int, who: int, *_: int) -> int:
    """20 less the nice value: the scheduler keeps it and gives every task the same slices."""
    return 20 - min(each.nice for each in _whom(kernel, task, which, who))


def sys_setpriority(kernel: Kernel, task: Task, which: int, who: int, nice: int, *_: int) -> int:
    signed = nice - (1 << 32) if nice >> 31 else nice
    wanted = max(-20, min(19, signed))
    failed = 0
    for each in _whom(kernel, task, which, who):
        if not task.cred.may_renice(each.cred):
            failed = EPERM
        elif wanted < each.nice and not task.cred.capable:
            failed = EACCES
        else:
            each.nice = wanted
    if failed:
        raise KernelError(failed)
    return 0


def sys_nice(kernel: Kernel, task: Task, increment: int, *_: int) -> int:
    signed = increment - (1 << 32) if increment >> 31 else increment
    if signed < 0 and not task.cred.capable:
        raise KernelError(EPERM)
    task.nice = max(-20, min(19, task.nice + max(-40, min(40, signed))))
    return 0


def _whom(kernel: Kernel, task: Task, which: int, who: int) -> list[Task]:
    """PRIO_PROCESS, PRIO_PGRP or PRIO_USER.  Raises KernelError: EINVAL, ESRCH."""
    if which > 2:
        raise KernelError(EINVAL)
    if which == 2:
        uid = who or task.cred.uid.real
        found = [each for each in kernel.tasks.values() if each.cred.uid.real == uid]
    elif which == 1:
        found = [each for each in kernel.tasks.values() if each.pgid == (who or task.pgid)]
    else:
        found = [find_task(kernel, task, who)]
    if not found:
        raise KernelError(ESRCH)
    return found
