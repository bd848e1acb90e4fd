"""The end of a task, and waiting for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from sandbox.kernel.abi.errno import ECHILD, ERESTARTSYS, KernelError
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import (
    CLD_CONTINUED,
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    SA_NOCLDWAIT,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
)
from sandbox.kernel.base.events import TaskChange
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.pgrp import has_stopped, is_orphaned
from sandbox.kernel.task.task import State, Task, TaskExit

WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x1000000
WALL, WCLONE = 0x40000000, 0x80000000
CONTINUED_STATUS, STOPPED_STATUS = 0xFFFF, 0x7F


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a child: its wait(2) status word, and what it and its children ran, in blocks."""

    pid: int
    uid: int
    status: int
    utime: int
    stime: int

    def info(self) -> SigInfo:
        """As waitid(2) and SIGCHLD tell it."""
        if self.status == CONTINUED_STATUS:
            code, value = CLD_CONTINUED, SIGCONT
        elif self.status & 0xFF == STOPPED_STATUS:
            code, value = CLD_STOPPED, self.status >> 8
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
    """Release what a task holds, leave a zombie for its parent, and give the CPU up."""
    cpu = task.cpu
    task.status = status
    kernel.posix_timers.delete_all(task)
    kernel.timers.clear_timers(task)
    if task.clear_child_tid and task.mm is not None and task.mm.users > 1:
        with suppress(KernelError):
            kernel.uaccess.put_user(task, task.clear_child_tid, bytes(4))
    mm, task.mm = task.mm, None
    kernel.mmu.switch_mm(cpu, None)
    if mm is not None:
        kernel.mmu.mmput(cpu, mm)
    release_vfork(kernel, task)
    kernel.sem.exit_sem(task)
    kernel.shm.forget_unused()
    task.files.close_all()
    forget_original_parent(kernel, task)
    if kernel.bus.active:
        kernel.bus.emit(TaskChange(kernel.clock.now, cpu.index, task.pid, "exit", f"status {status:#x}"))
    task.state = State.ZOMBIE
    _tell_pidfds(kernel, task)
    _leave_session(kernel, task)
    kernel.sched.leave_for_ever(task)
    parent = task.parent
    if parent is None:
        release_task(kernel, task)
        return
    actions = parent.signals.hand.actions[SIGCHLD]
    unwanted = task.exit_signal == SIGCHLD and (actions.handler == SIG_IGN or actions.flags & SA_NOCLDWAIT)
    if task.exit_signal and not (task.exit_signal == SIGCHLD and actions.handler == SIG_IGN):
        info = Change(task.pid, task.cred.uid.real, status, task.utime, task.stime).info()
        kernel.signals.send_signal(parent, task.exit_signal, SigInfo(task.exit_signal, info.code, info.union))
    if unwanted:
        parent.children.remove(task)
        release_task(kernel, task)
    kernel.signals.wake_waiter(parent)
    if task is kernel.tasks.program and parent is not kernel.tasks.init:
        end_shell(kernel, parent)


def end_shell(kernel: Kernel, shell: Task) -> None:
    """The program that a shell waited for has ended, so does the shell, or a signal ended it.

    Its session loses the terminal, its children are init's, and so is what is left of it, which needs no wait.
    """
    shell.state = State.DEAD
    del kernel.tasks[shell.pid]
    forget_original_parent(kernel, shell)
    kernel.jobctl.leave_session(shell)
    if shell.parent is not None:
        shell.parent.children.remove(shell)


def forget_original_parent(kernel: Kernel, task: Task) -> None:
    """To init, who waits for whoever ends; groups that lose who could continue them are told."""
    init = kernel.tasks.init
    groups = {child.pgid for child in task.children if child.state is not State.ZOMBIE}
    owned = {group for group in groups if not is_orphaned(kernel.tasks, group)}
    for child in task.children:
        child.parent, child.exit_signal = init, SIGCHLD
        if child.state is State.ZOMBIE:
            release_task(kernel, child)
        elif init is not None:
            init.children.append(child)
    task.children.clear()
    for group in sorted(owned):
        kill_orphaned_pgrp(kernel, group)


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
        wanted = [child for child in task.children if _matches(task, child, pid, options)]
        if not wanted:
            raise KernelError(ECHILD)
        for child in wanted:
            found = _change(kernel, task, child, options)
            if found is not None:
                return found
        if options & WNOHANG:
            return None
        if task.pending:
            raise KernelError(ERESTARTSYS)
        kernel.sched.sleep(task, "a child")


def _change(kernel: Kernel, task: Task, child: Task, options: int) -> Change | None:
    keep = options & WNOWAIT
    signals, uid = child.signals, child.cred.uid.real
    if child.state is State.ZOMBIE and options & WEXITED:
        used, system = child.utime + child.children_utime, child.stime + child.children_stime
        if not keep:
            task.children.remove(child)
            task.children_utime += used
            task.children_stime += system
            release_task(kernel, child)
        return Change(child.pid, uid, child.status, used, system)
    if child.state is State.STOPPED and signals.stop_signal and options & WUNTRACED:
        status = signals.stop_signal << 8 | STOPPED_STATUS
        if not keep:
            signals.stop_signal = 0
        return Change(child.pid, uid, status, child.utime, child.stime)
    if signals.continued and options & WCONTINUED:
        if not keep:
            signals.continued = False
        return Change(child.pid, uid, CONTINUED_STATUS, child.utime, child.stime)
    return None


def _matches(task: Task, child: Task, pid: int, options: int) -> bool:
    """A child with another signal at its end than SIGCHLD is a clone, and only found with one of the options."""
    if not options & WALL and (child.exit_signal != SIGCHLD) != bool(options & WCLONE):
        return False
    if pid > 0:
        return child.pid == pid
    if pid == -1:
        return True
    return child.pgid == (task.pgid if pid == 0 else -pid)


def _tell_pidfds(kernel: Kernel, task: Task) -> None:
    if task.ended is not None:
        kernel.sched.wake_up(task.ended)


def release_task(kernel: Kernel, task: Task) -> None:
    """Nobody needs to know of it any more."""
    task.state = State.DEAD
    _tell_pidfds(kernel, task)
    kernel.tasks.pop(task.pid, None)
    kernel.stacks.keep(task)
