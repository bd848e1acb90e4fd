"""What a debugger installs in a kernel's trap handler: a look at every page fault, and at the end of a kernel."""

from __future__ import annotations

from sandbox.engine.context import CpuContext
from sandbox.engine.exits import Exit, Trap
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.task.task import Task


class Watcher:
    """A monitor that only looks; who wants to be told overrides what it wants."""

    asks = True

    def fault(self, task: Task | None, context: CpuContext, trap: Trap) -> None:
        """A page fault, before anything is done about it; ``task`` is None while a CPU has none."""

    def dying(self, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> None:
        """Kernel code faulted where nothing has an answer."""

    def wrong(self, cpu: KernelCpu, what: str) -> None:
        """The run ends with an error of its own."""
