"""Carrying out the signals that wait when a task returns to ring 3 (get_signal and handle_signal of Linux)."""

from __future__ import annotations

from typing import NoReturn, Protocol

from sandbox.kernel.abi.errno import (
    EINTR,
    ERESTART_RESTARTBLOCK,
    ERESTARTNOINTR,
    ERESTARTSYS,
)
from sandbox.kernel.abi.numbers import NUMBERS
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import (
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SI_KERNEL,
    SI_QUEUE,
    SI_TKILL,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    UNBLOCKABLE,
    Action,
    default_action,
    name_of,
)
from sandbox.kernel.abi.structs import SigAction
from sandbox.kernel.base.events import Killed, SignalDelivered
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.mm.rlimit import RLIMIT_CORE
from sandbox.kernel.task.pgrp import is_orphaned
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.sigframe import SignalFrames
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.sigpending import Tracing
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task, TaskExit, TaskTable, ThreadGroup
from sandbox.records import replace

CORE_FLAG = 0x80
_INT_80_BYTES = 2


class Judge(Protocol):
    """A debugger outside of the machine, at the border of ring 3."""

    def __call__(self, task: Task, info: SigInfo) -> SigInfo | None:
        """What is left of a signal that was reported and is to be delivered."""
        ...

    def holds(self, task: Task) -> bool:
        """The task is not to run in ring 3 now: it stands still until the debugger resumes it."""
        ...


