"""The way into guest kernel code, for whoever calls a module's function."""

from __future__ import annotations

from sandbox.kernel.kernel import Kernel
from sandbox.kernel.module.useraccess import UserCalls


class GuestEntry:
    """Calls functions of modules; what they borrowed and did not give back is given back."""

    def __init__(self, kernel: Kernel, users: UserCalls) -> None:
        self._kernel, self._users = kernel, users

    def run_in_task(self, function: int, *arguments: int) -> int:
        """Call a function at a linear address for the current task; its EAX."""
        kernel = self._kernel
        task = kernel.sched.current
        try:
            return kernel.this_cpu.call_c(function, *arguments)
        finally:
            if task is not None:
                task.forged_mm = None
            while task is not None and task.borrowed_mms and kernel.this_cpu.current is task:
                kernel.log.printk("a module left without unuse_mm\n")
                self._users.unuse_mm()
