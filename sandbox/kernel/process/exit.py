"""The end of a task, and waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sandbox.kernel.abi.errno import ECHILD, ERESTARTSYS, KernelError
from sandbox.kernel.abi.ptrace import PTRACE_EVENT_EXIT, PTRACE_O_EXITKILL
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import (
    CLD_CONTINUED,
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    CLD_TRAPPED,
    SA_NOCLDWAIT,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
)
from sandbox.kernel.base.events import TaskChange
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process.ptrace import unlink
from sandbox.kernel.task.pgrp import has_stopped, is_orphaned
from sandbox.kernel.task.robust import exit_robust_list
from sandbox.kernel.task.sigpending import traced_by_parent
from sandbox.kernel.task.task import State, Task, TaskExit, ThreadGroup
from sandbox.records import dataclass

WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x1000000
WNOTHREAD, WALL, WCLONE = 0x20000000, 0x40000000, 0x80000000
CONTINUED_STATUS, STOPPED_STATUS = 0xFFFF, 0x7F


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a child: its wait(2) status word, and what it and its children ran, in blocks."""

    pid: int
    uid: int
    status: int
    utime: int
    stime: int
    trapped: bool = False
    """It stopped for its tracer."""

    def info(self) -> SigInfo:
        """As waitid(2) and SIGCHLD tell it."""
        if self.status == CONTINUED_STATUS:
            code, value = CLD_CONTINUED, SIGCONT
        elif self.status & 0xFF == STOPPED_STATUS:
            code, value = CLD_TRAPPED if self.trapped else CLD_STOPPED, self.status >> 8
        elif self.status & 0x7F:
            code, value = CLD_DUMPED if self.status & 0x80 else CLD_KILLED, self.status & 0x7F
        else:
            code, value = CLD_EXITED, self.status >> 8
        return SigInfo.child(SIGCHLD, code, self.pid, self.uid, value, self.utime, self.stime)


def task_main(kernel: Kernel, task: Task) -> None:
    """What a task's greenlet runs."""
    try:
        if task.set_child_tid:
            with suppress(KernelError):
                kernel.uaccess.put_user(task, task.set_child_tid, task.pid.to_bytes(4, "little"))
        kernel.run_user(task)
    except TaskExit as leaving:
        do_exit(kernel, task, leaving.status)


def do_exit(kernel: Kernel, task: Task, status: int) -> None:
    """Release what a thread holds, and give the CPU up; the last of a process leaves a zombie for its parent."""
    kernel.tracing.event(task, PTRACE_EVENT_EXIT, status, dying=True)
    cpu, group = task.cpu, task.group
    task.status, task.exiting = status, True
    drop_held(task)
    if all(each.exiting for each in group.threads):
        kernel.posix_timers.delete_all(task)
        kernel.timers.clear_timers(task)
        if group.exec_task is None and group.exit_code is None:
            group.exit_code = status  # the last thread's, not the leader's (synchronize_group_exit, since 5.17)
    kernel.signals.retarget(task)
    kernel.signals.stop_if_last(group)
    mm_release(kernel, task)
    mm, task.mm = task.mm, None
    kernel.mmu.switch_mm(cpu, None)
    if mm is not None:
        kernel.mmu.mmput(cpu, mm)
    kernel.sem.exit_sem(task)
    kernel.shm.forget_unused()
    task.files.release()
    exit_ptrace(kernel, task)
    forget_original_parent(kernel, task)
    if kernel.bus.active:
        kernel.bus.emit(TaskChange(kernel.clock.now, cpu.index, task.pid, "exit", f"status {status:#x}"))
    kernel.sched.leave_for_ever(task)
    task.state = State.ZOMBIE
    if task is not group.leader and not _tell_tracer(kernel, task):
        release_task(kernel, task)
    thread_gone(kernel, group)


def thread_gone(kernel: Kernel, group: ThreadGroup) -> None:
    """A thread has ended, or a tracer has buried it: who waits for that goes on."""
    if group.exec_task is not None:
        kernel.sched.wake(group.exec_task)
    elif group.is_dead:
        exit_notify(kernel, group.leader)


