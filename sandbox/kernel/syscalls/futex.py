"""futex(2): waiting and waking.

Threads are not there, so the operations that serve them alone (requeueing, priority inheritance, FUTEX_WAKE_OP) are
refused with ENOSYS.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EFAULT, EINVAL, ENOSYS, KernelError
from sandbox.kernel.abi.flags import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    FUTEX_CLOCK_REALTIME,
    FUTEX_PRIVATE_FLAG,
    FUTEX_WAIT,
    FUTEX_WAKE,
)
from sandbox.kernel.abi.structs import unpack_timespec, unpack_timespec64
from sandbox.kernel.base.time import BLOCK_NANOSECONDS
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.misc import clock_nanoseconds
from sandbox.kernel.task.futex import ANY
from sandbox.kernel.task.task import Task

FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET = 9, 10
WAITS, WITH_BITS = (FUTEX_WAIT, FUTEX_WAIT_BITSET), (FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET)
WORD = 4


def sys_futex(
    kernel: Kernel, task: Task, address: int, what: int, value: int, timeout: int, _second: int, bits: int
) -> int:
    operation = what & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
    wanted = unpack_timespec(kernel.uaccess.get_user(task, timeout, 8)) if timeout and operation in WAITS else None
    return _futex(kernel, task, address, what, value, wanted, bits)


def sys_futex_time64(
    kernel: Kernel, task: Task, address: int, what: int, value: int, timeout: int, _second: int, bits: int
) -> int:
    operation = what & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
    wanted = unpack_timespec64(kernel.uaccess.get_user(task, timeout, 16)) if timeout and operation in WAITS else None
    return _futex(kernel, task, address, what, value, wanted, bits)


def _futex(kernel: Kernel, task: Task, address: int, what: int, value: int, wanted: int | None, bits: int) -> int:
    """``wanted`` is in nanoseconds: for FUTEX_WAIT_BITSET a moment of a clock, for FUTEX_WAIT a span."""
    operation = what & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
    if operation not in (*WAITS, FUTEX_WAKE, FUTEX_WAKE_BITSET):
        raise KernelError(ENOSYS)
    if what & FUTEX_CLOCK_REALTIME and operation != FUTEX_WAIT_BITSET:
        raise KernelError(ENOSYS)
    if operation not in WITH_BITS:
        bits = ANY
    if not bits or address % WORD:
        raise KernelError(EINVAL)
    if not kernel.uaccess.access_ok(address, WORD):
        raise KernelError(EFAULT)
    key = kernel.futexes.key(task, address, bool(what & FUTEX_PRIVATE_FLAG))
    if operation not in WAITS:
        return kernel.futexes.wake(key, value - (1 << 32) if value >> 31 else value, bits)
    until = None
    if wanted is not None:
        if operation == FUTEX_WAIT_BITSET:
            clock = CLOCK_REALTIME if what & FUTEX_CLOCK_REALTIME else CLOCK_MONOTONIC
            wanted -= clock_nanoseconds(kernel, clock)
        until = kernel.clock.now + wanted // BLOCK_NANOSECONDS
    return kernel.futexes.wait(task, key, address, value, bits, until)
