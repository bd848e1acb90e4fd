"""timerfd_create, timerfd_settime and timerfd_gettime, with 32-bit times and 64-bit ones."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import EINVAL, KernelError
from sandbox.kernel.abi.flags import O_CLOEXEC, O_NONBLOCK, O_RDWR
from sandbox.kernel.abi.structs import pack_timespec, pack_timespec64, unpack_timespec, unpack_timespec64
from sandbox.kernel.ipc.timerfd import TimerFd
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.misc import clock_nanoseconds
from sandbox.kernel.syscalls.paths import refuse_other
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File

CLOCKS = (0, 1, 7, 8, 9)
"""CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME and the two that would wake a machine."""
TIMER_ABSTIME, CANCEL_ON_SET = 1, 2
Form = tuple[int, Callable[[bytes], int], Callable[[int], bytes]]
SMALL: Form = (8, unpack_timespec, pack_timespec)
LARGE: Form = (16, unpack_timespec64, pack_timespec64)


def sys_timerfd_create(kernel: Kernel, task: Task, clock: int, flags: int, *_: int) -> int:
    refuse_other(flags, O_CLOEXEC | O_NONBLOCK)
    if clock not in CLOCKS:
        raise KernelError(EINVAL)
    timer = TimerFd(lambda: clock_nanoseconds(kernel, clock), kernel.uaccess, kernel.sched, kernel.clock)
    file = File(timer, O_RDWR | flags & O_NONBLOCK)
    return task.files.install(file, close_on_exec=bool(flags & O_CLOEXEC))


def _timer(task: Task, fd: int) -> TimerFd:
    inode = task.files.get(fd).inode
    if not isinstance(inode, TimerFd):
        raise KernelError(EINVAL)
    return inode


def _spec(timer: TimerFd, form: Form) -> bytes:
    """``struct itimerspec``: the period, then what is left."""
    left, period = timer.left()
    return form[2](period) + form[2](left)


def _settime(kernel: Kernel, task: Task, fd: int, flags: int, new: int, old: int, form: Form) -> int:
    size, unpack, _ = form
    data = kernel.uaccess.get_user(task, new, 2 * size)
    refuse_other(flags, TIMER_ABSTIME | CANCEL_ON_SET)
    period, value = unpack(data[:size]), unpack(data[size:])
    timer = _timer(task, fd)
    before = _spec(timer, form)
    timer.set(value, period, bool(flags & TIMER_ABSTIME))
    if old:
        kernel.uaccess.put_user(task, old, before)
    return 0


def sys_timerfd_settime(kernel: Kernel, task: Task, fd: int, flags: int, new: int, old: int, *_: int) -> int:
    return _settime(kernel, task, fd, flags, new, old, SMALL)


def sys_timerfd_settime64(kernel: Kernel, task: Task, fd: int, flags: int, new: int, old: int, *_: int) -> int:
    return _settime(kernel, task, fd, flags, new, old, LARGE)


def sys_timerfd_gettime(kernel: Kernel, task: Task, fd: int, pointer: int, *_: int) -> int:
    kernel.uaccess.put_user(task, pointer, _spec(_timer(task, fd), SMALL))
    return 0


def sys_timerfd_gettime64(kernel: Kernel, task: Task, fd: int, pointer: int, *_: int) -> int:
    kernel.uaccess.put_user(task, pointer, _spec(_timer(task, fd), LARGE))
    return 0
