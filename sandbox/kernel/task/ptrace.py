"""Stops of traced tasks (kernel/signal.c, include/linux/ptrace.h): where a task stands still for its tracer, and why.

A stop has a code, which wait(2) gives in bits 8 and up: a signal that is about to be delivered; SIGTRAP, with 0x80
where the tracer asked for that, before and after a system call; SIGTRAP and the number of an event above it; the signal
that stopped the whole process.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import ENOSYS
from sandbox.kernel.abi.ptrace import (
    PTRACE_EVENT_EXEC,
    PTRACE_EVENT_STOP,
    PTRACE_O_TRACESYSGOOD,
)
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import (
    CLD_STOPPED,
    CLD_TRAPPED,
    SI_KERNEL,
    SI_USER,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGSEGV,
    SIGTRAP,
    TRAP_BRKPT,
)
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.signal import STOPPING, Signals
from sandbox.kernel.task.sigpending import is_caught, is_dying
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task, Tracee
from sandbox.x86.masks import TF

DEADLY = (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP)
"""What instructions cause."""
ENTERED_BIT = 0x80
NO_CALL = 0xFFFFFFFF


class PtraceStops:
    """``signal.Tracing``: lets traced tasks stop, and tells their tracers."""

    __slots__ = ("_sched", "_signals")

    def __init__(self, sched: Scheduler, signals: Signals) -> None:
        self._sched, self._signals = sched, signals

    # -- stopping ------------------------------------------------------------------------------------------------

    def stop(self, task: Task, code: int, info: SigInfo | None, why: int = CLD_TRAPPED, dying: bool = False) -> int:
        """Stand still until the tracer lets the task go on, or SIGKILL comes; the signal that the tracer gave.

        Who is to die does not stop, unless it is ``dying`` already (``ptrace_stop``).
        """
        tracee = task.ptrace
        if tracee is None or (is_dying(task) and not dying):
            return code & 0x7F
        tracee.code, tracee.info, tracee.signal = code, info, 0
        task.state = State.TRACED
        self._signals.stop_if_last(task.group)
        self._tell(task, tracee, why)
        self._sched.stop(task, State.TRACED)
        tracee.code, tracee.listening = 0, False
        task.pending = 1
        return tracee.signal

    def _tell(self, task: Task, tracee: Tracee, why: int) -> None:
        self._signals.tell(tracee.tracer, task, why, tracee.code & 0x7F)

    def notify(self, task: Task, code: int, dying: bool = False) -> int:
        """A stop of the kernel's own making, whose siginfo names the code (``ptrace_notify``)."""
        info = SigInfo.sent(SIGTRAP, code, task.pid, task.cred.uid.real)
        return self.stop(task, code, info, dying=dying)

    # -- events --------------------------------------------------------------------------------------------------

    def wants(self, task: Task, event: int) -> bool:
        """The tracer has asked for an event (its option is the bit of its number)."""
        return task.ptrace is not None and bool(task.ptrace.options >> event & 1)

    def event(self, task: Task, event: int, message: int, dying: bool = False) -> None:
        """Stop for an event, if the tracer asked for it.  An exec that it did not ask for is a SIGTRAP."""
        tracee = task.ptrace
        if tracee is None:
            return
        if self.wants(task, event):
            tracee.message = message
            self.notify(task, SIGTRAP | event << 8, dying)
        elif event == PTRACE_EVENT_EXEC and not tracee.seized:
            self._signals.send_signal(task, SIGTRAP, SigInfo.sent(SIGTRAP, SI_USER, task.tgid), thread=True)

    # -- system calls --------------------------------------------------------------------------------------------

    def enter(self, task: Task) -> bool:
        """Before a call: the tracer may change its number and arguments; False when it is not to be made."""
        tracee = task.ptrace
        if tracee is None or not (tracee.calls or tracee.emulated):
            return True
        emulated = tracee.emulated
        task.context.eax = -ENOSYS
        self._report_call(task, tracee)
        return not emulated and not is_dying(task) and task.orig_eax & NO_CALL != NO_CALL

    def leave(self, task: Task) -> None:
        """After it: the tracer sees and may change the result.  A step over a call ends here."""
        tracee = task.ptrace
        if tracee is None:
            return
        if tracee.step:
            info = SigInfo.fault(SIGTRAP, TRAP_BRKPT, task.context.eip)
            self._signals.send_signal(task, SIGTRAP, info, thread=True)
        elif tracee.calls and not is_dying(task):
            self._report_call(task, tracee)

    def _report_call(self, task: Task, tracee: Tracee) -> None:
        good = tracee.options & PTRACE_O_TRACESYSGOOD
        tracee.message = 0
        given = self.notify(task, SIGTRAP | (ENTERED_BIT if good else 0))
        if given:
            self._signals.send_signal(task, given, SigInfo.sent(given, SI_KERNEL, 0), thread=True)

    # -- signals (sigpending.Tracing) ----------------------------------------------------------------------------

    def signal(self, task: Task, info: SigInfo) -> SigInfo | None:
        tracee = task.ptrace
        assert tracee is not None
        report, tracee.report, tracee.may_stop = tracee.report, None, True
        number = self.stop(task, info.signo, info)
        if not number:
            return None
        info = tracee.info or info
        if number != info.signo:
            info = SigInfo.sent(number, SI_USER, tracee.tracer.tgid, tracee.tracer.cred.uid.real)
        if bit_of(number) & task.signals.blocked or is_dying(task):
            self._signals.send_signal(task, number, info, thread=True)
            return None
        if bit_of(number) & STOPPING and not tracee.may_stop and not is_caught(task, number):
            return None
        if report is not None and number in DEADLY and not task.report and not is_caught(task, number):
            task.report = report()
        return info

    def trap(self, task: Task) -> bool:
        tracee, stopping = task.ptrace, task.group.stopping
        assert tracee is not None
        if not (tracee.trap or (stopping and not tracee.group_stop)):
            return False
        tracee.trap, tracee.group_stop = False, bool(stopping)
        number = stopping or SIGTRAP
        if not tracee.seized:
            self.stop(task, number, None, CLD_STOPPED)
        else:
            code = number | PTRACE_EVENT_STOP << 8
            self.stop(task, code, SigInfo.sent(number, code, task.pid, task.cred.uid.real), CLD_STOPPED)
        return True

    def continued(self, task: Task) -> None:
        tracee = task.ptrace
        assert tracee is not None
        tracee.group_stop = tracee.may_stop = False
        if not tracee.seized:
            return
        if task.state is State.TRACED and not tracee.listening:
            tracee.trap = True
        else:
            self.interrupt(task)

    def interrupt(self, task: Task) -> None:
        """A seized task is to stop soon; one that listens tells at once that it has (PTRACE_INTERRUPT)."""
        tracee = task.ptrace
        assert tracee is not None
        tracee.trap = True
        if (task.state is State.TRACED and tracee.listening) or task.state is State.STOPPED:
            self._sched.resume(task)
        elif task.state is not State.TRACED:
            task.pending = 1
            self._sched.wake(task)

    def stepped_into(self, task: Task) -> None:
        """A step into a handler ends before its first instruction; what is in the frame has no TF of the tracer's."""
        tracee = task.ptrace
        assert tracee is not None
        tracee.forced_flag = False
        if tracee.step:
            self.notify(task, SIGTRAP)


def set_stepping(task: Task, on: bool) -> None:
    """Let the next return to ring 3 end after an instruction, or not (``user_enable_single_step``)."""
    tracee, context = task.ptrace, task.context
    assert tracee is not None
    tracee.step = on
    if on and not context.eflags & TF:
        context.eflags |= TF
        tracee.forced_flag = True
    elif not on and tracee.forced_flag:
        context.eflags &= ~TF
        tracee.forced_flag = False
