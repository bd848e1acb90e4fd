"""Signals: sending, forcing, and carrying out what waits when a task returns to ring 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from sandbox.kernel.abi.errno import (
    EINTR,
    ERESTART_RESTARTBLOCK,
    ERESTARTNOINTR,
    ERESTARTSYS,
)
from sandbox.kernel.abi.numbers import NUMBERS
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import (
    CLD_CONTINUED,
    CLD_STOPPED,
    SA_NOCLDSTOP,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SI_KERNEL,
    SI_QUEUE,
    SI_TKILL,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGRTMIN,
    SIGSEGV,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGXFSZ,
    UNBLOCKABLE,
    Action,
    default_action,
    name_of,
)
from sandbox.kernel.abi.structs import SigAction
from sandbox.kernel.base.events import Killed, SignalDelivered
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.mm.rlimit import RLIMIT_CORE, RLIMIT_SIGPENDING
from sandbox.kernel.task.pgrp import is_orphaned, members
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.sigframe import SignalFrames
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task, TaskExit, TaskTable

CORE_FLAG = 0x80
STOPPING = sum(bit_of(number) for number in (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))
_INT_80_BYTES = 2


class Signals:
    """Sends signals between tasks and carries them out."""

    __slots__ = (
        "_broken_mask", "_broken_queue", "_broken_restart", "_broken_stop", "_bus", "_clock", "_sched", "_tasks",
        "deaths", "end_shell", "frames",
    )  # fmt: skip

    def __init__(
        self, sched: Scheduler, tasks: TaskTable, frames: SignalFrames, trace: Trace, broken: Breakage
    ) -> None:
        self._sched, self._tasks, self.frames = sched, tasks, frames
        self._bus, self._clock = trace.bus, trace.clock
        self._broken_queue, self._broken_mask = broken("no-sigqueue"), broken("no-sigmask")
        self._broken_stop, self._broken_restart = broken("no-stop"), broken("no-sa-restart")
        self.deaths: list[tuple[int, str, int, str]] = []
        """(pid, command, signal, report) of every task that a signal ended."""
        self.end_shell: Callable[[Task], None] = lambda shell: None
        """Handed in: what happens when a signal ends the shell above the first program."""

    # -- sending -------------------------------------------------------------------------------------------------------

    def send_signal(self, task: Task, number: int, info: SigInfo | None = None) -> bool:
        """Let a signal wait for a task, wake it, continue it; False when the queue is full.

        Number 0 does nothing.
        """
        if not number or task.state in (State.ZOMBIE, State.DEAD):
            return True
        if not task.runs:
            self._signal_shell(task, number)
            return True
        state = task.signals
        bit = bit_of(number)
        if bit & STOPPING:
            state.discard(bit_of(SIGCONT))
        elif number in (SIGCONT, SIGKILL):
            if number == SIGCONT:
                state.discard(STOPPING)
            self._resume(task, number)
        if is_ignored(task, number):
            return True
        if self._broken_queue and state.waiting & bit:
            return True
        info = info or SigInfo.sent(number, SI_KERNEL, 0)
        if not state.enqueue(info, self._has_room(task, info)):
            return False
        if state.posted is not None:
            self._sched.wake_up(state.posted)
        if bit & ~state.blocked or bit & state.awaited:
            task.pending = int(bool(state.deliverable))
            self._sched.wake(task)
        return True

    def _signal_shell(self, task: Task, number: int) -> None:
        """Init and the shell have no code, so that a signal does at once what it would do to them.

        Nothing ends an init that catches nothing (SIGNAL_UNKILLABLE).  Of what stops, only SIGSTOP stops the shell: its
        group is orphaned.
        """
        action = default_action(number)
        if task is self._tasks.init or is_caught(task, number):
            return
        if action in (Action.TERMINATE, Action.CORE):
            self.end_shell(task)
        elif number in (SIGSTOP, SIGCONT):
            task.state = State.STOPPED if number == SIGSTOP else State.SLEEPING

    def _has_room(self, task: Task, info: SigInfo) -> bool:
        """One more may be queued for the user's processes; the kernel's own standard signals always are."""
        if info.taken is not None or (info.signo < SIGRTMIN and info.code >= SI_USER):
            return True
        return self.has_room(task)

    def has_room(self, task: Task) -> bool:
        """RLIMIT_SIGPENDING lets the task's user have one more; a timer has its place from its making."""
        user = task.cred.uid.real
        held = [each for each in self._tasks.values() if each.cred.uid.real == user]
        queued = sum(info.taken is None for each in held for info in each.signals.queue)
        return queued + sum(len(each.posix_timers) for each in held) < task.limits[RLIMIT_SIGPENDING][0]

    def force_signal(self, task: Task, number: int, report: str) -> None:
        """A signal of the kernel's that ends the task at its next return to ring 3; the report says why."""
        self.force_info(task, SigInfo.sent(number, SI_KERNEL, 0), lambda: report, fatal=True)

    def force_fault(self, task: Task, info: SigInfo, report: Callable[[], str]) -> None:
        """An instruction caused a signal: a handler gets it; where none can, the task dies with the report."""
        self.force_info(task, info, report)

    def force_info(self, task: Task, info: SigInfo, report: Callable[[], str], *, fatal: bool = False) -> None:
        """A signal that cannot be put off: where it is blocked, ignored, or to be ``fatal``, its default is back."""
        state, bit = task.signals, bit_of(info.signo)
        action = state.hand.actions[info.signo]
        if fatal or state.blocked & bit or action.handler == SIG_IGN:
            state.hand.actions[info.signo] = action = replace(action, handler=SIG_DFL)
            state.blocked &= ~bit
        if action.handler == SIG_DFL and not task.report:
            task.report = report()
        self.send_signal(task, info.signo, info)

    def exceed_file_size(self, task: Task) -> None:
        """SIGXFSZ, as if the task sent it to itself (generic_write_check_limits)."""
        self.send_signal(task, SIGXFSZ, SigInfo.sent(SIGXFSZ, SI_USER, task.pid))

    def _resume(self, task: Task, number: int) -> None:
        """SIGCONT or SIGKILL reaches a task that is stopped."""
        if task.state is State.STOPPED:
            self._sched.resume(task)
            task.signals.stop_signal = 0
            if number == SIGCONT:
                task.signals.continued = True
                self._tell_parent(task, CLD_CONTINUED, SIGCONT)

    def _tell_parent(self, task: Task, code: int, status: int) -> None:
        """A parent learns that a child stopped or went on."""
        parent = task.parent
        if parent is None:
            return
        action = parent.signals.hand.actions[SIGCHLD]
        if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
            self.send_signal(
                parent,
                SIGCHLD,
                SigInfo.child(SIGCHLD, code, task.pid, task.cred.uid.real, status, task.utime, task.stime),
            )
        self.wake_waiter(parent)

    def wake_waiter(self, parent: Task) -> None:
        """Something happened to a child: a parent that waits looks again."""
        if parent.runs and parent.wchan == "a child" and parent.state is State.SLEEPING:
            self._sched.wake(parent)

    # -- carrying out --------------------------------------------------------------------------------------------------

    def deliver(self, task: Task) -> None:
        """Before a return to ring 3: handlers get their frames, defaults happen, interrupted calls are restarted.

        Raises TaskExit when a signal ends the task.
        """
        state = task.signals
        while True:
            info = state.dequeue(~state.blocked)
            if info is not None:
                action = state.hand.actions[info.signo]
                if self._bus.active:
                    self._bus.emit(
                        SignalDelivered(self._clock.now, task.cpu.index, task.pid, info.signo, info.code, info.union)
                    )
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
            self.force_info(task, segv, lambda: said, fatal=number == SIGSEGV)
            return
        state.saved_mask = None
        if self._broken_mask:
            return
        added = action.mask | (0 if action.flags & SA_NODEFER else bit_of(number))
        state.blocked = (state.blocked | added) & ~UNBLOCKABLE

    def _default(self, task: Task, info: SigInfo) -> None:
        number = info.signo
        what = default_action(number)
        if what in (Action.IGNORE, Action.CONTINUE):
            return
        if what is Action.STOP:
            if self._broken_stop:
                return
            if number == SIGSTOP or not is_orphaned(self._tasks, task.pgid):
                self._stop(task, number)
            return
        task.report = task.report or self._sender(info)
        self.die(task, number)

    def _sender(self, info: SigInfo) -> str:
        if info.code not in (SI_USER, SI_TKILL, SI_QUEUE):
            return "sent by the kernel"
        sender = self._tasks.get(info.pid)
        return f"sent by task {info.pid}" + (f" ({sender.comm})" if sender is not None else "")

    def _stop(self, task: Task, number: int) -> None:
        """Until SIGCONT or SIGKILL."""
        task.signals.stop_signal = number
        task.signals.continued = False
        task.state = State.STOPPED
        self._tell_parent(task, CLD_STOPPED, number)
        self._sched.stop(task)

    def _restart(self, task: Task, action: SigAction | None = None) -> None:
        """An interrupted system call fails with EINTR or is made again: EIP goes back over INT 0x80."""
        state, context = task.signals, task.context
        number, state.interrupted = state.interrupted, -1
        if number < 0:
            return
        error = -context.eax & 0xFFFFFFFF
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
        if self._bus.active:
            self._bus.emit(Killed(self._clock.now, task.cpu.index, task.pid, number, task.report))
        self.deaths.append((task.pid, task.comm, number, task.report))
        dumps = default_action(number) is Action.CORE and task.limits[RLIMIT_CORE][0] > 0
        raise TaskExit(number | (CORE_FLAG if dumps else 0))

    # -- groups and sessions -------------------------------------------------------------------------------------

    def kill_pgrp(self, pgrp: int, number: int) -> None:
        """A signal from the kernel for every task of a process group."""
        if pgrp:
            for task in members(self._tasks, pgrp):
                self.send_signal(task, number)

    def kill_session_leader(self, session: int, number: int) -> None:
        """A signal from the kernel for the leader of a session, if it lives."""
        leader = self._tasks.get(session)
        if leader is not None and leader.sid == session:
            self.send_signal(leader, number)


def is_ignored(task: Task, number: int) -> bool:
    """The signal would do nothing: it is not even kept, unless it is blocked and may yet get a handler."""
    state = task.signals
    if bit_of(number) & (state.blocked | state.awaited):
        return False
    handler = state.hand.actions[number].handler
    return handler == SIG_IGN or (handler == SIG_DFL and default_action(number) in (Action.IGNORE, Action.CONTINUE))


def is_caught(task: Task, number: int) -> bool:
    """The default action is not what the signal does."""
    return task.signals.hand.actions[number].handler != SIG_DFL


def would_act(task: Task, number: int) -> bool:
    """The signal is neither blocked nor ignored."""
    state = task.signals
    return not bit_of(number) & state.blocked and state.hand.actions[number].handler != SIG_IGN


def set_blocked(task: Task, mask: int) -> None:
    """Change a task's mask; what it lets through is carried out at the next return to ring 3."""
    task.signals.blocked = mask & ~UNBLOCKABLE
    recalculate(task)


def recalculate(task: Task) -> None:
    """Set ``pending`` to what the queue and the mask say."""
    task.pending = int(bool(task.signals.deliverable) or task.signals.interrupted >= 0)
