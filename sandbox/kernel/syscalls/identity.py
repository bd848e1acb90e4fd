"""Where a task may run: CPU affinity."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, ESRCH, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.task import Task

LONG = 4


def sys_sched_getaffinity(kernel: Kernel, task: Task, pid: int, size: int, mask: int, *_: int) -> int:
    """Every CPU of the machine; the result is the bytes that were stored."""
    if size % LONG or size * 8 < len(kernel.cpus):
        raise KernelError(EINVAL)
    if pid and pid not in kernel.tasks:
        raise KernelError(ESRCH)
    kernel.uaccess.put_user(task, mask, ((1 << len(kernel.cpus)) - 1).to_bytes(LONG, "little"))
    return LONG
