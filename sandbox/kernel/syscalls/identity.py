"""Who runs a task, and where it may run: groups and CPU affinity.  Everybody is root and belongs to no other group."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, ESRCH, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.task import Task

LONG = 4


def sys_getgroups32(kernel: Kernel, task: Task, size: int, groups: int, *_: int) -> int:
    if size >> 31:
        raise KernelError(EINVAL)
    return 0


sys_getgroups = sys_getgroups32


def sys_sched_getaffinity(kernel: Kernel, task: Task, pid: int, size: int, mask: int, *_: int) -> int:
    """Every CPU of the machine; the result is the bytes that were stored."""
    if size % LONG or size * 8 < len(kernel.cpus):
        raise KernelError(EINVAL)
    if pid and pid not in kernel.tasks:
        raise KernelError(ESRCH)
    kernel.uaccess.put_user(task, mask, ((1 << len(kernel.cpus)) - 1).to_bytes(LONG, "little"))
    return LONG
