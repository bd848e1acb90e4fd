"""Signals: sending, forcing, and carrying out what waits when a task returns to ring 3."""

from __future__ import annotations

from collections.abc import Callable
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
from sandbox.kernel.task.cred import User, Users
from sandbox.kernel.task.pgrp import is_orphaned, members
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.sigframe import SignalFrames
from sandbox.kernel.task.sigpending import KILL, Tracing, discard, is_caught, is_ignored, recalculate, traced_by_parent
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task, TaskExit, TaskTable, ThreadGroup
from sandbox.records import replace

CORE_FLAG = 0x80
STOPPING = sum(bit_of(number) for number in (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))
_INT_80_BYTES = 2


class Judge(Protocol):
    """A debugger outside of the machine, at the border of ring 3."""

    def __call__(self, task: Task, info: SigInfo) -> SigInfo | None:
        """What is left of a signal that was reported and is to be delivered."""
        ...

    def holds(self, task: Task) -> bool:
        """The task is not to run in ring 3 now: it stands still until the debugger resumes it."""
        ...


class Signals:
    """Sends signals between tasks and carries them out."""

    __slots__ = (
        "_broken_group_exit", "_broken_mask", "_broken_queue", "_broken_restart", "_broken_stop", "_bus",
        "_clock", "_sched", "_tasks", "deaths", "end_shell", "frames", "judge", "tracing", "users",
    )  # fmt: skip

    def __init__(
        self, sched: Scheduler, tasks: TaskTable, frames: SignalFrames, trace: Trace, broken: Breakage
    ) -> None:
        self._sched, self._tasks, self.frames = sched, tasks, frames
        self._bus, self._clock = trace.bus, trace.clock
        self._broken_queue, self._broken_mask = broken("no-sigqueue"), broken("no-sigmask")
        self._broken_stop, self._broken_restart = broken("no-stop"), broken("no-sa-restart")
        self._broken_group_exit = broken("no-group-exit")
        self.users = Users()
        """What the tasks of each user have in common."""
        self.deaths: list[tuple[int, str, int, str]] = []
        """(pid, command, signal, report) of every task that a signal ended."""
        self.end_shell: Callable[[Task], None] = lambda shell: None
        """Handed in: what happens when a signal ends the shell above the first program."""
        self.tracing: Tracing
        """Handed in: who stops tasks for their tracers."""
        self.judge: Judge | None = None
        """A debugger outside of the machine."""

    # -- sending -------------------------------------------------------------------------------------------------------

    def send_signal(self, task: Task, number: int, info: SigInfo | None = None, *, thread: bool = False) -> bool:
        """Let a signal wait for a task's process, or for one ``thread``; wake who takes it; continue who is stopped.

        Number 0 does nothing.  False when the queue is full.
        """
        group = task.group
        if not number or group.is_dead or (thread and task.exiting):
            return True
        if not task.runs:
            self._signal_shell(task, number)
            return True
        bit = bit_of(number)
        if bit & STOPPING:
            discard(group, bit_of(SIGCONT))
        elif number in (SIGCONT, SIGKILL):
            if number == SIGCONT:
                discard(group, STOPPING)
            self._resume(group, number)
        if is_ignored(task, number):
            return True
        pending = task.signals.private if thread else group.shared
        if self._broken_queue and pending.waiting & bit:
            return True
        info = info or SigInfo.sent(number, SI_KERNEL, 0)
        if not pending.enqueue(info, self._has_room(task, info), self._charged(task, info)):
            return False
        if group.posted is not None:
            self._sched.wake_up(group.posted)
        self._wake_one(task, bit, thread)
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
            task.group.stopped = number == SIGSTOP
            task.state = State.STOPPED if number == SIGSTOP else State.SLEEPING

    def _wake_one(self, task: Task, bit: int, thread: bool) -> None:
        """Who takes a signal: the thread that is named if it can, else the next that can (``complete_signal``)."""
        threads = (task,) if thread else (task, *task.group.threads)
        for each in threads:
            if self._wants(each, bit):
                recalculate(each)
                self._sched.wake(each)
                if bit == KILL and each.state is State.TRACED:
                    self._sched.resume(each)
                return

    def _wants(self, task: Task, bit: int) -> bool:
        """It would notice the signal, and soon (``wants_signal``)."""
        state = task.signals
        if task.exiting or not bit & (~state.blocked | state.awaited):
            return False
        if bit == KILL or len(task.group.threads) == 1:
            return True
        return task.state not in (State.STOPPED, State.TRACED) and (task.cpu.current is task or not task.pending)

    def _has_room(self, task: Task, info: SigInfo) -> bool:
        """One more may be queued for the user's processes; the kernel's own standard signals always are."""
        if info.taken is not None or (info.signo < SIGRTMIN and info.code >= SI_USER):
            return True
        return self.has_room(task)

    def has_room(self, task: Task) -> bool:
        """RLIMIT_SIGPENDING lets the task's user have one more."""
        return self.user_of(task).sigpending < task.limits[RLIMIT_SIGPENDING][0]

    def user_of(self, task: Task) -> User:
        """The user whose task it is."""
        return self.users[task.cred.uid.real]

    def _charged(self, task: Task, info: SigInfo) -> User | None:
        """In whose count a signal will be: SIGKILL has no place, a timer's is from its making."""
        return None if info.taken is not None or info.signo == SIGKILL else self.user_of(task)

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
        if task.ptrace is not None and not fatal:
            task.ptrace.report = report
        elif action.handler == SIG_DFL and not task.report:
            task.report = report()
        self.send_signal(task, info.signo, info, thread=True)

    def exceed_file_size(self, task: Task) -> None:
        """SIGXFSZ, as if the thread sent it to itself (generic_write_check_limits)."""
        self.send_signal(task, SIGXFSZ, SigInfo.sent(SIGXFSZ, SI_USER, task.tgid), thread=True)

    def _resume(self, group: ThreadGroup, number: int) -> None:
        """SIGCONT or SIGKILL reaches a process, which may be stopped, or about to."""
        for task in group.threads:
            if number == SIGCONT and task.ptrace is not None:
                self.tracing.continued(task)
        if not group.stopping:
            return
        was_stopped, group.stopping, group.stopped, group.stop_signal = group.stopped, 0, False, 0
        for task in group.threads:
            if task.state is State.STOPPED:
                self._sched.resume(task)
        if number == SIGCONT and was_stopped:
            group.continued = True
            self._tell_parent(group.leader, CLD_CONTINUED, SIGCONT)

    def _tell_parent(self, task: Task, code: int, status: int) -> None:
        """A parent learns that a child stopped or went on."""
        if task.parent is not None:
            self.tell(task.parent, task, code, status)

    def tell(self, parent: Task, task: Task, code: int, status: int) -> None:
        """Whoever has the right learns that a task stopped or went on (``do_notify_parent_cldstop``)."""
        action = parent.signals.hand.actions[SIGCHLD]
        if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
            uid, group = task.cred.uid.real, task.group
            info = SigInfo.child(SIGCHLD, code, task.pid, uid, status, group.utime, group.stime)
            self.send_signal(parent, SIGCHLD, info)
        self.wake_waiter(parent)

    def wake_waiter(self, parent: Task) -> None:
        """Something happened to a child: threads of its parent that wait look again."""
        for task in parent.group.threads:
            if task.runs and task.wchan == "a child" and task.state is State.SLEEPING:
                self._sched.wake(task)

    # -- carrying out --------------------------------------------------------------------------------------------------

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
            if task.ptrace is not None and self.tracing.trap(task):
                continue
            if group.stopping and task.ptrace is None:
                self._stop(task)
                continue
            info = state.dequeue(~state.blocked)
            if info is not None and task.ptrace is not None and info.signo != SIGKILL:
                info = self.tracing.signal(task, info)
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
                self.retarget(task)
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
        if not self._broken_mask:
            added = action.mask | (0 if action.flags & SA_NODEFER else bit_of(number))
            state.blocked = (state.blocked | added) & ~UNBLOCKABLE
        if task.ptrace is not None:
            self.tracing.stepped_into(task)

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
        self.stop_if_last(task.group)
        self._sched.stop(task)

    def stop_if_last(self, group: ThreadGroup) -> None:
        """The parent learns of a stop when the last thread has stopped, or is gone (``do_signal_stop``)."""
        alive = [task for task in group.threads if not task.exiting]
        halted = (State.STOPPED, State.TRACED)
        if group.stopping and not group.stopped and alive and all(task.state in halted for task in alive):
            group.stopped, group.stop_signal, group.continued = True, group.stopping, False
            if not traced_by_parent(group.leader):
                self._tell_parent(group.leader, CLD_STOPPED, group.stopping)

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
        raise TaskExit(self.group_exit(task, number | (CORE_FLAG if dumps else 0)))

    # -- threads -------------------------------------------------------------------------------------------------------

    def group_exit(self, task: Task, status: int) -> int:
        """Every thread of a process is to end; the status word, which is the first's that came here."""
        group = task.group
        if group.must_end(task):
            return group.exit_code or 0
        if not self._broken_group_exit:
            group.exit_code = status
            self.zap_other_threads(task)
        return status

    def zap_other_threads(self, task: Task) -> None:
        """All threads but one are to end, whatever they do: SIGKILL waits for them, and ``must_end`` says why."""
        group = task.group
        group.stopping, group.stopped = 0, False
        for each in group.threads:
            if each is not task and not each.exiting:
                each.signals.private.enqueue(SigInfo.sent(SIGKILL, SI_KERNEL, 0))
                each.pending = 1
                if each.state in (State.STOPPED, State.TRACED):
                    self._sched.resume(each)
                else:
                    self._sched.wake(each)

    def set_blocked(self, task: Task, mask: int) -> None:
        """Change a thread's mask; what it lets through is carried out at the next return to ring 3."""
        task.signals.blocked = mask & ~UNBLOCKABLE
        recalculate(task)
        self.retarget(task)

    def retarget(self, task: Task) -> None:
        """Signals of the process that a thread does not take any more are for others (``retarget_shared_pending``)."""
        group = task.group
        if not group.shared.waiting or len(group.threads) == 1:
            return
        left = group.shared.waiting & (-1 if task.exiting else task.signals.blocked)
        for each in group.threads:
            if left and each is not task and not each.exiting and left & ~each.signals.blocked:
                left &= each.signals.blocked
                if not each.pending:
                    each.pending = 1
                    self._sched.wake(each)

    # -- groups and sessions -------------------------------------------------------------------------------------

    def kill_pgrp(self, pgrp: int, number: int) -> None:
        """A signal from the kernel for every process of a group."""
        if pgrp:
            for task in members(self._tasks, pgrp):
                self.send_signal(task, number)

    def kill_session_leader(self, session: int, number: int) -> None:
        """A signal from the kernel for the leader of a session, if it lives."""
        leader = self._tasks.get(session)
        if leader is not None and leader.sid == session:
            self.send_signal(leader, number)
