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


def do_irq(kernel: Kernel, interrupted: CpuContext | None = None) -> None:
    """Answer what devices asked for, unless the interrupted code has interrupts off; None is code that never has.

    A handler runs at once and may not sleep.  Devices' interrupts go to one CPU; where that is another one than the
    present, it is interrupted there.  Raises LimitReached and Interrupted when they never end.
    """
    if kernel.in_interrupt or (interrupted is not None and not interrupted.eflags & EFLAGS_IF):
        return
    board = kernel.machine.board
    target = kernel.cpus[board.interrupt_cpu]
    board.asked = False
    while board.pending(target.index) is not None:
        vector = board.acknowledge(target.index)
        handler = kernel.irq_handlers.get(vector)
        if handler is None:
            kernel.printk(f"unexpected interrupt: vector {vector:#x}\n")
            continue
        here, kernel.this_cpu = kernel.this_cpu, target
        kernel.in_interrupt = True
        try:
            with target.on_interrupt_stack(interrupted is None or target is not here):
                target.call_c(handler, vector)
        finally:
            kernel.in_interrupt = False
            kernel.this_cpu = here
        kernel.sched.check_limits()
