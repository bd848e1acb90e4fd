"""signalfd and signalfd4: make a descriptor for signals, or give one another mask."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.abi.flags import O_CLOEXEC, O_NONBLOCK, O_RDWR
from sandbox.kernel.abi.signals import UNBLOCKABLE
from sandbox.kernel.ipc.signalfd import SignalFd
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.syscalls.signals import SIGSET_BYTES
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File

NEW = 0xFFFFFFFF


def sys_signalfd4(kernel: Kernel, task: Task, fd: int, mask: int, size: int, flags: int, *_: int) -> int:
    refuse_other(flags, O_CLOEXEC | O_NONBLOCK)
    if size != SIGSET_BYTES:
        raise KernelError(EINVAL)
    wanted = int.from_bytes(kernel.uaccess.get_user(task, mask, size), "little") & ~UNBLOCKABLE
    if fd == NEW:
        file = File(SignalFd(wanted, kernel.uaccess, kernel.sched), O_RDWR | flags & O_NONBLOCK)
        return task.files.install(file, close_on_exec=bool(flags & O_CLOEXEC))
    inode = task.files.get(fd).inode
    if not isinstance(inode, SignalFd):
        raise KernelError(EINVAL)
    inode.mask = wanted
    if task.group.posted is not None:
        kernel.sched.wake_up(task.group.posted)
    return fd


def sys_signalfd(kernel: Kernel, task: Task, fd: int, mask: int, size: int, *_: int) -> int:
    return sys_signalfd4(kernel, task, fd, mask, size, 0)
