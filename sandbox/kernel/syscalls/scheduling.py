"""Scheduling policies, CPUs and barriers as programs ask for them.

The policy is kept, inherited and shown.  The scheduler gives every task the same slices whatever it is.
"""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EINVAL, EPERM, KernelError
from sandbox.kernel.abi.structs import pack_timespec, pack_timespec64
from sandbox.kernel.base.time import BLOCK_NANOSECONDS
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.syscalls.process import find_task
from sandbox.kernel.task.task import SCHED_DEADLINE, SCHED_RESET_ON_FORK, Task

SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE = 0, 1, 2, 3, 5
PRIORITIES = {
    SCHED_OTHER: (0, 0), SCHED_FIFO: (1, 99), SCHED_RR: (1, 99), SCHED_BATCH: (0, 0), SCHED_IDLE: (0, 0),
    SCHED_DEADLINE: (0, 0),
}  # fmt: skip
RR_TIMESLICE = 100_000_000
"""Nanoseconds."""
MEMBARRIER_QUERY = 0
PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED = 8, 16
MEMBARRIERS = (1, 2, 4, PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED)
"""GLOBAL, GLOBAL_EXPEDITED and its registration before those."""
NEGATIVE = 1 << 31
LONG = 4


def _find(kernel: Kernel, task: Task, pid: int) -> Task:
    """Raises KernelError: EINVAL for a negative pid, ESRCH."""
    if pid & NEGATIVE:
        raise KernelError(EINVAL)
    return find_task(kernel, task, pid)


def sys_sched_getscheduler(kernel: Kernel, task: Task, pid: int, *_: int) -> int:
    return _find(kernel, task, pid).policy


def sys_sched_getparam(kernel: Kernel, task: Task, pid: int, param: int, *_: int) -> int:
    if not param:
        raise KernelError(EINVAL)
    kernel.uaccess.put_user(task, param, struct.pack("<i", _find(kernel, task, pid).rt_priority))
    return 0


def _set(kernel: Kernel, task: Task, pid: int, policy: int | None, param: int) -> int:
    if not param or pid & NEGATIVE:
        raise KernelError(EINVAL)
    priority: int = struct.unpack("<i", kernel.uaccess.get_user(task, param, 4))[0]
    found = _find(kernel, task, pid)
    wanted = found.policy if policy is None else policy
    least, most = PRIORITIES.get(wanted & ~SCHED_RESET_ON_FORK, (1, 0))
    if wanted & ~SCHED_RESET_ON_FORK == SCHED_DEADLINE or not least <= priority <= most:
        raise KernelError(EINVAL)
    found.policy, found.rt_priority = wanted, priority
    return 0


def sys_sched_setscheduler(kernel: Kernel, task: Task, pid: int, policy: int, param: int, *_: int) -> int:
    if policy & NEGATIVE:
        raise KernelError(EINVAL)
    return _set(kernel, task, pid, policy, param)


def sys_sched_setparam(kernel: Kernel, task: Task, pid: int, param: int, *_: int) -> int:
    return _set(kernel, task, pid, None, param)


def _priorities(policy: int) -> tuple[int, int]:
    if policy not in PRIORITIES:
        raise KernelError(EINVAL)
    return PRIORITIES[policy]


def sys_sched_get_priority_min(kernel: Kernel, task: Task, policy: int, *_: int) -> int:
    return _priorities(policy)[0]


def sys_sched_get_priority_max(kernel: Kernel, task: Task, policy: int, *_: int) -> int:
    return _priorities(policy)[1]


def _interval(kernel: Kernel, task: Task, pid: int) -> int:
    """Nanoseconds of a slice; 0 is one without end."""
    policy = _find(kernel, task, pid).policy & ~SCHED_RESET_ON_FORK
    if policy == SCHED_FIFO:
        return 0
    return RR_TIMESLICE if policy == SCHED_RR else kernel.config.quantum * BLOCK_NANOSECONDS


def sys_sched_rr_get_interval(kernel: Kernel, task: Task, pid: int, interval: int, *_: int) -> int:
    kernel.uaccess.put_user(task, interval, pack_timespec(_interval(kernel, task, pid)))
    return 0


def sys_sched_rr_get_interval_time64(kernel: Kernel, task: Task, pid: int, interval: int, *_: int) -> int:
    kernel.uaccess.put_user(task, interval, pack_timespec64(_interval(kernel, task, pid)))
    return 0


def sys_sched_setaffinity(kernel: Kernel, task: Task, pid: int, size: int, mask: int, *_: int) -> int:
    """Kept for the task and its children; where it may not be any more it leaves before it runs on in ring 3."""
    wanted = int.from_bytes(kernel.uaccess.get_user(task, mask, min(size, 128)), "little") if size else 0
    found = find_task(kernel, task, pid)
    if not wanted & (1 << len(kernel.cpus)) - 1:
        raise KernelError(EINVAL)
    found.cpus_allowed = wanted
    kernel.sched.queues.allowed_elsewhere(found)
    return 0


def sys_sched_getaffinity(kernel: Kernel, task: Task, pid: int, size: int, mask: int, *_: int) -> int:
    """The CPUs of the machine that the task may use; the result is the bytes that were stored."""
    if size % LONG or size * 8 < len(kernel.cpus):
        raise KernelError(EINVAL)
    allowed = find_task(kernel, task, pid).cpus_allowed & (1 << len(kernel.cpus)) - 1
    kernel.uaccess.put_user(task, mask, allowed.to_bytes(LONG, "little"))
    return LONG


def sys_getcpu(kernel: Kernel, task: Task, cpu: int, node: int, *_: int) -> int:
    for pointer, value in ((cpu, task.cpu.index), (node, 0)):
        if pointer:
            kernel.uaccess.put_user(task, pointer, value.to_bytes(4, "little"))
    return 0


def sys_membarrier(kernel: Kernel, task: Task, command: int, flags: int, *_: int) -> int:
    """Every switch between CPUs of the machine is a barrier already, so only the bookkeeping is left."""
    refuse_other(flags, 0)
    if command == MEMBARRIER_QUERY:
        return sum(MEMBARRIERS)
    if command not in MEMBARRIERS:
        raise KernelError(EINVAL)
    assert task.mm is not None
    if command == REGISTER_PRIVATE_EXPEDITED:
        task.mm.expedited = True
    if command == PRIVATE_EXPEDITED and not task.mm.expedited:
        raise KernelError(EPERM)
    return 0
