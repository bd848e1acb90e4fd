"""Signals: sending and forcing them, and whom they wake, stop or let go on."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import (
    CLD_CONTINUED,
    CLD_STOPPED,
    SA_NOCLDSTOP,
    SI_KERNEL,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGRTMIN,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGXFSZ,
    UNBLOCKABLE,
    Action,
    default_action,
)
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.mm.rlimit import RLIMIT_SIGPENDING
from sandbox.kernel.task.cred import User, Users
from sandbox.kernel.task.pgrp import members
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.sigpending import KILL, Tracing, discard, is_caught, is_ignored, recalculate, traced_by_parent
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task, TaskTable, ThreadGroup
from sandbox.records import replace

STOPPING = sum(bit_of(number) for number in (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))


class Signals:
    """Sends signals between tasks; ``sigdeliver`` carries them out."""

    __slots__ = ("_broken_group_exit", "_broken_queue", "_sched", "_tasks", "end_shell", "tracing", "users")

    def __init__(self, sched: Scheduler, tasks: TaskTable, broken: Breakage) -> None:
        self._sched, self._tasks = sched, tasks
        self._broken_queue, self._broken_group_exit = broken("no-sigqueue"), broken("no-group-exit")
        self.users = Users()
        """What the tasks of each user have in common."""
        self.end_shell: Callable[[Task], None] = lambda shell: None
        """Handed in: what happens when a signal ends the shell above the first program."""
        self.tracing: Tracing
        """Handed in: who stops tasks for their tracers."""

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

    def stop_if_last(self, group: ThreadGroup) -> None:
        """The parent learns of a stop when the last thread has stopped, or is gone (``do_signal_stop``)."""
        alive = [task for task in group.threads if not task.exiting]
        halted = (State.STOPPED, State.TRACED)
        if group.stopping and not group.stopped and alive and all(task.state in halted for task in alive):
            group.stopped, group.stop_signal, group.continued = True, group.stopping, False
            if not traced_by_parent(group.leader):
                self._tell_parent(group.leader, CLD_STOPPED, group.stopping)

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
