"""Signals: sending, forcing, and carrying out what waits when a task returns to ring 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

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
    NSIG,
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
    SIGBUS,
    SIGCHLD,
    SIGCONT,
    SIGFPE,
    SIGILL,
    SIGKILL,
    SIGPIPE,
    SIGSEGV,
    SIGSTOP,
    SIGTRAP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    UNBLOCKABLE,
    Action,
    default_action,
    name_of,
)
from sandbox.kernel.abi.structs import SigAction
from sandbox.kernel.base.events import Killed, SignalDelivered
from sandbox.kernel.mm.rlimit import RLIMIT_CORE
from sandbox.kernel.task.sigframe import setup_frame
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task, TaskExit

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

__all__ = [
    "SIGBUS", "SIGFPE", "SIGILL", "SIGKILL", "SIGPIPE", "SIGSEGV", "SIGTRAP", "deliver", "die", "force_fault",
    "force_signal", "send_signal", "signal_name", "would_act",
]  # fmt: skip
LAST_SIGNAL = NSIG
CORE_FLAG = 0x80
STOPPING = sum(bit_of(number) for number in (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))
_INT_80_BYTES = 2
signal_name = name_of


# -- sending -----------------------------------------------------------------------------------------------------


def send_signal(kernel: Kernel, task: Task, number: int, info: SigInfo | None = None) -> bool:
    """Let a signal wait for a task, wake it, continue it; False when the queue is full.  Number 0 does nothing."""
    if not number or task.state in (State.ZOMBIE, State.DEAD):
        return True
    state = task.signals
    bit = bit_of(number)
    if bit & STOPPING:
        state.discard(bit_of(SIGCONT))
    elif number in (SIGCONT, SIGKILL):
        if number == SIGCONT:
            state.discard(STOPPING)
        _resume(kernel, task, number)
    if is_ignored(task, number):
        return True
    if kernel.broken("no-sigqueue") and state.waiting & bit:
        return True
    if not state.enqueue(info or SigInfo.sent(number, SI_KERNEL, 0)):
        return False
    if bit & ~state.blocked or bit & state.awaited:
        task.pending = int(bool(state.deliverable))
        kernel.sched.wake(task)
    return True


def is_ignored(task: Task, number: int) -> bool:
    """The signal would do nothing: it is not even kept, unless it is blocked and may yet get a handler."""
    state = task.signals
    if bit_of(number) & (state.blocked | state.awaited):
        return False
    handler = state.hand.actions[number].handler
    return handler == SIG_IGN or (handler == SIG_DFL and default_action(number) in (Action.IGNORE, Action.CONTINUE))


def would_act(task: Task, number: int) -> bool:
    """The signal is neither blocked nor ignored."""
    state = task.signals
    return not bit_of(number) & state.blocked and state.hand.actions[number].handler != SIG_IGN


def force_signal(kernel: Kernel, task: Task, number: int, report: str) -> None:
    """A signal of the kernel's that ends the task at its next return to ring 3; the report says why."""
    force_info(kernel, task, SigInfo.sent(number, SI_KERNEL, 0), lambda: report, fatal=True)


def force_fault(kernel: Kernel, task: Task, info: SigInfo, report: Callable[[], str]) -> None:
    """An instruction caused a signal: a handler gets it; if there is none that can, the task dies with the report."""
    force_info(kernel, task, info, report)


def force_info(kernel: Kernel, task: Task, info: SigInfo, report: Callable[[], str], *, fatal: bool = False) -> None:
    """A signal that cannot be put off: where it is blocked or ignored, or is to be ``fatal``, its default is back."""
    state, bit = task.signals, bit_of(info.signo)
    action = state.hand.actions[info.signo]
    if fatal or state.blocked & bit or action.handler == SIG_IGN:
        state.hand.actions[info.signo] = action = replace(action, handler=SIG_DFL)
        state.blocked &= ~bit
    if action.handler == SIG_DFL and not task.report:
        task.report = report()
    send_signal(kernel, task, info.signo, info)


def _resume(kernel: Kernel, task: Task, number: int) -> None:
    """SIGCONT or SIGKILL reaches a task that is stopped."""
    if task.state is State.STOPPED:
        kernel.sched.resume(task)
        task.signals.stop_signal = 0
        if number == SIGCONT:
            task.signals.continued = True
            _tell_parent(kernel, task, CLD_CONTINUED, SIGCONT)


def _tell_parent(kernel: Kernel, task: Task, code: int, status: int) -> None:
    """A parent learns that a child stopped or went on."""
    parent = task.parent
    if parent is None:
        return
    action = parent.signals.hand.actions[SIGCHLD]
    if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
        send_signal(kernel, parent, SIGCHLD, SigInfo.child(SIGCHLD, code, task.pid, 0, status, task.utime))
    wake_waiter(kernel, parent)


def wake_waiter(kernel: Kernel, parent: Task) -> None:
    """Something happened to a child: a parent that waits looks again."""
    if parent.wchan == "a child" and parent.state is State.SLEEPING:
        kernel.sched.wake(parent)


