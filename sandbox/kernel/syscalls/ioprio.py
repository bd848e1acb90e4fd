"""ioprio_get and ioprio_set: kept, inherited and shown; no device here has a queue that would look."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, EPERM, ESRCH, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.process import find_task
from sandbox.kernel.task.task import Task

CLASS_SHIFT, LEVELS = 13, 7
CLASS_NONE, CLASS_RT, CLASS_IDLE = 0, 1, 3
WHO_PROCESS, WHO_PGRP, WHO_USER = 1, 2, 3


def _whom(kernel: Kernel, task: Task, which: int, who: int) -> list[Task]:
    """Raises KernelError: EINVAL, ESRCH."""
    if which == WHO_PROCESS:
        return [find_task(kernel, task, who)]
    everybody = [each for each in kernel.tasks.values() if each.runs]
    if which == WHO_PGRP:
        found = [each for each in everybody if each.pgid == (who or task.pgid)]
    elif which == WHO_USER:
        found = [each for each in everybody if each.cred.uid.real == (who or task.cred.uid.real)]
    else:
        raise KernelError(EINVAL)
    if not found:
        raise KernelError(ESRCH)
    return found


def sys_ioprio_set(kernel: Kernel, task: Task, which: int, who: int, priority: int, *_: int) -> int:
    """A class above three bits of level; between them are hints, which any value may be."""
    kind = priority >> CLASS_SHIFT
    if kind > CLASS_IDLE or (kind == CLASS_NONE and priority & LEVELS):
        raise KernelError(EINVAL)
    if kind == CLASS_RT and not task.cred.capable:
        raise KernelError(EPERM)
    for each in _whom(kernel, task, which, who):
        if not task.cred.may_renice(each.cred):
            raise KernelError(EPERM)
        each.ioprio = priority
    return 0


def sys_ioprio_get(kernel: Kernel, task: Task, which: int, who: int, *_: int) -> int:
    """Of several tasks the best: the lowest number, where none at all counts for the middle of best effort."""
    return min((each.ioprio for each in _whom(kernel, task, which, who)), key=lambda each: each or 2 << CLASS_SHIFT | 4)
