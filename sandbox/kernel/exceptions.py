"""Exceptions of ring 3 that are no page fault: they become signals, but for what the kernel does itself (RDTSC).

As the handlers of arch/x86/kernel/traps.c do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from sandbox.engine.context import EIP, CpuContext
from sandbox.engine.exits import BusError, Exit, PortDenied, Trap
from sandbox.kernel.abi.signals import SIGBUS
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.inspect.symbolize import Symbols
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process.fault_siginfo import exception_info
from sandbox.kernel.process.hw_breakpoint import DR6_STEP
from sandbox.kernel.task.task import Task
from sandbox.x86.errors import SandboxError
from sandbox.x86.instruction import LONGEST_INSTRUCTION, reads_time_stamp
from sandbox.x86.masks import RF, TF
from sandbox.x86.vectors import Vector

BREAKPOINT, OVERFLOW, DEBUG, PROTECTION, MACHINE_CHECK, INVALID_OPCODE = 3, 4, 1, int(Vector.GP), 18, 6


class UnexpectedExit(SandboxError):
    """A CPU came back from ring 3 in a way that no running program can cause."""

    exit_status = 3


class Exceptions:
    """The handlers of one kernel; ``oops`` is for what came from ring 0."""

    def __init__(
        self, kernel: Kernel, symbols: Symbols, oops: Callable[[KernelCpu, CpuContext, Exit], NoReturn]
    ) -> None:
        self._kernel, self._symbols, self._oops = kernel, symbols, oops
        self._skips = kernel.broken("no-signal-on-fault")

    def do_exception(self, task: Task, context: CpuContext, trap: Trap) -> None:
        """Any other vector: what INT n may not do is a protection fault, RDTSC is done here, the rest are signals."""
        if trap.cpl == 0:
            self._oops(task.cpu, context, trap)
        assert task.mm is not None
        if trap.software and trap.vector not in (BREAKPOINT, OVERFLOW):
            context.quads[EIP] = trap.eip = context.interrupt_start(trap.eip)
            trap.error_code = trap.vector * 8 + 2
            trap.vector = PROTECTION
        elif trap.vector == PROTECTION and self._read_time_stamp(task, context, trap):
            return
        if self._skips:
            if trap.vector not in (DEBUG, BREAKPOINT, OVERFLOW):
                context.quads[EIP] = trap.eip + self._symbols.instruction_length(task.mm, trap.eip)
            return
        self._force_exception(task, trap)

    def _read_time_stamp(self, task: Task, context: CpuContext, trap: Trap) -> bool:
        """Do RDTSC or RDTSCP, which CR4.TSD made trap, single step and all; False when it is something else.

        TSC_AUX holds the number of the CPU, as Linux sets it (arch/x86/entry/vdso, vgetcpu).
        """
        assert task.mm is not None
        code = self._kernel.peek.peek(task.mm, context.code_address(trap.eip), LONGEST_INSTRUCTION)
        found = reads_time_stamp(code)
        if found is None:
            return False
        length, with_cpu = found
        if not length:
            self._force_exception(task, Trap(trap.eip, INVALID_OPCODE, 0, 0, 3, False))
            return True
        now = self._kernel.clock.now
        context.eax, context.edx = now & 0xFFFFFFFF, now >> 32
        if with_cpu:
            context.ecx = task.cpu.index
        context.eip = trap.eip + length
        if context.eflags & TF:
            context.set_debug_register(6, context.debug_register(6) | DR6_STEP)
            self._force_exception(task, Trap(context.eip, DEBUG, 0, 0, 3, False))
        return True

    def _force_exception(self, task: Task, trap: Trap) -> None:
        if trap.vector not in (DEBUG, BREAKPOINT, OVERFLOW):
            task.context.eflags |= RF  # in the image of every fault (SDM 3B, 17.3.1.1); seen so in signal frames
        info = exception_info(task, task.context, trap)
        self._kernel.signals.force_fault(task, info, lambda: self.report(task, trap))

    def odd_exit(self, task: Task, exit_: Exit) -> None:
        """Ring 3 came back otherwise than by a trap or for want of blocks.  Raises UnexpectedExit."""
        if isinstance(exit_, PortDenied):
            self._force_exception(task, Trap(exit_.eip, PROTECTION, 0, 0, 3, False))
        elif isinstance(exit_, BusError):
            trap = Trap(exit_.eip, MACHINE_CHECK, 0, 0, 3, False)
            said = f"nothing answers at physical address {exit_.physical:#x}\n" + self.report(task, trap)
            self._kernel.signals.force_signal(task, SIGBUS, said)
        else:
            raise UnexpectedExit(f"CPU {task.cpu.index} came back by {exit_}")

    def report(self, task: Task, trap: Trap) -> str:
        """What the death by it is reported with: registers, code, the address it was about."""
        from sandbox.kernel.inspect.die import fatal_report

        return fatal_report(self._kernel, self._symbols, task, trap)
