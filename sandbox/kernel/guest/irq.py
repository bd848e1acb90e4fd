"""Interrupts: devices ask, handlers of modules answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EBUSY, EINVAL

if TYPE_CHECKING:
    from sandbox.engine.context import CpuContext
    from sandbox.kernel.kernel import Kernel

EFLAGS_IF = 1 << 9


def request_irq(kernel: Kernel, a: tuple[int, ...]) -> int:
    """Let a function answer a device's vector; -EBUSY when one does."""
    if not 0x20 <= a[0] <= 0xFF:
        return -EINVAL
    if a[0] in kernel.irq_handlers:
        return -EBUSY
    kernel.irq_handlers[a[0]] = a[1]
    return 0


def free_irq(kernel: Kernel, a: tuple[int, ...]) -> None:
    kernel.irq_handlers.pop(a[0], None)


def do_irq(kernel: Kernel, interrupted: CpuContext) -> None:
    """Answer what devices asked for, unless interrupts are off: a handler runs at once, and may not sleep.

    Devices' interrupts go to one CPU; where that is another one than the present, it is interrupted there.
    """
    board = kernel.machine.board
    target = kernel.cpus[board.interrupt_cpu]
    board.asked = not interrupted.eflags & EFLAGS_IF
    while board.pending(target.index) is not None and not kernel.in_interrupt and interrupted.eflags & EFLAGS_IF:
        vector = board.acknowledge(target.index)
        handler = kernel.irq_handlers.get(vector)
        if handler is None:
            kernel.printk(f"unexpected interrupt: vector {vector:#x}\n")
            continue
        here, kernel.here = kernel.here, target
        kernel.in_interrupt = True
        try:
            with target.borrowed_flow(target is not here):
                target.call_c(handler, vector)
        finally:
            kernel.in_interrupt = False
            kernel.here = here
