"""The way into guest kernel code, for whoever calls a module's function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.module.useraccess import unuse_mm

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel


def run_in_task(kernel: Kernel, function: int, *arguments: int) -> int:
    """Call a module's function for the current task; what it borrowed and did not give back is given back."""
    task = kernel.this_cpu.current
    try:
        return kernel.this_cpu.call_c(function, *arguments)
    finally:
        if task is not None:
            task.forged_mm = None
        while task is not None and task.borrowed_mms and kernel.this_cpu.current is task:
            kernel.printk("a module left without unuse_mm\n")
            unuse_mm(kernel, ())