def mm_release(kernel: Kernel, task: Task) -> None:
    """A thread leaves its address space, at its end or to execute a program: what it promised to do there is done."""
    if task.mm is not None:
        if task.robust_list and not kernel.broken("no-robust"):
            exit_robust_list(kernel.uaccess, kernel.futexes, task)
        kernel.pi_futexes.exit_pi_state_list(task)
        task.futexes_left = task.exiting
        if task.clear_child_tid and task.mm.users > 1 and not kernel.broken("no-clear-tid"):
            with suppress(KernelError):
                kernel.uaccess.put_user(task, task.clear_child_tid, bytes(4))
                kernel.futexes.wake(kernel.futexes.key(task, task.clear_child_tid, False), 1)
    task.robust_list = task.clear_child_tid = 0
    release_vfork(kernel, task)


def exit_notify(kernel: Kernel, leader: Task) -> None:
    """A process has ended: its parent is told, and buries it when it has time."""
    group = leader.group
    if group.exit_code is not None:
        leader.status = group.exit_code
    _tell_pidfds(kernel, group)
    _leave_session(kernel, leader)
    if leader.ptrace is None or traced_by_parent(leader) or not _tell_tracer(kernel, leader):
        tell_parent(kernel, leader)


def tell_parent(kernel: Kernel, leader: Task) -> None:
    """The parent of a process that has ended buries it, at once where it does not want to know."""
    group, parent = leader.group, leader.parent
    if parent is None:
        release_task(kernel, leader)
        return
    actions = parent.signals.hand.actions[SIGCHLD]
    unwanted = leader.exit_signal == SIGCHLD and (actions.handler == SIG_IGN or actions.flags & SA_NOCLDWAIT)
    if leader.exit_signal and not (leader.exit_signal == SIGCHLD and actions.handler == SIG_IGN):
        info = Change(leader.pid, leader.cred.uid.real, leader.status, group.utime, group.stime).info()
        kernel.signals.send_signal(parent, leader.exit_signal, SigInfo(leader.exit_signal, info.code, info.union))
    if unwanted:
        parent.children.remove(leader)
        release_task(kernel, leader)
    kernel.signals.wake_waiter(parent)
    if leader is kernel.tasks.program and parent is not kernel.tasks.init:
        end_shell(kernel, parent)


def end_shell(kernel: Kernel, shell: Task) -> None:
    """The program that a shell waited for has ended, so does the shell, or a signal ended it.

    Its session loses the terminal, its children are init's, and so is what is left of it, which needs no wait.
    """
    shell.state = State.DEAD
    shell.signals.private.flush()
    shell.group.shared.flush()
    del kernel.tasks[shell.pid]
    forget_original_parent(kernel, shell)
    kernel.jobctl.leave_session(shell)
    if shell.parent is not None:
        shell.parent.children.remove(shell)


def forget_original_parent(kernel: Kernel, task: Task) -> None:
    """To another thread, or to init, who waits for whoever ends; groups that lose who could continue them are told."""
    heir = next((each for each in task.group.threads if each is not task and not each.exiting), None)
    if heir is not None:
        for child in tuple(task.children):
            set_parent(child, heir)
        task.children.clear()
        return
    init = kernel.tasks.init
    groups = {child.pgid for child in task.children if not child.group.is_dead}
    owned = {group for group in groups if not is_orphaned(kernel.tasks, group)}
    for child in tuple(task.children):
        set_parent(child, init)
        child.exit_signal = SIGCHLD
        if child.group.is_dead and child.ptrace is None:
            if init is not None:
                init.children.remove(child)
            release_task(kernel, child)
    task.children.clear()
    for group in sorted(owned):
        kill_orphaned_pgrp(kernel, group)


def set_parent(child: Task, parent: Task | None) -> None:
    """A process gets another parent, which takes it among its children."""
    for task in child.group.threads:
        task.parent = parent
    if parent is not None:
        parent.children.append(child)


