"""What a signal would do to a task, what waits for it, and who traces it: questions that many ask."""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SIG_DFL, SIG_IGN, SIGKILL, Action, default_action
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import Task, ThreadGroup

KILL = bit_of(SIGKILL)


class Tracing(Protocol):
    """What becomes of signals and stops of a task that is traced; ``task.ptrace`` has it."""

    def signal(self, task: Task, info: SigInfo) -> SigInfo | None:
        """The tracer sees a signal before it is carried out; what is left of it."""
        ...

    def trap(self, task: Task) -> bool:
        """Stop for what is no signal: an interruption by the tracer, the stop of the process."""
        ...

    def continued(self, task: Task) -> None:
        """SIGCONT has reached the process, stopped or not."""
        ...

    def stepped_into(self, task: Task) -> None:
        """A handler has its frame."""
        ...


def is_ignored(task: Task, number: int) -> bool:
    """The signal would do nothing: it is not even kept, unless it is blocked and may yet get a handler."""
    state = task.signals
    if bit_of(number) & (state.blocked | state.awaited) or (task.ptrace is not None and number != SIGKILL):
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


def discard(group: ThreadGroup, mask: int) -> None:
    """Forget signals that wait for a process or one of its threads."""
    group.shared.discard(mask)
    for task in group.threads:
        task.signals.private.discard(mask)


def recalculate(task: Task) -> None:
    """Set ``pending`` to what the queues, the mask and the process say."""
    state, group = task.signals, task.group
    wanted = state.deliverable or state.interrupted >= 0 or group.stopping or group.must_end(task)
    wanted = wanted or (task.ptrace is not None and task.ptrace.trap)
    task.pending = int(bool(wanted))


def traced_by_parent(task: Task) -> bool:
    """Who traces it is its parent's process too, so that nobody else waits for it (not ``ptrace_reparented``)."""
    tracee = task.ptrace
    return tracee is not None and task.parent is not None and tracee.tracer.group is task.parent.group


def is_dying(task: Task) -> bool:
    """Whatever it waits for, it need not wait any longer (``fatal_signal_pending``)."""
    return bool(task.signals.waiting & KILL) or task.group.must_end(task)