def set_blocked(task: Task, mask: int) -> None:
    """Change a task's mask; what it lets through is carried out at the next return to ring 3."""
    task.signals.blocked = mask & ~UNBLOCKABLE
    recalculate(task)


def recalculate(task: Task) -> None:
    """Set ``pending`` to what the queue and the mask say."""
    task.pending = int(bool(task.signals.deliverable) or task.signals.interrupted >= 0)


# -- carrying out ------------------------------------------------------------------------------------------------


def deliver(kernel: Kernel, task: Task) -> None:
    """Before a return to ring 3: handlers get their frames, defaults happen, interrupted calls are restarted.

    Raises TaskExit when a signal ends the task.
    """
    state = task.signals
    while True:
        info = state.dequeue(~state.blocked)
        if info is not None:
            action = state.hand.actions[info.signo]
            if kernel.bus.active:
                kernel.bus.emit(
                    SignalDelivered(kernel.sched.now, task.cpu.index, task.pid, info.signo, info.code, info.union)
                )
            if action.handler == SIG_IGN and not bit_of(info.signo) & UNBLOCKABLE:
                continue
            if action.handler != SIG_DFL:
                _handle(kernel, task, info, action)
            else:
                _default(kernel, task, info)
            continue
        _restart(kernel, task)
        if state.saved_mask is not None:
            state.blocked, state.saved_mask = state.saved_mask, None
        if not state.deliverable:
            task.pending = 0
            return


def _handle(kernel: Kernel, task: Task, info: SigInfo, action: SigAction) -> None:
    state, number = task.signals, info.signo
    if action.flags & SA_RESETHAND:
        state.hand.actions[number] = replace(action, handler=SIG_DFL)
    _restart(kernel, task, action)
    if not setup_frame(kernel, task, info, action):
        segv = SigInfo.sent(SIGSEGV, SI_KERNEL, 0)
        esp = task.context.esp
        said = f"the frame for the handler of {name_of(number)} could not be stored (esp {esp:#010x})"
        if task.report:
            said += "\n" + task.report
            task.report = ""
        force_info(kernel, task, segv, lambda: said, fatal=number == SIGSEGV)
        return
    state.saved_mask = None
    if kernel.broken("no-sigmask"):
        return
    added = action.mask | (0 if action.flags & SA_NODEFER else bit_of(number))
    state.blocked = (state.blocked | added) & ~UNBLOCKABLE


def _default(kernel: Kernel, task: Task, info: SigInfo) -> None:
    number = info.signo
    what = default_action(number)
    if what in (Action.IGNORE, Action.CONTINUE):
        return
    if what is Action.STOP:
        from sandbox.kernel.drivers.jobctl import is_orphaned

        if kernel.broken("no-stop"):
            return
        if number == SIGSTOP or not is_orphaned(kernel, task.pgid):
            _stop(kernel, task, number)
        return
    task.report = task.report or _sender(kernel, info)
    die(kernel, task, number)


def _sender(kernel: Kernel, info: SigInfo) -> str:
    if info.code not in (SI_USER, SI_TKILL, SI_QUEUE):
        return "sent by the kernel"
    sender = kernel.tasks.get(info.pid)
    return f"sent by task {info.pid}" + (f" ({sender.comm})" if sender is not None else "")


def _stop(kernel: Kernel, task: Task, number: int) -> None:
    """Until SIGCONT or SIGKILL."""
    task.signals.stop_signal = number
    task.signals.continued = False
    task.state = State.STOPPED
    _tell_parent(kernel, task, CLD_STOPPED, number)
    kernel.sched.stop(task)


def _restart(kernel: Kernel, task: Task, action: SigAction | None = None) -> None:
    """An interrupted system call fails with EINTR or is made again: EIP goes back over INT 0x80."""
    state, context = task.signals, task.context
    number, state.interrupted = state.interrupted, -1
    if number < 0:
        return
    error = -context.eax & 0xFFFFFFFF
    if action is not None:
        flags = 0 if kernel.broken("no-sa-restart") else action.flags
        again = error == ERESTARTNOINTR or (error == ERESTARTSYS and bool(flags & SA_RESTART))
        if not again:
            context.eax = -EINTR
            return
    elif error == ERESTART_RESTARTBLOCK:
        number = NUMBERS["restart_syscall"]
    context.eax = number
    context.eip -= _INT_80_BYTES
    context.resumes_at = context.passes = -1


def die(kernel: Kernel, task: Task, number: int) -> NoReturn:
    """A signal ends the task.  Raises TaskExit with the wait status."""
    if kernel.bus.active:
        kernel.bus.emit(Killed(kernel.sched.now, task.cpu.index, task.pid, number, task.report))
    kernel.deaths.append((task.pid, task.comm, number, task.report))
    dumps = default_action(number) is Action.CORE and task.limits[RLIMIT_CORE][0] > 0
    raise TaskExit(number | (CORE_FLAG if dumps else 0))
