"""signalfd: waiting signals of the task that reads, as records from a descriptor."""

from __future__ import annotations

import struct

from sandbox.kernel.abi.errno import EAGAIN, EINVAL, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLIN
from sandbox.kernel.abi.poll import POLLRDNORM
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_KERNEL, SI_TIMER, SIGCHLD, SYNCHRONOUS
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.eventfd import AnonStream
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.sigpending import recalculate
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import Ready

RECORD = struct.Struct("<IiiIIiIIIIiiQQQQH46x")
"""``struct signalfd_siginfo``, 128 bytes."""


def pack_signalfd_siginfo(info: SigInfo) -> bytes:
    """The members that the code says are there, 0 elsewhere; pointers grow to 64 bits."""
    first, second, third, fourth, fifth = struct.unpack("<5I", info.union[:20].ljust(20, b"\0"))
    pid = uid = status = value = user = system = address = number = overrun = 0
    if info.code > 0 and bit_of(info.signo) & SYNCHRONOUS:
        address = first
    elif info.code == SI_TIMER:
        number, overrun, value = first, second, third
    elif info.code != SI_KERNEL:
        pid, uid = first, second
        if info.signo == SIGCHLD and info.code > 0:
            status, user, system = third, fourth, fifth
        else:
            value = third
    signed = struct.unpack("<ii", struct.pack("<II", status, value))
    return RECORD.pack(
        info.signo, info.errno, info.code, pid, uid, 0, number, 0, overrun, 0, *signed, value, user, system, address, 0
    )


class SignalFd(AnonStream):
    """``mask`` has bit n-1 for signal n."""

    def __init__(self, mask: int, uaccess: UserAccess, sched: Scheduler) -> None:
        super().__init__("[signalfd]")
        self._uaccess, self._sched = uaccess, sched
        self.mask = mask

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        done, room = 0, count // RECORD.size * RECORD.size
        if not room:
            raise KernelError(EINVAL)
        while done < room:
            info = task.signals.dequeue(self.mask)
            if info is not None:
                recalculate(task)
                self._uaccess.put_user(task, address + done, pack_signalfd_siginfo(info))
                done += RECORD.size
            elif done:
                break
            elif file.flags & O_NONBLOCK:
                raise KernelError(EAGAIN)
            else:
                self._sched.interruptible_sleep_on(_queue(task))
        return done

    def poll(self, file: File, task: Task) -> Ready:
        return Ready(POLLIN | POLLRDNORM if task.signals.waiting & self.mask else 0, (_queue(task),))


def _queue(task: Task) -> WaitQueue:
    if task.group.posted is None:
        task.group.posted = WaitQueue("a signal")
    return task.group.posted
