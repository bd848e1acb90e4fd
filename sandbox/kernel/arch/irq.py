"""Interrupts: devices ask, handlers answer."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.engine.context import CpuContext
from sandbox.kernel.arch.cpu import KernelCpu, Smp
from sandbox.kernel.base.printk import Log
from sandbox.machine.board import Board
from sandbox.x86.masks import IF

Handler = int | Callable[[KernelCpu], None]
"""The linear address of a function of guest kernel code, or a function of the kernel's in Python."""


class Interrupts:
    """Who answers which vector.

    ``check_limits`` raises when answering goes on for ever.
    """

    __slots__ = ("_board", "_check_limits", "_log", "_smp", "handlers")

    def __init__(self, smp: Smp, board: Board, log: Log, check_limits: Callable[[], None]) -> None:
        self._smp, self._board, self._log = smp, board, log
        self._check_limits = check_limits
        self.handlers: dict[int, Handler] = {}
        """By vector."""

    def do_irq(self, interrupted: CpuContext | None = None) -> None:
        """Answer what devices asked for, unless the interrupted code has interrupts off; None is code that never has.

        A handler runs at once and may not sleep.  Devices' interrupts go to one CPU; where that is another one than
        the present, it is interrupted there.  Raises what ``check_limits`` raises when they never end.
        """
        smp, board = self._smp, self._board
        target = smp.cpus[board.interrupt_cpu]
        if target.in_interrupt or (interrupted is not None and not interrupted.eflags & IF):
            return
        board.asked = False
        while board.pending(target.index) is not None:
            vector = board.acknowledge(target.index)
            handler = self.handlers.get(vector)
            if handler is None:
                self._log.printk(f"unexpected interrupt: vector {vector:#x}\n")
                continue
            this_cpu, smp.this_cpu = smp.this_cpu, target
            target.in_interrupt = True
            try:
                with target.on_interrupt_stack(interrupted is None or target is not this_cpu):
                    if callable(handler):
                        handler(target)
                    else:
                        target.call_c(handler, vector)
            finally:
                target.in_interrupt = False
                smp.this_cpu = this_cpu
            self._check_limits()
