"""Interrupts: devices ask, handlers answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.engine.context import CpuContext
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.printk import Log
from sandbox.machine.board import Board
from sandbox.x86.masks import IF

Handler = int | Callable[[KernelCpu], None]
"""The linear address of a function of guest kernel code, or a function of the kernel's in Python."""


class Interrupts:
    """Who answers which vector.

    ``check_limits`` raises when answering goes on for ever.
    """

    __slots__ = ("_board", "_check_limits", "_log", "_smp", "handlers", "held", "left")

    def __init__(self, smp: Smp, board: Board, log: Log, check_limits: Callable[[], None]) -> None:
        self._smp, self._board, self._log = smp, board, log
        self._check_limits = check_limits
        self.handlers: dict[int, Handler] = {}
        """By vector."""
        self.held: Sequence[int] = [0] * len(smp.cpus)
        """By CPU, how many of what a handler must give back before it returns (kmap_atomic windows) are held."""
        self.left: Callable[[int], None] = lambda handler: None
        """Told of a handler that came back with more of them than there were."""

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
                        self._call(target, handler, vector)
            finally:
                target.in_interrupt = False
                smp.this_cpu = this_cpu
            self._check_limits()

    def _call(self, cpu: KernelCpu, handler: int, vector: int) -> None:
        """A handler of guest kernel code.  Raises what ``left`` raises."""
        before = self.held[cpu.index]
        cpu.call_c(handler, vector)
        if self.held[cpu.index] > before:
            self.left(handler)