def kill_orphaned_pgrp(kernel: Kernel, group: int) -> None:
    """A group that nobody can continue any more, and that has stopped, is told."""
    if is_orphaned(kernel.tasks, group) and has_stopped(kernel.tasks, group):
        kernel.jobctl.hang_up_group(group)


def _leave_session(kernel: Kernel, task: Task) -> None:
    """The task's own group may be orphaned now; a session leader takes its terminal with it."""
    kernel.jobctl.leave_session(task)
    parent = task.parent
    if parent is not None and parent.pgid != task.pgid and parent.sid == task.sid:
        kill_orphaned_pgrp(kernel, task.pgid)


def drop_held(task: Task) -> None:
    """The open files that a call used are let go."""
    for file in task.held:
        file.put()
    task.held.clear()


def release_vfork(kernel: Kernel, task: Task) -> None:
    """A parent that waits in vfork goes on."""
    parent, task.vfork_parent = task.vfork_parent, None
    if parent is not None:
        kernel.sched.wake(parent)


def do_wait(kernel: Kernel, task: Task, pid: int, options: int) -> Change | None:
    """What happened to a child that wait4 may choose (pid > 0, 0, -1, < -1); None with WNOHANG when nothing has.

    A child that ended is buried, unless WNOWAIT.  Raises KernelError: ECHILD when there is none to wait for,
    ERESTARTSYS.
    """
    while True:
        threads = (task,) if options & WNOTHREAD else task.group.threads
        children = _children(kernel, task, threads, pid, options)
        traced = [child for each in threads for child in each.ptraced if _matches(task, child, pid, WALL)]
        if not children and not traced:
            raise KernelError(ECHILD)
        changes = [(_traced_change, child) for child in traced]
        changes += [(_change, child) for child in children if not traced_by_parent(child)]
        for change, child in changes:
            found = change(kernel, task, child, options)
            if found is not None:
                return found
        if options & WNOHANG:
            return None
        if task.pending:
            raise KernelError(ERESTARTSYS)
        kernel.sched.sleep(task, "a child")


def _change(kernel: Kernel, task: Task, child: Task, options: int) -> Change | None:
    keep = options & WNOWAIT
    group, uid = child.group, child.cred.uid.real
    if group.is_dead and options & WEXITED and child.ptrace is None:
        return _ended(kernel, task, child, keep)
    if group.stopped and group.stop_signal and options & WUNTRACED:
        status = group.stop_signal << 8 | STOPPED_STATUS
        if not keep:
            group.stop_signal = 0
        return Change(child.pid, uid, status, group.utime, group.stime)
    if group.continued and options & WCONTINUED:
        if not keep:
            group.continued = False
        return Change(child.pid, uid, CONTINUED_STATUS, group.utime, group.stime)
    return None


def _ended(kernel: Kernel, task: Task, child: Task, keep: int) -> Change:
    """A process has ended: it is buried, unless the caller keeps it."""
    group = child.group
    used, system = group.utime + group.children_utime, group.stime + group.children_stime
    if not keep:
        if child.parent is not None:
            child.parent.children.remove(child)
        task.group.children_utime += used
        task.group.children_stime += system
        release_task(kernel, child)
    return Change(child.pid, child.cred.uid.real, child.status, used, system)


def _traced_change(kernel: Kernel, task: Task, child: Task, options: int) -> Change | None:
    """The same of a task that the caller's process traces: its own stops and its own end, be it a thread or not."""
    tracee, group, uid = child.ptrace, child.group, child.cred.uid.real
    assert tracee is not None
    delayed = child.is_leader and not group.is_dead
    if child.state is State.ZOMBIE and options & WEXITED and not delayed:
        if traced_by_parent(child) and child.is_leader:
            return _ended(kernel, task, child, options & WNOWAIT)
        status = child.status if group.exit_code is None else group.exit_code
        if not options & WNOWAIT:
            _bury(kernel, child)
        return Change(child.pid, uid, status, child.utime, child.stime)
    if child.state is State.TRACED and tracee.code and not tracee.listening:
        code = tracee.code
        if not options & WNOWAIT:
            tracee.code = 0
        return Change(child.pid, uid, code << 8 | STOPPED_STATUS, group.utime, group.stime, trapped=True)
    if group.continued and options & WCONTINUED:
        return _change(kernel, task, child, options & ~(WEXITED | WUNTRACED))
    return None


