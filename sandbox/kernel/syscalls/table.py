"""From the number in EAX to the function, and back with a result or a negative errno."""

from __future__ import annotations

import functools
from collections.abc import Callable

from sandbox.engine.context import EAX, EBP, EBX, ECX, EDI, EDX, EIP, ESI
from sandbox.kernel.abi.errno import ENOMEM, ENOSYS, ERESTARTSYS, KernelError
from sandbox.kernel.abi.numbers import NUMBERS, name_of
from sandbox.kernel.base.events import CallEntered, SystemCall
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.rlimit import FileSizeExceeded
from sandbox.kernel.module.loader import Modules
from sandbox.kernel.process.exit import drop_held
from sandbox.kernel.syscalls import (
    capability,
    cred,
    dirs,
    epoll,
    fcntl,
    files,
    futex,
    inotify,
    io,
    ioctl,
    ioprio,
    ldt,
    madvise,
    memory,
    misc,
    pidfd,
    poll,
    posixtimers,
    process,
    processvm,
    ptrace,
    schedattr,
    scheduling,
    signalfd,
    signals,
    socket,
    socketcall,
    sockmsg,
    sockopt,
    splice,
    stat,
    sysv,
    timerfd,
    timers,
    transfer,
)
from sandbox.kernel.syscalls.modules import ModuleCalls
from sandbox.kernel.task.task import Task

MODULES = (
    capability, cred, dirs, epoll, fcntl, files, futex, inotify, io, ioctl, ioprio, ldt, madvise, memory, misc, pidfd,
    poll, posixtimers, process, processvm, ptrace, schedattr, scheduling, signalfd, signals, socket, socketcall,
    sockmsg, sockopt, splice, stat, sysv, timerfd, timers, transfer,
)  # fmt: skip
"""What is called ``sys_NAME`` in one of these answers the call NAME."""

_EAX, _EBX, _ECX, _EDX, _ESI, _EDI, _EBP, _EIP = (2 * each for each in (EAX, EBX, ECX, EDX, ESI, EDI, EBP, EIP))
"""Indices of the registers' low words in ``CpuContext.longs``."""

Handler = Callable[["Kernel", Task, int, int, int, int, int, int], int]
"""EBX, ECX, EDX, ESI, EDI and EBP as they came, unsigned; the result may be negative."""


@functools.cache
def handlers() -> tuple[Handler | None, ...]:
    """The functions by number, None for calls that are not there."""
    found: list[Handler | None] = [None] * (max(NUMBERS.values()) + 1)
    for module in MODULES:
        for each in vars(module):
            if each.startswith("sys_"):
                found[NUMBERS[each[4:]]] = getattr(module, each)
    return tuple(found)


class SystemCalls:
    """The dispatch table of one kernel."""

    def __init__(self, kernel: Kernel, modules: Modules) -> None:
        self._kernel = kernel
        self._stats, self._bus, self._clock = kernel.stats, kernel.bus, kernel.clock
        self._entries_read, self._results_read = self._bus.watch_for(CallEntered), self._bus.watch_for(SystemCall)
        self._handlers = list(handlers())
        self._known = len(self._handlers)
        calls = ModuleCalls(modules)
        for handler in (calls.sys_init_module, calls.sys_finit_module, calls.sys_delete_module):
            self._handlers[NUMBERS[handler.__name__[4:]]] = handler

    def dispatch(self, task: Task) -> None:
        """Carry out the call that a task made with INT 0x80, before the eyes of its tracer if it has one."""
        kernel, counters, context = self._kernel, self._stats, task.context
        longs = context.longs
        task.orig_eax = longs[_EAX]
        if task.ptrace is not None and not kernel.tracing.enter(task):
            if task.ptrace is not None:
                kernel.tracing.leave(task)
            return
        counters.system_calls += 1
        number = task.orig_eax & 0xFFFFFFFF
        counters.calls[number] += 1
        arguments = longs[_EBX], longs[_ECX], longs[_EDX], longs[_ESI], longs[_EDI], longs[_EBP]
        handler = self._handlers[number] if number < self._known else None
        before = longs[_EIP]
        if self._entries_read.any:
            self._bus.emit(CallEntered(self._clock.now, task.cpu.index, task.pid, number, name_of(number), arguments))
        try:
            result = -ENOSYS if handler is None else handler(kernel, task, *arguments)
        except KernelError as error:
            result = -error.errno
            if isinstance(error, FileSizeExceeded):
                kernel.signals.exceed_file_size(task)
            if error.errno >= ERESTARTSYS:
                task.signals.interrupted = number
                task.pending = 1
        except OutOfMemory:
            result = -ENOMEM
        if task.held:
            drop_held(task)
        if self._results_read.any:
            self._bus.emit(
                SystemCall(self._clock.now, task.cpu.index, task.pid, number, name_of(number), arguments, result)
            )
        if task.context.longs[_EIP] == before:
            context.quads[EAX] = result & 0xFFFFFFFF
        if task.ptrace is not None:
            kernel.tracing.leave(task)
