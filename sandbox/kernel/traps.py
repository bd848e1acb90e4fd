"""Where traps arrive: page faults, system calls, exceptions that become signals, faults in kernel routines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sandbox.engine.context import EIP, ESP, CpuContext
from sandbox.engine.exits import BlocksSpent, BreakpointHit, BusError, Exit, Halt, PortDenied, Stepped, Stopped, Trap
from sandbox.kernel.arch import extable
from sandbox.kernel.arch.cpu import CALL_BUDGET, KernelCpu
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.base.layout import PAGE_OFFSET, TASK_SIZE
from sandbox.kernel.inspect.die import fatal_report
from sandbox.kernel.inspect.oops import oops
from sandbox.kernel.mm.fault import BAD_AREA, BUS_ERROR, do_page_fault
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.module.hypercall import GuestKernelBug
from sandbox.kernel.module.irq import EFLAGS_IF, do_irq
from sandbox.kernel.process.fault_siginfo import exception_info, fault_info
from sandbox.kernel.task.signal import SIGBUS, SIGKILL, force_fault, force_signal
from sandbox.kernel.task.task import Task

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.mm.mm import Mm

PAGE_FAULT, SYSTEM_CALL = 14, 0x80
_RDTSC = b"\x0f\x31"
CALLS_BETWEEN_LOOKS = 1024
"""Calls of exported symbols after which a run's limits are looked at."""
SPURIOUS_FAULTS = 16
"""Faults of one kernel instruction at one address, each of them answered, after which it will never get through."""


