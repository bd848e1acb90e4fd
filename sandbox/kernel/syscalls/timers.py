"""alarm and the interval timers."""

from __future__ import annotations

from struct import pack, unpack

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.itimer import ITIMER_PROF, ITIMER_REAL
from sandbox.kernel.task.task import Task

SECOND, MICROSECOND = 10**9, 1000
ITIMERVAL_BYTES = 16


def sys_alarm(kernel: Kernel, task: Task, seconds: int, *_: int) -> int:
    """What was left of the last one, rounded to whole seconds and never to none."""
    left = kernel.timers.get_timer(task, ITIMER_REAL)[0]
    kernel.timers.set_timer(task, ITIMER_REAL, min(seconds, 0x7FFFFFFF) * SECOND, 0)
    return max(1, (left + SECOND // 2) // SECOND) if left else 0


def _pack(left: int, period: int) -> bytes:
    words = (divmod(-(-each // MICROSECOND), 10**6) for each in (period, left))
    return pack("<4i", *(word for pair in words for word in pair))


def sys_getitimer(kernel: Kernel, task: Task, which: int, value: int, *_: int) -> int:
    if which > ITIMER_PROF:
        raise KernelError(EINVAL)
    kernel.uaccess.put_user(task, value, _pack(*kernel.timers.get_timer(task, which)))
    return 0


def sys_setitimer(kernel: Kernel, task: Task, which: int, value: int, old: int, *_: int) -> int:
    """A NULL value clears the timer, as Linux still has it."""
    data = kernel.uaccess.get_user(task, value, ITIMERVAL_BYTES) if value else bytes(ITIMERVAL_BYTES)
    fields = unpack("<4i", data)
    if which > ITIMER_PROF or min(fields) < 0 or fields[1] >= 10**6 or fields[3] >= 10**6:
        raise KernelError(EINVAL)
    before = kernel.timers.get_timer(task, which)
    period, first = (fields[at] * SECOND + fields[at + 1] * MICROSECOND for at in (0, 2))
    kernel.timers.set_timer(task, which, first, period)
    if old:
        kernel.uaccess.put_user(task, old, _pack(*before))
    return 0
