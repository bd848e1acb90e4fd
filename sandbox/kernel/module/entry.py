"""The way into guest kernel code, for whoever calls a module's function."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.kmap_atomic import KmapError
from sandbox.kernel.mm.mm import active_mm
from sandbox.kernel.module.useraccess import UserCalls
from sandbox.x86.errors import SandboxError


class LeftWindow(SandboxError):
    """A module's function or handler came back with a kmap_atomic window open."""

    exit_status = 1


class GuestEntry:
    """Calls functions of modules; what they borrowed and did not give back is given back."""

    def __init__(self, kernel: Kernel, users: UserCalls) -> None:
        self.name_of: Callable[[int], str] = "{:#010x}".format
        """Function and module of a linear address."""
        self.opened: Callable[[], list[str]] = list
        """A line for each window that modules have open, with the place of the call."""
        kernel.irq.held, kernel.irq.left = kernel.highmem.depth, self._left
        self._kernel, self._users = kernel, users
        self._leaves_mm = kernel.broken("kernel-directory")

    def run_in_task(self, function: int, *arguments: int) -> int:
        """Call a function at a linear address for the current task; its EAX."""
        kernel = self._kernel
        task, cpu = kernel.sched.current, kernel.this_cpu
        mm = active_mm(cpu)
        if self._leaves_mm:
            kernel.mmu.switch_mm(cpu, None)
        try:
            result = kernel.this_cpu.call_c(function, *arguments)
            self._check_windows(function)
            return result
        finally:
            if task is not None:
                task.forged_mm = None
            while task is not None and task.borrowed_mms and kernel.this_cpu.current is task:
                kernel.log.printk("a module left without unuse_mm\n")
                self._users.unuse_mm()
            if self._leaves_mm:
                kernel.mmu.switch_mm(cpu, mm)

    def _check_windows(self, function: int) -> None:
        """Raises LeftWindow when a module leaves a kmap_atomic window open."""
        kernel = self._kernel
        try:
            kernel.sched.check_windows(kernel.this_cpu, f"{self.name_of(function)} returns")
        except KmapError as error:
            raise LeftWindow(error.summary, "\n".join([error.detail, *self.opened()])) from error

    def _left(self, handler: int) -> None:
        """A handler is back, and its CPU has more windows open than before.  Raises LeftWindow."""
        self._check_windows(handler)