class KernelTraps:
    """The trap handlers of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.faults = 0
        """Page faults so far; each has this number in its event."""
        table = kernel.image.routines.ex_table_start, kernel.image.routines.ex_table_end
        self._fixups = kernel.memory.words[slice(*((linear - PAGE_OFFSET) // 4 for linear in table))]
        self._stuck = (0, 0, 0)
        """EIP and address of the last spurious fault in kernel code, and how often it came."""

    # -- from ring 3 ---------------------------------------------------------------------------------------------

    def run_user(self, task: Task) -> None:
        """The life of a task: ring 3 until a trap, the trap, ring 3 again.  Ends by TaskExit."""
        kernel = self._kernel
        sched, syscall = kernel.sched, kernel.syscalls.dispatch
        while True:
            if task.pending:
                kernel.deliver_signal(task)
            cpu = task.cpu
            vcpu = cpu.vcpu
            context = vcpu.context = task.context
            budget = sched.budget(cpu)
            before = vcpu.clock
            began = time.perf_counter()
            stepping = kernel.steps
            executed = vcpu.instructions
            exit_ = vcpu.run(budget) if stepping is None else vcpu.run(budget, stepping)
            sched.charge(cpu, vcpu.clock - before)
            kind = type(exit_)
            if kind is Trap:
                assert isinstance(exit_, Trap)
                if exit_.vector == PAGE_FAULT and not exit_.software:
                    self._user_page_fault(task, cpu, context, exit_)
                elif exit_.vector == SYSTEM_CALL and exit_.software:
                    syscall(task)
                else:
                    self._exception(task, context, exit_)
            elif kind is BlocksSpent:
                sched.adapt(budget, time.perf_counter() - began)
            elif kind is Stepped or kind is BreakpointHit:
                kernel.stopped(cpu, exit_)
                continue
            else:
                self._odd_exit(task, exit_)
            if stepping is not None and kind is Trap:
                self._count_steps(task, exit_, vcpu.instructions - executed)
            sched.after_run(task)

    def _count_steps(self, task: Task, exit_: Exit, executed: int) -> None:
        """A trap ended a stepped run: take what was done off the steps; a faulting instruction is not done."""
        kernel = self._kernel
        assert isinstance(exit_, Trap)
        if kernel.steps is not None:
            kernel.steps -= executed if exit_.software else executed - 1
            if kernel.steps > 0:
                return
            if task.pending:
                kernel.steps = 1
            else:
                kernel.stopped(task.cpu, Stepped(task.context.eip))

    def _user_page_fault(self, task: Task, cpu: KernelCpu, context: CpuContext, trap: Trap) -> None:
        kernel = self._kernel
        self.faults += 1
        address = trap.address
        started = cpu.vcpu.clock
        assert task.mm is not None
        if trap.cpl == 0:
            oops(kernel, cpu, context, trap)
        if kernel.probe is not None:
            kernel.probe(task, context, trap)
        try:
            if address < TASK_SIZE:
                how = do_page_fault(kernel, cpu, task.mm, address, trap.error_code, context.quads[ESP])
            else:
                how = BAD_AREA
        except OutOfMemory as error:
            kernel.counters.faults["oom-kill"] += 1
            self._report_fault(task, cpu, trap, "oom-kill", started)
            force_signal(kernel, task, SIGKILL, error.summary + "\n" + error.detail)
            return
        if how is BAD_AREA or how is BUS_ERROR:
            if kernel.broken("no-signal-on-fault"):
                context.quads[EIP] += kernel.instruction_length(task.mm, trap.eip)
            else:
                force_fault(kernel, task, fault_info(kernel, task, trap, how), lambda: fatal_report(kernel, task, trap))
        kernel.counters.faults[how] += 1
        if kernel.bus.active:
            self._report_fault(task, cpu, trap, how, started)

    def _report_fault(self, task: Task, cpu: KernelCpu, trap: Trap, how: str, started: int) -> None:
        kernel = self._kernel
        if not kernel.bus.active or task.mm is None:
            return
        pte = kernel.tables.lookup_pte(task.mm.pgd, trap.address & ~0xFFF)
        kernel.bus.emit(
            PageFault(
                kernel.sched.now,
                cpu.index,
                task.pid,
                trap.eip,
                trap.address,
                trap.error_code,
                how,
                pte,
                cpu.vcpu.clock - started,
                kernel.peek(task.mm, trap.eip, 15),
                self.faults,
            )
        )

    def _exception(self, task: Task, context: CpuContext, trap: Trap) -> None:
        kernel = self._kernel
        if trap.cpl == 0:
            oops(kernel, task.cpu, context, trap)
        assert task.mm is not None
        vector = trap.vector
        if trap.software and vector not in (3, 4):
            context.quads[EIP] = trap.eip = trap.eip - 2
            trap.error_code = vector * 8 + 2
            trap.vector = vector = 13
        elif vector == 13 and kernel.peek(task.mm, trap.eip, 2) == _RDTSC:
            now = kernel.sched.now
            context.eax, context.edx = now & 0xFFFFFFFF, now >> 32
            context.eip = trap.eip + 2
            return
        if kernel.broken("no-signal-on-fault"):
            if vector not in (1, 3, 4):
                context.quads[EIP] = trap.eip + kernel.instruction_length(task.mm, trap.eip)
            return
        force_fault(kernel, task, exception_info(task, context, trap), lambda: fatal_report(kernel, task, trap))

    def _odd_exit(self, task: Task, exit_: Exit) -> None:
        kernel = self._kernel
        if isinstance(exit_, PortDenied):
            trap = Trap(exit_.eip, 13, 0, 0, 3, False)
            force_fault(
                kernel, task, exception_info(task, task.context, trap), lambda: fatal_report(kernel, task, trap)
            )
        elif isinstance(exit_, BusError):
            trap = Trap(exit_.eip, 18, 0, 0, 3, False)
            force_signal(
                kernel,
                task,
                SIGBUS,
                f"nothing answers at physical address {exit_.physical:#x}\n" + fatal_report(kernel, task, trap),
            )
        else:
            kernel.stopped(task.cpu, exit_)

    # -- from ring 0 ---------------------------------------------------------------------------------------------

    def kernel_gate(self, cpu: KernelCpu, context: CpuContext) -> None:
        """Guest kernel code called an exported symbol."""
        kernel = self._kernel
        if kernel.dma_stored:
            kernel.after_dma()
        gate = kernel.gate_table
        gate.call(cpu, context)
        if kernel.machine.board.asked:
            do_irq(kernel, context)
        if not gate.calls % CALLS_BETWEEN_LOOKS:
            self.check_limits()

    def kernel_trap(self, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> None:
        """A routine of ``cpu.call`` stopped: resolve the fault, take the exception table's way out, or give up."""
        kernel = self._kernel
        if kernel.dma_stored:
            kernel.after_dma()
        if isinstance(exit_, BreakpointHit | Stepped):
            kernel.stopped(cpu, exit_)
            return
        if isinstance(exit_, Stopped):
            do_irq(kernel, context)
            return
        if isinstance(exit_, Halt):
            if not kernel.machine.board.asked or not context.eflags & EFLAGS_IF:
                raise GuestKernelBug(f"hlt, and no interrupt will come, in {kernel.kernel_symbol(exit_.eip - 1)}")
            do_irq(kernel, context)
            return
        if not isinstance(exit_, Trap):
            oops(kernel, cpu, context, exit_)
        if exit_.vector != PAGE_FAULT or exit_.software:
            oops(kernel, cpu, context, exit_)
        self.faults += 1
        started = cpu.vcpu.clock
        task = cpu.current
        mm = cpu.active_mm if task is None or task.forged_mm is None else task.forged_mm
        how = BAD_AREA
        if kernel.probe is not None and task is not None:
            kernel.probe(task, context, exit_)
        if exit_.address >= TASK_SIZE and kernel.vmalloc.vmalloc_fault(context, exit_.address, exit_.error_code):
            kernel.counters.faults["vmalloc-sync"] += 1
            if task is not None:
                self._report_fault(task, cpu, exit_, "vmalloc-sync", started)
            return
        if exit_.address < TASK_SIZE and mm is not None and not kernel.in_interrupt:
            try:
                how = do_page_fault(kernel, cpu, mm, exit_.address, exit_.error_code, 0)
                if how == "spurious":
                    self._count_spurious(cpu, exit_)
            except OutOfMemory as error:
                if task is not None:
                    force_signal(kernel, task, SIGKILL, error.summary + "\n" + error.detail)
                if self.search_exception_table(exit_.eip) is None:
                    how = self._fault_from_reserve(cpu, mm, exit_)
        if how is BAD_AREA or how is BUS_ERROR:
            fixup = self.search_exception_table(exit_.eip)
            if fixup is None:
                oops(kernel, cpu, context, exit_)
            context.quads[EIP] = fixup
            how = "fixup"
        kernel.counters.faults[how] += 1
        if task is not None and kernel.bus.active:
            self._report_fault(task, cpu, exit_, how, started)

    def _fault_from_reserve(self, cpu: KernelCpu, mm: Mm, trap: Trap) -> str:
        """A task that is to die must get out of a copy that nothing catches: it may take from the reserve."""
        kernel = self._kernel
        kept, kernel.page_alloc.min_free = kernel.page_alloc.min_free, 0
        try:
            return do_page_fault(kernel, cpu, mm, trap.address, trap.error_code, 0)
        except OutOfMemory:
            return BAD_AREA
        finally:
            kernel.page_alloc.min_free = kept

    def call_budget(self) -> int:
        """Blocks that guest kernel code may run before somebody looks at the limits."""
        limit = self._kernel.config.block_limit
        return min(CALL_BUDGET, max(1, limit - self._kernel.sched.now)) if limit else CALL_BUDGET

    def check_limits(self) -> None:
        """Guest kernel code has run for a while: raises LimitReached or Interrupted when it has run too long."""
        self._kernel.sched.check_limits()

    def _count_spurious(self, cpu: KernelCpu, trap: Trap) -> None:
        """Kernel code faulted where a page is.  Raises GuestKernelBug when that goes on for ever."""
        eip, address, count = self._stuck
        count = count + 1 if (eip, address) == (trap.eip, trap.address) else 1
        self._stuck = (trap.eip, trap.address, count)
        if count < SPURIOUS_FAULTS:
            return
        kernel = self._kernel
        detail = ""
        task = cpu.current
        if task is not None and task.forged_mm is not None:
            detail = (
                f"The page is in the directory {task.forged_mm.cr3:#010x}, of the task that current was set to; "
                f"the CPU walks {cpu.cr3:#010x}, which CR3 holds.  use_mm() changes both."
            )
        raise GuestKernelBug(
            f"endless fault: {kernel.kernel_symbol(trap.eip)} finds no page at {trap.address:#010x}, however often one "
            "is brought in",
            detail,
        )

    def search_exception_table(self, eip: int) -> int | None:
        """The fixup's linear address for an instruction that may fault: modules' tables first, then the kernel's.

        By binary search in guest memory.
        """
        if self._kernel.broken("no-fixup"):
            return None
        found = self._kernel.modules.search_fixup(eip)
        if found is not None:
            return found
        return extable.search(self._fixups, eip)
