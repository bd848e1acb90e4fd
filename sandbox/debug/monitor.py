"""What a debugger installs in a kernel's trap handler: single steps, stops, and a look at every page fault."""

from __future__ import annotations

from sandbox.engine.context import CpuContext
from sandbox.engine.exits import BlocksSpent, Exit, Paused, Stepped, Trap
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.task.task import Task


class Watcher:
    """A monitor that only looks; who wants to be told overrides ``fault`` and ``stopped``."""

    def run(self, task: Task, blocks: int) -> Exit:
        return task.cpu.vcpu.run(blocks)

    def fault(self, task: Task | None, context: CpuContext, trap: Trap) -> None:
        """A page fault, before anything is done about it; ``task`` is None while a CPU has none."""

    def trapped(self, task: Task, trap: Trap) -> None:
        """A trap ended ``run``, and has been answered."""

    def stopped(self, cpu: KernelCpu, exit_: Exit) -> None:
        """A breakpoint, or steps are done."""


class Stepper(Watcher):
    """``steps`` instructions of ring 3 are run at a time, None for no stepping."""

    def __init__(self) -> None:
        self.steps: int | None = None
        self._stepped = False
        """The last run counted instructions, beginning at ``_began``."""
        self._began = 0

    def run(self, task: Task, blocks: int) -> Exit:
        vcpu = task.cpu.vcpu
        self._began = vcpu.instructions
        self._stepped = self.steps is not None
        exit_ = vcpu.run(blocks, self.steps)
        if self.steps is not None and isinstance(exit_, BlocksSpent | Paused):
            self.steps -= vcpu.instructions - self._began
        return exit_

    def trapped(self, task: Task, trap: Trap) -> None:
        """Take what was done off the steps; a faulting instruction is not done, unless the kernel did it."""
        if not self._stepped or self.steps is None:
            return
        executed = task.cpu.vcpu.instructions - self._began
        done = trap.software or task.context.eip != trap.eip
        self.steps -= executed if done else executed - 1
        if self.steps > 0:
            return
        if task.pending:
            self.steps = 1
        else:
            self.stopped(task.cpu, Stepped(task.context.eip))
