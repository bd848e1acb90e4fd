"""timer_create and its kin, with 32-bit times and 64-bit ones."""

from __future__ import annotations

from struct import unpack_from

from sandbox.kernel.abi.errno import EAGAIN, EINVAL, EOPNOTSUPP, KernelError
from sandbox.kernel.abi.signals import NSIG, SIGALRM
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.misc import (
    CLOCK_PROCESS,
    CLOCK_THREAD,
    CLOCKS,
    PER_THREAD,
    TIMER_ABSTIME,
    clock_nanoseconds,
)
from sandbox.kernel.syscalls.timerfd import LARGE, SMALL, Form
from sandbox.kernel.task.posixtimer import SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD_ID, PosixTimer
from sandbox.kernel.task.task import Task, ThreadGroup

SIGEVENT_BYTES = 64
WITHOUT_TIMERS = (4, 5, 6)
"""CLOCK_MONOTONIC_RAW and the two coarse ones."""


def sys_timer_create(kernel: Kernel, task: Task, clock: int, event: int, pointer: int, *_: int) -> int:
    """Numbers are not used again; one is used up when the clock turns out to be nobody's, as in Linux 6.18."""
    if clock in WITHOUT_TIMERS:
        raise KernelError(EOPNOTSUPP)
    if not clock >> 31 and clock not in CLOCKS:
        raise KernelError(EINVAL)
    if not kernel.signals.has_room(task):
        raise KernelError(EAGAIN)
    number = task.group.next_timer_id
    task.group.next_timer_id += 1
    signo, value, thread = _event(kernel, task, event) if event else (SIGALRM, number, None)
    kernel.uaccess.put_user(task, pointer, number.to_bytes(4, "little"))
    clock_nanoseconds(kernel, clock)
    kernel.posix_timers.add(task, PosixTimer(number, clock, signo, value, _counted(kernel, task, clock), thread))
    return 0


def _event(kernel: Kernel, task: Task, pointer: int) -> tuple[int, int, Task | None]:
    """``struct sigevent``: the signal, 0 for none, its value, the thread that gets it.  Raises KernelError(EINVAL)."""
    value, signo, notify, tid = unpack_from("<4i", kernel.uaccess.get_user(task, pointer, SIGEVENT_BYTES))
    if notify == SIGEV_NONE:
        return 0, value, None
    thread = next((each for each in task.group.threads if each.pid == tid), None)
    known = notify in (SIGEV_SIGNAL, SIGEV_THREAD) or (notify == SIGEV_THREAD_ID and thread is not None)
    if not known or not 0 < signo <= NSIG:
        raise KernelError(EINVAL)
    return signo, value, thread if notify == SIGEV_THREAD_ID else None


def _counted(kernel: Kernel, task: Task, clock: int) -> Task | ThreadGroup | None:
    """Whose time a clock counts, None for the machine's."""
    if clock == CLOCK_PROCESS:
        return task.group
    if clock == CLOCK_THREAD:
        return task
    found = kernel.tasks.get(~clock >> 3 & 0x1FFFFFFF, task) if clock >> 31 else None
    return found if found is None or clock & PER_THREAD else found.group


def _find(task: Task, number: int) -> PosixTimer:
    found: PosixTimer | None = task.group.posix_timers.get(number)
    if found is None:
        raise KernelError(EINVAL)
    return found


def _spec(kernel: Kernel, timer: PosixTimer, form: Form) -> bytes:
    """``struct itimerspec``: the period, then what is left."""
    left, period = kernel.posix_timers.left(timer)
    return form[2](period) + form[2](left)


def _settime(kernel: Kernel, task: Task, number: int, flags: int, new: int, old: int, form: Form) -> int:
    if not new:
        raise KernelError(EINVAL)
    size, unpack, _ = form
    data = kernel.uaccess.get_user(task, new, 2 * size)
    period, value = unpack(data[:size]), unpack(data[size:])
    timer = _find(task, number)
    before = _spec(kernel, timer, form)
    due = 0
    if value:
        now = kernel.posix_timers.now(timer)
        shift = 0 if timer.counted is not None else clock_nanoseconds(kernel, timer.clock) - now
        due = max(1, value - shift) if flags & TIMER_ABSTIME else now + value
    kernel.posix_timers.set(task, timer, due, period)
    if old:
        kernel.uaccess.put_user(task, old, before)
    return 0


def sys_timer_settime(kernel: Kernel, task: Task, number: int, flags: int, new: int, old: int, *_: int) -> int:
    return _settime(kernel, task, number, flags, new, old, SMALL)


def sys_timer_settime64(kernel: Kernel, task: Task, number: int, flags: int, new: int, old: int, *_: int) -> int:
    return _settime(kernel, task, number, flags, new, old, LARGE)


def sys_timer_gettime(kernel: Kernel, task: Task, number: int, pointer: int, *_: int) -> int:
    kernel.uaccess.put_user(task, pointer, _spec(kernel, _find(task, number), SMALL))
    return 0


def sys_timer_gettime64(kernel: Kernel, task: Task, number: int, pointer: int, *_: int) -> int:
    kernel.uaccess.put_user(task, pointer, _spec(kernel, _find(task, number), LARGE))
    return 0


def sys_timer_getoverrun(kernel: Kernel, task: Task, number: int, *_: int) -> int:
    return _find(task, number).last_overrun


def sys_timer_delete(kernel: Kernel, task: Task, number: int, *_: int) -> int:
    kernel.posix_timers.delete(task, _find(task, number))
    return 0
