"""sched_setattr and sched_getattr: policy, nice value and deadlines in one structure (sched_setattr(2))."""

from __future__ import annotations

import struct
from typing import NamedTuple

from sandbox.kernel.abi.errno import E2BIG, EFAULT, EINVAL, EOPNOTSUPP, EPERM, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.process import find_task
from sandbox.kernel.syscalls.scheduling import PRIORITIES, SCHED_BATCH, SCHED_OTHER
from sandbox.kernel.task.task import SCHED_DEADLINE, SCHED_RESET_ON_FORK, Task
from sandbox.x86.paging import PAGE_SIZE

FORM = struct.Struct("<2IQiI3Q")
FIRST_BYTES, BYTES = FORM.size, FORM.size + 8
"""``struct sched_attr`` without and with the limits of utilization, which this kernel does not have."""
RESET_ON_FORK, RECLAIM, DL_OVERRUN, KEEP_POLICY, KEEP_PARAMS, UTIL_CLAMPS = 1, 2, 4, 8, 0x10, 0x60
LEAST_RUNTIME = 1024
"""Nanoseconds."""
NEGATIVE = 1 << 31


class SchedAttr(NamedTuple):
    """As it lies in memory; the last three are nanoseconds."""

    size: int
    policy: int
    flags: int
    nice: int
    priority: int
    runtime: int
    deadline: int
    period: int


def _get_attr(kernel: Kernel, task: Task, pointer: int) -> SchedAttr:
    """Raises KernelError: EFAULT, E2BIG for a size that is none, where the right one is stored, or for more than zeros
    behind what is known."""
    size = int.from_bytes(kernel.uaccess.get_user(task, pointer, 4), "little") or FIRST_BYTES
    data = kernel.uaccess.get_user(task, pointer, size) if FIRST_BYTES <= size <= PAGE_SIZE else b""
    if not data or any(data[BYTES:]):
        kernel.uaccess.put_user(task, pointer, BYTES.to_bytes(4, "little"))
        raise KernelError(E2BIG)
    return SchedAttr(*FORM.unpack(data[:FIRST_BYTES]))


def _check(wanted: SchedAttr) -> None:
    """Raises KernelError: EINVAL, EOPNOTSUPP."""
    known = RESET_ON_FORK | RECLAIM | DL_OVERRUN | KEEP_POLICY | KEEP_PARAMS
    if wanted.flags & UTIL_CLAMPS:
        raise KernelError(EOPNOTSUPP)
    least, most = PRIORITIES.get(wanted.policy, (1, 0))
    if wanted.flags & ~known or not least <= wanted.priority <= most:
        raise KernelError(EINVAL)
    if wanted.policy == SCHED_DEADLINE:
        ordered = LEAST_RUNTIME <= wanted.runtime <= wanted.deadline <= (wanted.period or wanted.deadline)
        if not ordered or (wanted.deadline | wanted.period) >> 63:
            raise KernelError(EINVAL)


def sys_sched_setattr(kernel: Kernel, task: Task, pid: int, pointer: int, flags: int, *_: int) -> int:
    if not pointer or pid & NEGATIVE or flags:
        raise KernelError(EINVAL)
    wanted = _get_attr(kernel, task, pointer)
    if wanted.policy & NEGATIVE:
        raise KernelError(EINVAL)
    found = find_task(kernel, task, pid)
    present = found.policy & ~SCHED_RESET_ON_FORK
    if wanted.flags & KEEP_POLICY:
        reset = RESET_ON_FORK if found.policy & SCHED_RESET_ON_FORK else 0
        wanted = wanted._replace(policy=present, flags=wanted.flags & ~RESET_ON_FORK | reset)
    if wanted.flags & KEEP_PARAMS:
        wanted = _with_params_of(found, wanted)
    _check(wanted)
    if not task.cred.may_renice(found.cred):
        raise KernelError(EPERM)
    _apply(found, wanted)
    return 0


def _with_params_of(task: Task, wanted: SchedAttr) -> SchedAttr:
    runtime, deadline, period = task.deadline
    return wanted._replace(nice=task.nice, priority=task.rt_priority, runtime=runtime, deadline=deadline, period=period)


def _apply(task: Task, wanted: SchedAttr) -> None:
    reset = SCHED_RESET_ON_FORK if wanted.flags & RESET_ON_FORK else 0
    task.policy, task.rt_priority = wanted.policy | reset, wanted.priority
    if wanted.policy in (SCHED_OTHER, SCHED_BATCH):
        task.nice = max(-20, min(19, wanted.nice))
    if wanted.policy == SCHED_DEADLINE:
        task.deadline = wanted.runtime, wanted.deadline, wanted.period or wanted.deadline


def sys_sched_getattr(kernel: Kernel, task: Task, pid: int, pointer: int, size: int, flags: int, *_: int) -> int:
    if not pointer or pid & NEGATIVE or not FIRST_BYTES <= size <= PAGE_SIZE or flags:
        raise KernelError(EINVAL)
    found = find_task(kernel, task, pid)
    if not kernel.uaccess.access_ok(pointer, size):
        raise KernelError(EFAULT)
    policy = found.policy & ~SCHED_RESET_ON_FORK
    times = found.deadline if policy == SCHED_DEADLINE else (0, 0, 0)
    nice = found.nice if not found.rt_priority and policy != SCHED_DEADLINE else 0
    reset = RESET_ON_FORK if found.policy & SCHED_RESET_ON_FORK else 0
    data = FORM.pack(min(size, BYTES), policy, reset, nice, found.rt_priority, *times)
    kernel.uaccess.put_user(task, pointer, data.ljust(min(size, BYTES), b"\0"))
    return 0