def _bury(kernel: Kernel, child: Task) -> None:
    """A tracer has waited for the end of a task: a process is its parent's now, a thread is gone."""
    unlink(kernel, child)
    if child.is_leader:
        tell_parent(kernel, child)
    else:
        release_task(kernel, child)
        thread_gone(kernel, child.group)


def _tell_tracer(kernel: Kernel, task: Task) -> bool:
    """A traced task has ended: its tracer is to wait for it; False where nobody does."""
    if task.ptrace is None:
        return False
    tracer = task.ptrace.tracer
    actions = tracer.signals.hand.actions[SIGCHLD]
    if actions.handler == SIG_IGN or actions.flags & SA_NOCLDWAIT:
        unlink(kernel, task)
    if actions.handler != SIG_IGN:
        status = task.status if task.group.exit_code is None else task.group.exit_code
        change = Change(task.pid, task.cred.uid.real, status, task.utime, task.stime)
        kernel.signals.send_signal(tracer, SIGCHLD, change.info())
    kernel.signals.wake_waiter(tracer)
    return task.ptrace is not None


def exit_ptrace(kernel: Kernel, tracer: Task) -> None:
    """A tracer ends: whom it traces goes on without it, or ends too (PTRACE_O_EXITKILL)."""
    for child in tuple(tracer.ptraced):
        assert child.ptrace is not None
        if child.ptrace.options & PTRACE_O_EXITKILL:
            kernel.signals.send_signal(child, SIGKILL)
        detach(kernel, child)


def detach(kernel: Kernel, child: Task) -> None:
    """A task is not traced any more; one that has ended is buried, or left to its parent."""
    own = traced_by_parent(child)
    unlink(kernel, child)
    if child.state is not State.ZOMBIE:
        return
    if not child.is_leader:
        release_task(kernel, child)
        thread_gone(kernel, child.group)
    elif child.group.is_dead and not own:
        tell_parent(kernel, child)


def _children(kernel: Kernel, task: Task, threads: Sequence[Task], pid: int, options: int) -> list[Task]:
    """The children of threads that a wait may choose; one that is named is found by its number."""
    if pid <= 0:
        return [child for each in threads for child in each.children if _matches(task, child, pid, options)]
    child = kernel.tasks.get(pid)
    mine = child is not None and child.is_leader and child.parent in threads and _matches(task, child, pid, options)
    return [child] if child is not None and mine else []


def _matches(task: Task, child: Task, pid: int, options: int) -> bool:
    """A child with another signal at its end than SIGCHLD is a clone, and only found with one of the options."""
    if not options & WALL and (child.exit_signal != SIGCHLD) != bool(options & WCLONE):
        return False
    if pid > 0:
        return child.pid == pid
    if pid == -1:
        return True
    return child.pgid == (task.pgid if pid == 0 else -pid)


def _tell_pidfds(kernel: Kernel, group: ThreadGroup) -> None:
    if group.ended is not None:
        kernel.sched.wake_up(group.ended)


def release_task(kernel: Kernel, task: Task) -> None:
    """Nothing is left of a thread but the time that it ran."""
    unlink(kernel, task)
    task.state = State.DEAD
    group = task.group
    _tell_pidfds(kernel, group)
    task.signals.private.flush()
    if task.is_leader:
        group.shared.flush()
    else:
        group.threads.remove(task)
        group.ended_utime += task.utime
        group.ended_stime += task.stime
    kernel.tasks.pop(task.pid, None)
    kernel.stacks.keep(task)
