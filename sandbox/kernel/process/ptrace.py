"""Who traces whom: the ties of ptrace(2), from TRACEME, ATTACH and SEIZE to DETACH (kernel/ptrace.c)."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EIO, ENOSYS, EPERM, ESRCH, KernelError
from sandbox.kernel.abi.flags import CLONE_PTRACE, CLONE_UNTRACED, CLONE_VFORK
from sandbox.kernel.abi.ptrace import (
    PTRACE_EVENT_CLONE,
    PTRACE_EVENT_EXEC,
    PTRACE_EVENT_FORK,
    PTRACE_EVENT_VFORK,
)
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_KERNEL, SI_USER, SIGCHLD, SIGSTOP
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.desc import USER_CS, USER_DS
from sandbox.kernel.task.ptrace import set_stepping
from sandbox.kernel.task.task import State, Task, Tracee
from sandbox.x86.masks import IF


def may_access(task: Task, target: Task, *, by_file: bool = False) -> bool:
    """PTRACE_MODE_ATTACH: the same process, the same user and group in all ids, or root.

    ``by_file`` compares the file system ids of who asks (``/proc``), else the real ones.
    """
    if task.group is target.group or task.cred.capable:
        return True
    mine, theirs = task.cred, target.cred
    uid, gid = (mine.uid.fs, mine.gid.fs) if by_file else (mine.uid.real, mine.gid.real)
    same = {theirs.uid.real, theirs.uid.effective, theirs.uid.saved} == {uid}
    return same and {theirs.gid.real, theirs.gid.effective, theirs.gid.saved} == {gid}


def link(task: Task, tracer: Task, *, seized: bool = False, options: int = 0) -> None:
    """From now on a task is traced."""
    task.ptrace = Tracee(tracer, seized, options)
    tracer.ptraced.append(task)


def unlink(kernel: Kernel, task: Task) -> None:
    """It is not traced any more: it goes on, or stays stopped with its process."""
    tracee = task.ptrace
    if tracee is None:
        return
    if task.state not in (State.ZOMBIE, State.DEAD):
        set_stepping(task, False)
    task.ptrace = None
    tracee.tracer.ptraced.remove(task)
    if task.group.stopping and not task.exiting:
        task.pending = 1
        kernel.sched.wake(task)
    if task.state is State.TRACED:
        kernel.sched.resume(task)


def traceme(task: Task) -> None:
    """The parent is the tracer, unless it has no code (the shell), so that it would never ask.

    Raises KernelError(EPERM).
    """
    if task.ptrace is not None:
        raise KernelError(EPERM)
    if task.parent is not None and task.parent.runs and not task.parent.exiting:
        link(task, task.parent)


def attach(kernel: Kernel, tracer: Task, task: Task, *, seized: bool = False, options: int = 0) -> None:
    """Trace another process's task.  Raises KernelError(EPERM)."""
    ended = task.state in (State.ZOMBIE, State.DEAD) or task.exiting
    if task.group is tracer.group or not task.runs or task.kthread or not may_access(tracer, task):
        raise KernelError(EPERM)
    if task.ptrace is not None or ended:
        raise KernelError(EPERM)
    link(task, tracer, seized=seized, options=options)
    if not seized:
        kernel.signals.send_signal(task, SIGSTOP, SigInfo.sent(SIGSTOP, SI_KERNEL, 0), thread=True)
    if task.state is State.STOPPED:
        kernel.sched.resume(task)  # from the stop of its process into one for the tracer


def traced_task(kernel: Kernel, tracer: Task, pid: int, *, stopped: bool = True) -> Task:
    """Who the tracer asks about.  Raises KernelError(ESRCH) for one that it does not trace, or that does not stop."""
    task = kernel.tasks.get(pid)
    if task is None or task.ptrace is None or task.ptrace.tracer is not tracer:
        raise KernelError(ESRCH)
    if stopped and (task.state is not State.TRACED or task.ptrace.listening):
        raise KernelError(ESRCH)
    return task


def let_go_on(kernel: Kernel, task: Task, signal: int, *, step: bool = False) -> None:
    """A stopped task goes on, with a signal or without (0)."""
    tracee = task.ptrace
    assert tracee is not None
    set_stepping(task, step)
    tracee.signal = signal
    kernel.sched.resume(task)


# -- fork and exec ---------------------------------------------------------------------------------------------------


def fork_event(kernel: Kernel, task: Task, flags: int, exit_signal: int) -> int:
    """The event that a clone with these flags is for the maker's tracer, 0 for none."""
    if flags & CLONE_UNTRACED:
        return 0
    event = PTRACE_EVENT_FORK if exit_signal == SIGCHLD else PTRACE_EVENT_CLONE
    event = PTRACE_EVENT_VFORK if flags & CLONE_VFORK else event
    return event if kernel.tracing.wants(task, event) else 0


def trace_child(parent: Task, child: Task, flags: int, event: int) -> None:
    """A child of a traced task is traced too, if the tracer waits for such an event or CLONE_PTRACE was given."""
    tracee = parent.ptrace
    if tracee is None or not (event or flags & CLONE_PTRACE):
        return
    link(child, tracee.tracer, seized=tracee.seized, options=tracee.options)
    if tracee.seized:
        assert child.ptrace is not None
        child.ptrace.trap = True
    else:
        child.signals.private.enqueue(SigInfo.sent(SIGSTOP, SI_USER, 0))


def report_exec(kernel: Kernel, task: Task, before: int) -> None:
    """A traced task runs another program; ``before`` is the number that it had.

    It enters ring 3 here and not by ``start_thread``, so that its tracer finds it there.
    """
    tracee, context, desc = task.ptrace, task.context, kernel.desc
    if tracee is None:
        return
    start, stack = context.eax, context.edx
    desc.load_code(task, USER_CS)
    desc.load_stack(task, USER_DS)
    for name, selector in (("ds", USER_DS), ("es", USER_DS), ("fs", 0), ("gs", 0)):
        desc.load_data(task, name, selector)
    context.eip, context.esp, context.eflags = start, stack, IF
    for name in ("ebx", "ecx", "edx", "esi", "edi", "ebp"):
        setattr(context, name, 0)
    context.eax = -ENOSYS
    context.resumes_at = context.passes = -1
    tracee.forced_flag = False
    kernel.tracing.event(task, PTRACE_EVENT_EXEC, before)
    context.eax = 0


def check_seize(address: int, options: int, mask: int) -> None:
    """Raises KernelError(EIO) for what PTRACE_SEIZE does not know."""
    if address or options & ~mask:
        raise KernelError(EIO)