class SignalDelivery:
    """Carries out, in the task that it is for, what ``Signals`` has sent."""

    __slots__ = (
        "_broken_mask", "_broken_restart", "_broken_stop", "_bus", "_clock", "_retarget", "_sched", "_signals",
        "_tasks", "_tracing", "deaths", "frames", "judge",
    )  # fmt: skip

    def __init__(
        self, sched: Scheduler, tasks: TaskTable, signals: Signals, tracing: Tracing, frames: SignalFrames,
        trace: Trace, broken: Breakage,
    ) -> None:  # fmt: skip
        self._sched, self._tasks, self.frames = sched, tasks, frames
        self._signals, self._retarget, self._tracing = signals, signals.retarget, tracing
        self._bus, self._clock = trace.bus, trace.clock
        self._broken_mask, self._broken_restart = broken("no-sigmask"), broken("no-sa-restart")
        self._broken_stop = broken("no-stop")
        self.deaths: list[tuple[int, str, int, str]] = []
        """(pid, command, signal, report) of every task that a signal ended."""
        self.judge: Judge | None = None
        """A debugger outside of the machine."""

    def deliver(self, task: Task) -> None:
        """Before a return to ring 3: handlers get their frames, defaults happen, interrupted calls are restarted.

        Raises TaskExit when a signal ends the task.
        """
        state, group = task.signals, task.group
        while True:
            if group.must_end(task):
                raise TaskExit(group.exit_code or 0)
            if self.judge is not None and self.judge.holds(task):
                self._sched.stop(task, State.TRACED)
                continue
            if task.ptrace is not None and self._tracing.trap(task):
                continue
            if group.stopping and task.ptrace is None:
                self._stop(task)
                continue
            info = state.dequeue(~state.blocked)
            if info is not None and task.ptrace is not None and info.signo != SIGKILL:
                info = self._tracing.signal(task, info)
                if info is None:
                    continue
            if info is not None:
                if self._bus.active:
                    self._bus.emit(
                        SignalDelivered(self._clock.now, task.cpu.index, task.pid, info.signo, info.code, info.union)
                    )
                if self.judge is not None and info.signo != SIGKILL:
                    info = self.judge(task, info)
                    if info is None:
                        continue
                action = state.hand.actions[info.signo]
                if action.handler == SIG_IGN and not bit_of(info.signo) & UNBLOCKABLE:
                    continue
                if action.handler != SIG_DFL:
                    self._handle(task, info, action)
                else:
                    self._default(task, info)
                continue
            self._restart(task)
            if state.saved_mask is not None:
                state.blocked, state.saved_mask = state.saved_mask, None
            if not state.deliverable:
                task.pending = 0
                self._retarget(task)
                return

    def _handle(self, task: Task, info: SigInfo, action: SigAction) -> None:
        state, number = task.signals, info.signo
        if action.flags & SA_RESETHAND:
            state.hand.actions[number] = replace(action, handler=SIG_DFL)
        self._restart(task, action)
        if not self.frames.setup_frame(task, info, action):
            segv = SigInfo.sent(SIGSEGV, SI_KERNEL, 0)
            esp = task.context.esp
            said = f"the frame for the handler of {name_of(number)} could not be stored (esp {esp:#010x})"
            if task.report:
                said += "\n" + task.report
                task.report = ""
            self._signals.force_info(task, segv, lambda: said, fatal=number == SIGSEGV)
            return
        state.saved_mask = None
        if not self._broken_mask:
            added = action.mask | (0 if action.flags & SA_NODEFER else bit_of(number))
            state.blocked = (state.blocked | added) & ~UNBLOCKABLE
        if task.ptrace is not None:
            self._tracing.stepped_into(task)

    def _default(self, task: Task, info: SigInfo) -> None:
        number = info.signo
        what = default_action(number)
        if what in (Action.IGNORE, Action.CONTINUE):
            return
        if what is Action.STOP:
            if self._broken_stop:
                return
            if number == SIGSTOP or not is_orphaned(self._tasks, task.pgid):
                self._stop_all(task.group, number)
            return
        task.report = task.report or self._sender(info)
        self.die(task, number)

    def _sender(self, info: SigInfo) -> str:
        if info.code not in (SI_USER, SI_TKILL, SI_QUEUE):
            return "sent by the kernel"
        sender = self._tasks.get(info.pid)
        return f"sent by task {info.pid}" + (f" ({sender.comm})" if sender is not None else "")

    def _stop_all(self, group: ThreadGroup, number: int) -> None:
        """Every thread is to stop before it goes back to ring 3."""
        group.stopping = number
        for task in group.threads:
            if not task.exiting:
                task.pending = 1
                self._sched.wake(task)

    def _stop(self, task: Task) -> None:
        """Until SIGCONT or SIGKILL."""
        task.state = State.STOPPED
        self._signals.stop_if_last(task.group)
        self._sched.stop(task)

    def _restart(self, task: Task, action: SigAction | None = None) -> None:
        """An interrupted system call fails with EINTR or is made again: EIP goes back over INT 0x80."""
        state, context = task.signals, task.context
        number, state.interrupted = state.interrupted, -1
        if number < 0:
            return
        error = -context.eax & 0xFFFFFFFF
        if not ERESTARTSYS <= error <= ERESTART_RESTARTBLOCK:  # a tracer has set another result
            return
        if action is not None:
            flags = 0 if self._broken_restart else action.flags
            again = error == ERESTARTNOINTR or (error == ERESTARTSYS and bool(flags & SA_RESTART))
            if not again:
                context.eax = -EINTR
                return
        elif error == ERESTART_RESTARTBLOCK:
            number = NUMBERS["restart_syscall"]
        context.eax = number
        context.eip -= _INT_80_BYTES
        context.resumes_at = context.passes = -1

    def die(self, task: Task, number: int) -> NoReturn:
        """A signal ends the task.  Raises TaskExit with the wait status."""
        if self._bus.wants(Killed):
            self._bus.emit(Killed(self._clock.now, task.cpu.index, task.pid, number, task.report))
        self.deaths.append((task.pid, task.comm, number, task.report))
        dumps = default_action(number) is Action.CORE and task.limits[RLIMIT_CORE][0] > 0
        raise TaskExit(self._signals.group_exit(task, number | (CORE_FLAG if dumps else 0)))
