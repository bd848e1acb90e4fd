"""request_irq and free_irq: functions of modules that answer devices."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EBUSY, EINVAL
from sandbox.kernel.arch.irq import Interrupts

FIRST_VECTOR, LAST_VECTOR = 0x20, 0xFF


class IrqCalls:
    """What modules call about interrupts."""

    def __init__(self, irq: Interrupts) -> None:
        self._handlers = irq.handlers

    def request_irq(self, vector: int, handler: int) -> int:
        """Let a function answer a device's vector; -EBUSY when one does."""
        if not FIRST_VECTOR <= vector <= LAST_VECTOR:
            return -EINVAL
        if vector in self._handlers:
            return -EBUSY
        self._handlers[vector] = handler
        return 0

    def free_irq(self, vector: int) -> None:
        self._handlers.pop(vector, None)
