"""What becomes of a signal at which the guest has stopped, before it is delivered: ptrace(2), signal-delivery-stop.

Who goes on says: as it was (nothing said), none (0), or another; as PTRACE_CONT's ``data`` does.  And who does not go
on: a task that is held stands still at the border of ring 3, as one that its tracer has not continued; what it does in
the kernel, it does to the end.
"""

from __future__ import annotations

from sandbox.debug.goals import Steps
from sandbox.debug.run_control import RunControl
from sandbox.engine.cpu import Cpu
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_USER
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import State, Task


class SignalJudge:
    """``SignalDelivery.judge`` of a kernel under a debugger."""

    def __init__(self, kernel: Kernel, control: RunControl) -> None:
        self._signals, self._sched, self._tasks, self._cpus = kernel.signals, kernel.sched, kernel.tasks, kernel.cpus
        self._control = control
        self.verdict: int | None = None
        """The number that the signal shall have; 0 for no signal, None for what it is."""
        self.info: SigInfo | None = None
        """What shall be known of it, where that was changed."""
        self.held: frozenset[int] = frozenset()
        """Tasks, by their pids, that are not to run in ring 3."""
        self._resting: set[int] = set()
        """Those of them that have come to its border."""

    def __call__(self, task: Task, info: SigInfo) -> SigInfo | None:
        """What is left of a signal.  One that is blocked waits, as another one that a tracer gives does."""
        verdict, changed = self.verdict, self.info
        self.verdict = self.info = None
        self._count_step(task)
        number = info.signo if verdict is None else verdict
        if number != info.signo:
            task.report = ""
        if not number:
            return None
        if number != info.signo:
            info = SigInfo.sent(number, SI_USER, 0)
        elif changed is not None and changed.signo == number:
            info = changed
        if bit_of(number) & task.signals.blocked:
            self._signals.send_signal(task, number, info, thread=True)
            return None
        return info

    # -- standing still ------------------------------------------------------------------------------------------

    def hold(self, wanted: frozenset[int]) -> None:
        """These tasks, by their pids, are not to run in ring 3; whoever else was held goes on."""
        freed = [self._tasks[pid] for pid in sorted(self._resting - wanted) if pid in self._tasks]
        self.held = wanted
        self._resting &= wanted
        for task in freed:
            if task.state is State.TRACED:
                self._sched.resume(task)
                self._control.yields = True  # who runs does so for as long as nobody else was there
        self._control.holds = self._comes if wanted else None

    def _comes(self, cpu: Cpu) -> bool:
        """A CPU is about to run a task that is held: it shall look at what is pending first."""
        task = self._sched.task_of(self._cpus[cpu.index])
        if task is None or task.pid not in self.held or cpu.context is not task.context or task.group.must_end(task):
            return False
        task.pending = 1
        return True

    def holds(self, task: Task) -> bool:
        """At the border of ring 3."""
        if task.pid in self.held:
            self._resting.add(task.pid)
        return task.pid in self.held

    def _count_step(self, task: Task) -> None:
        """A step that leads into a handler ends before its first instruction."""
        goal = self._control.goal
        if isinstance(goal, Steps) and goal.flow == ("task", task.pid):
            goal.faulted_at = task.context.eip

    def inject(self, task: Task, number: int) -> None:
        """A signal of the debugger's own, delivered before the task's next instruction."""
        self._signals.send_signal(task, number, SigInfo.sent(number, SI_USER, 0), thread=True)
        self._control.yields = True
