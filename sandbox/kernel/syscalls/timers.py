"""alarm and the interval timers."""

from __future__ import annotations

from struct import pack, unpack
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.mm.uaccess import get_user, put_user
from sandbox.kernel.task.itimer import ITIMER_PROF, ITIMER_REAL, get_timer, set_timer
from sandbox.kernel.task.task import Task

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

SECOND, MICROSECOND = 10**9, 1000
ITIMERVAL_BYTES = 16


def sys_alarm(kernel: Kernel, task: Task, seconds: int, *_: int) -> int:
    """What was left of the last one, rounded to whole seconds and never to none."""
    left = get_timer(kernel, task, ITIMER_REAL)[0]
    set_timer(kernel, task, ITIMER_REAL, min(seconds, 0x7FFFFFFF) * SECOND, 0)
    return max(1, (left + SECOND // 2) // SECOND) if left else 0


def _pack(left: int, period: int) -> bytes:
    words = (divmod(-(-each // MICROSECOND), 10**6) for each in (period, left))
    return pack("<4i", *(word for pair in words for word in pair))


def sys_getitimer(kernel: Kernel, task: Task, which: int, value: int, *_: int) -> int:
    if which > ITIMER_PROF:
        raise KernelError(EINVAL)
    put_user(kernel, task, value, _pack(*get_timer(kernel, task, which)))
    return 0


def sys_setitimer(kernel: Kernel, task: Task, which: int, value: int, old: int, *_: int) -> int:
    """A NULL value clears the timer, as Linux still has it."""
    data = get_user(kernel, task, value, ITIMERVAL_BYTES) if value else bytes(ITIMERVAL_BYTES)
    fields = unpack("<4i", data)
    if which > ITIMER_PROF or min(fields) < 0 or fields[1] >= 10**6 or fields[3] >= 10**6:
        raise KernelError(EINVAL)
    before = get_timer(kernel, task, which)
    period, first = (fields[at] * SECOND + fields[at + 1] * MICROSECOND for at in (0, 2))
    set_timer(kernel, task, which, first, period)
    if old:
        put_user(kernel, task, old, _pack(*before))
    return 0
