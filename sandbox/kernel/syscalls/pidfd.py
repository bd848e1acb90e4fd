"""Calls that take a process by a descriptor."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EBADF, EINVAL, ENOENT, EPERM, ESRCH, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, O_RDWR
from sandbox.kernel.abi.siginfo import SIGINFO_BYTES, SigInfo
from sandbox.kernel.abi.signals import NSIG, SI_TKILL, SI_USER
from sandbox.kernel.ipc.pidfd import PidFd
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process.ptrace import may_access
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.syscalls.signals import may_signal
from sandbox.kernel.task.task import State, Task
from sandbox.kernel.vfs.file import File
from sandbox.records import replace

THREAD, THREAD_GROUP, PROCESS_GROUP = 1, 2, 4
"""Flags of pidfd_send_signal since Linux 6.9."""
NEGATIVE = 1 << 31


def install_pidfd(task: Task, process: Task, flags: int = 0) -> int:
    """A new descriptor for a process, always close-on-exec."""
    return task.files.install(File(PidFd(process), O_RDWR | flags), close_on_exec=True)


def process_of(task: Task, fd: int) -> tuple[Task, int]:
    """The process behind a descriptor, and the descriptor's O_* flags.  Raises KernelError(EBADF)."""
    file = task.files.get(fd)
    if not isinstance(file.inode, PidFd):
        raise KernelError(EBADF)
    return file.inode.process, file.flags


def _living(task: Task, fd: int) -> Task:
    found = process_of(task, fd)[0]
    if found.state is State.DEAD:
        raise KernelError(ESRCH)
    return found


def sys_pidfd_open(kernel: Kernel, task: Task, pid: int, flags: int, *_: int) -> int:
    refuse_other(flags, O_NONBLOCK)
    if not pid or pid & NEGATIVE:
        raise KernelError(EINVAL)
    process = kernel.tasks.get(pid)
    if process is None or process.state is State.DEAD:
        raise KernelError(ESRCH)
    if not process.is_leader:
        raise KernelError(ENOENT)
    return install_pidfd(task, process, flags)


def sys_pidfd_send_signal(kernel: Kernel, task: Task, fd: int, number: int, pointer: int, flags: int, *_: int) -> int:
    if flags not in (0, THREAD, THREAD_GROUP, PROCESS_GROUP):
        raise KernelError(EINVAL)
    process = process_of(task, fd)[0]
    info = SigInfo.sent(number, SI_USER, task.tgid, task.cred.uid.real)
    if pointer:
        info = SigInfo.unpack(kernel.uaccess.get_user(task, pointer, SIGINFO_BYTES))
        if info.signo != number & 0xFFFFFFFF:
            raise KernelError(EINVAL)
        if process is not task.group.leader and (info.code >= 0 or info.code == SI_TKILL):
            raise KernelError(EPERM)
    if process.state is State.DEAD:
        raise KernelError(ESRCH)
    if number > NSIG:
        raise KernelError(EINVAL)
    group = [each for each in kernel.tasks.values() if each.is_leader and each.pgid == process.pid]
    targets = group if flags == PROCESS_GROUP else [process]
    allowed = [each for each in targets if may_signal(task, each, number)]
    if not allowed:
        raise KernelError(EPERM if targets else ESRCH)
    for each in allowed:
        kernel.signals.send_signal(each, number, replace(info) if number else None)
    return 0


def sys_pidfd_getfd(kernel: Kernel, task: Task, fd: int, target: int, flags: int, *_: int) -> int:
    """The same open file that another process has."""
    refuse_other(flags, 0)
    process = _living(task, fd)
    if not may_access(task, process):
        raise KernelError(EPERM)
    if process.state is State.ZOMBIE:
        raise KernelError(ESRCH)
    return task.files.install(process.files.get(target), close_on_exec=True)
