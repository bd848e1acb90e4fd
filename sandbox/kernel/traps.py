"""Where traps arrive: page faults, system calls, faults in kernel routines."""

from __future__ import annotations

import time
from typing import NoReturn, Protocol

from sandbox.engine.context import EIP, ESP, CpuContext
from sandbox.engine.exits import (
    BlocksSpent,
    Exit,
    Halt,
    Paused,
    Stopped,
    Trap,
)
from sandbox.kernel.abi.signals import SIGKILL
from sandbox.kernel.arch import extable
from sandbox.kernel.arch.cpu import CALL_BUDGET, KernelCpu
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET, TASK_SIZE
from sandbox.kernel.base.time import TRAP_BLOCKS
from sandbox.kernel.exceptions import Exceptions
from sandbox.kernel.inspect.symbolize import Symbols
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.fault import BAD_AREA, UNRESOLVED, Resolution
from sandbox.kernel.mm.mm import Mm, active_mm
from sandbox.kernel.mm.rlimit import default_limits
from sandbox.kernel.module.hypercall import Gate, GuestKernelBug
from sandbox.kernel.module.loader import Modules
from sandbox.kernel.process.fault_siginfo import fault_info
from sandbox.kernel.syscalls.table import SystemCalls
from sandbox.kernel.task.task import Task
from sandbox.x86.masks import IF, RF
from sandbox.x86.vectors import Vector

PAGE_FAULT, SYSTEM_CALL = int(Vector.PF), 0x80
CALLS_BETWEEN_LOOKS = 1024
"""Calls of exported symbols after which all limits are looked at."""
CALLS_BETWEEN_GLANCES = 16
"""Calls of exported symbols after which the host's time is looked at, a divisor of the others.

One may take some milliseconds of it."""
SPURIOUS_FAULTS = 16
"""Faults of one kernel instruction at one address, each of them answered, after which it will never get through."""


class Monitor(Protocol):
    """Somebody who looks at page faults and deaths: a debugger installs itself as ``Traps.monitor``."""

    asks: bool
    """He may want to hear how the next page fault was answered, and how long that took."""

    def fault(self, task: Task | None, context: CpuContext, trap: Trap) -> None:
        """A page fault, before anything is done about it; ``task`` is None while a CPU has none."""
        ...

    def dying(self, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> None:
        """Kernel code faulted where nothing has an answer: the run ends when this returns."""
        ...

    def wrong(self, cpu: KernelCpu, what: str) -> None:
        """A module asked for what is wrong: the same."""
        ...


class Traps:
    """The trap handlers of one kernel."""

    def __init__(self, kernel: Kernel, syscalls: SystemCalls, modules: Modules, gate: Gate, symbols: Symbols) -> None:
        self._kernel, self._modules, self._gate, self._symbols = kernel, modules, gate, symbols
        self._sched, self._faults, self._code, self._irq = kernel.sched, kernel.faults, kernel.code, kernel.irq
        self._board, self._block_limit = kernel.machine.board, kernel.config.block_limit
        self._stats, self._bus, self._dispatch = kernel.stats, kernel.bus, syscalls.dispatch
        self._clock = kernel.clock
        self._exceptions = Exceptions(kernel, symbols, self._oops)
        self._skips = kernel.broken("no-signal-on-fault")
        self._no_fixups = kernel.broken("no-fixup")
        table = kernel.routines.ex_table_start, kernel.routines.ex_table_end
        self._fixups = kernel.memory.words[slice(*((linear - PAGE_OFFSET) // 4 for linear in table))]
        self._stuck = (0, 0, 0, 0), 0
        """EIP and address of the last spurious fault in kernel code, and how often it came."""
        self.monitor: Monitor | None = None
        self._ways_out: tuple[KernelCpu | None, ...] = (
            (None,) * len(kernel.cpus) if kernel.races.active or kernel.broken else tuple(kernel.cpus)
        )
        """Whose way to ring 3 may carry what is left of a fault: nobody is between its steps, none is missing."""

    # -- from ring 3 ---------------------------------------------------------------------------------------------

    def run_user(self, task: Task) -> None:
        """The life of a task: ring 3 until a trap, the trap, ring 3 again.  Ends by TaskExit."""
        try:
            self._run_user(task)
        except BaseException:  # who ends or reports the machine finds nothing undone
            task.cpu.finish()
            raise

    def _run_user(self, task: Task) -> None:
        clock, now = self._clock, time.monotonic
        sched, dispatch, deliver = self._sched, self._dispatch, self._kernel.signal_delivery.deliver
        budget, charge, after_run = sched.budget, sched.charge, sched.after_run
        depth, check_windows = self._kernel.highmem.depth, sched.check_windows
        do_exception = self._exceptions.do_exception
        while True:
            if task.pending:
                if task.cpu.way_out is not None:
                    task.cpu.finish()
                deliver(task)
            cpu = task.cpu
            if depth[cpu.index]:
                check_windows(cpu, f"task {task.pid} goes to ring 3")
            vcpu = cpu.vcpu
            if cpu.way_out is not None and not vcpu.plain:
                cpu.finish()  # somebody has begun to look at each run since
            context = vcpu.context = task.context
            task.orig_eax = -1
            blocks = budget(task)
            before = vcpu.clock
            began = now()
            exit_ = vcpu.run(blocks)
            if cpu.way_out is not None:
                exit_ = cpu.went_out(exit_, context, blocks)
            charge(task, vcpu.clock - before)
            group = task.group
            if group.cpu_limit and group.cpu_limit_left <= 0:
                self._kernel.timers.cpu_limit_reached(task)
            if isinstance(exit_, Trap):
                clock.charged += TRAP_BLOCKS
                task.stime += TRAP_BLOCKS
                if group.cpu_limit:
                    group.cpu_limit_left -= TRAP_BLOCKS
                if exit_.vector == PAGE_FAULT and not exit_.software:
                    self._user_page_fault(task, context, exit_)
                elif exit_.vector == SYSTEM_CALL and exit_.software:
                    dispatch(task)
                else:
                    do_exception(task, context, exit_)
            elif isinstance(exit_, BlocksSpent):
                sched.adapt(blocks, now() - began)
            elif isinstance(exit_, Paused):
                sched.adapt(vcpu.clock - before, now() - began)
            else:
                self._exceptions.odd_exit(task, exit_)
            after_run(task, began)

    def _user_page_fault(self, task: Task, context: CpuContext, trap: Trap) -> None:
        cpu, mm = task.cpu, task.mm
        stats = self._stats
        number = stats.page_faults = stats.page_faults + 1
        bus = self._bus
        monitor = self.monitor
        started = cpu.vcpu.clock if bus.active or (monitor is not None and monitor.asks) else 0
        assert mm is not None
        if monitor is not None:
            monitor.fault(task, context, trap)
        if trap.cpl == 0:
            self._oops(cpu, context, trap)
        how = BAD_AREA
        try:
            if trap.address < TASK_SIZE:
                esp, limits = context.quads[ESP], task.group.limits
                way = self._ways_out[cpu.index] if cpu.vcpu.plain else None
                how = self._faults.do_page_fault(cpu, mm, trap.address, trap.error_code, esp, limits, way)
        except OutOfMemory as error:
            self._stats.faults[Resolution.OOM_KILL] += 1
            self._report_fault(cpu, task, context.code_address(trap.eip), trap, Resolution.OOM_KILL, started, number)
            self._kernel.signals.force_signal(task, SIGKILL, error.summary + "\n" + error.detail)
            return
        if how in UNRESOLVED:
            if self._skips:
                context.quads[EIP] += self._symbols.instruction_length(mm, trap.eip)
            else:
                context.eflags |= RF
                report = self._exceptions.report
                self._kernel.signals.force_fault(task, fault_info(task, trap, how), lambda: report(task, trap))
        self._stats.faults[how] += 1
        if self._bus.active and self._bus.wants(PageFault, how):
            self._report_fault(cpu, task, context.code_address(trap.eip), trap, how, started, number)

    def _oops(self, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> NoReturn:
        from sandbox.kernel.inspect.oops import oops  # like die: loaded when something dies

        if self.monitor is not None:
            self.monitor.dying(cpu, context, exit_)
        oops(self._kernel, self._symbols, cpu, context, exit_)

    def _report_fault(
        self, cpu: KernelCpu, task: Task | None, code: int, trap: Trap, how: Resolution, started: int, number: int
    ) -> None:
        """``code`` is the linear address of the instruction."""
        if not self._bus.wants(PageFault, how):
            return
        kernel, mm = self._kernel, active_mm(cpu) if task is None else task.mm
        pgd = kernel.tables.kernel_pgd if mm is None else mm.pgd
        self._bus.emit(
            PageFault(
                kernel.clock.now,
                cpu.index,
                0 if task is None else task.pid,
                trap.eip,
                trap.address,
                trap.error_code,
                how,
                kernel.tables.lookup_pte(pgd, trap.address & ~0xFFF),
                cpu.vcpu.clock - started,
                kernel.peek.peek(mm, code, 15),
                number,
            )
        )

    # -- from ring 0 (arch.cpu.TrapHandler) ----------------------------------------------------------------------

    def kernel_gate(self, cpu: KernelCpu, context: CpuContext) -> None:
        """Guest kernel code called an exported symbol."""
        if self._code.dma_stored:
            self._code.after_dma()
        try:
            self._gate.call(context)
        except GuestKernelBug as bug:
            if self.monitor is not None:
                self.monitor.wrong(cpu, bug.summary)
            raise
        if self._board.asked:
            self._irq.do_irq(context)
        calls = self._gate.calls
        if not calls % CALLS_BETWEEN_GLANCES:
            if calls % CALLS_BETWEEN_LOOKS:
                self.check_time()
            else:
                self.check_limits()

    def kernel_trap(self, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> None:
        """A routine of ``cpu.call`` stopped."""
        if self._code.dma_stored:
            self._code.after_dma()
        if cpu.module_calls:
            self.check_time()
        if isinstance(exit_, Trap) and exit_.vector == PAGE_FAULT and not exit_.software:
            self._kernel_page_fault(cpu, context, exit_)
        elif isinstance(exit_, Stopped):
            self._irq.do_irq(context)
        elif isinstance(exit_, Halt):
            self._kernel_halt(context, exit_)
        else:
            self._oops(cpu, context, exit_)

    def _kernel_halt(self, context: CpuContext, exit_: Halt) -> None:
        """HLT of guest kernel code's own waits for an interrupt."""
        if not self._board.asked or not context.eflags & IF:
            where = self._symbols.kernel_symbol(exit_.eip - 1)
            raise GuestKernelBug(f"hlt, and no interrupt will come, in {where}")
        self._irq.do_irq(context)

    def _kernel_page_fault(self, cpu: KernelCpu, context: CpuContext, trap: Trap) -> None:
        """Resolve the fault, take the exception table's way out, or give up.

        It is counted whether a task runs or an interrupt came while all sleep, except while the first program is put
        into memory.
        """
        self._clock.charged += TRAP_BLOCKS
        started = cpu.vcpu.clock
        task = self._sched.task_of(cpu)
        counted = not self._stats.preparing
        self._stats.page_faults += counted
        number = self._stats.page_faults
        if self.monitor is not None and counted:
            self.monitor.fault(task, context, trap)
        how = self._resolve(cpu, task, context, trap)
        if how in UNRESOLVED:
            fixup = self.search_exception_table(trap.eip)
            if fixup is None:
                self._oops(cpu, context, trap)
            context.quads[EIP] = fixup
            how = Resolution.FIXUP
        if counted:
            self._stats.faults[how] += 1
            self._report_fault(cpu, task, trap.eip, trap, how, started, number)

    def _resolve(self, cpu: KernelCpu, task: Task | None, context: CpuContext, trap: Trap) -> Resolution:
        """What the tables or the areas have to say to a fault of kernel code."""
        kernel = self._kernel
        if trap.address >= TASK_SIZE:
            synced = kernel.vmalloc.vmalloc_fault(context.cr3, trap.address, trap.error_code)
            return Resolution.VMALLOC_SYNC if synced else Resolution.BAD_AREA
        mm = active_mm(cpu) if task is None or task.forged_mm is None else task.forged_mm
        if mm is None or cpu.in_interrupt or kernel.highmem.depth[cpu.index]:
            return Resolution.BAD_AREA
        limits = default_limits(kernel.config.stack_limit) if task is None else task.limits
        try:
            how = self._faults.do_page_fault(cpu, mm, trap.address, trap.error_code, 0, limits)
        except OutOfMemory as error:
            return self._out_of_memory(cpu, task, mm, trap, error)
        if how is Resolution.SPURIOUS:
            self._count_spurious(cpu, task, trap)
        return how

    def _out_of_memory(self, cpu: KernelCpu, task: Task | None, mm: Mm, trap: Trap, error: OutOfMemory) -> Resolution:
        """The task is to die; out of a copy that nothing catches it must get first, by the reserve."""
        kernel, pages = self._kernel, self._kernel.page_alloc
        if task is not None:
            kernel.signals.force_signal(task, SIGKILL, error.summary + "\n" + error.detail)
        if self.search_exception_table(trap.eip) is not None:
            return Resolution.BAD_AREA
        limits = default_limits(kernel.config.stack_limit) if task is None else task.limits
        kept, pages.min_free = pages.min_free, 0
        try:
            return self._faults.do_page_fault(cpu, mm, trap.address, trap.error_code, 0, limits)
        except OutOfMemory:
            return Resolution.BAD_AREA
        finally:
            pages.min_free = kept

    def _count_spurious(self, cpu: KernelCpu, task: Task | None, trap: Trap) -> None:
        """Kernel code faulted where a page is.  Raises GuestKernelBug when that goes on for ever.

        A task that was in ring 3 since got through: threads that are faster than each other do this in every call.
        """
        pid, ran = (task.pid, task.utime) if task is not None else (0, 0)
        place, (before, count) = (trap.eip, trap.address, pid, ran), self._stuck
        count = count + 1 if place == before else 1
        self._stuck = place, count
        if count < SPURIOUS_FAULTS:
            return
        detail = ""
        if task is not None and task.forged_mm is not None:
            detail = (
                f"The page is in the directory {task.forged_mm.cr3:#010x}, of the task that current was set to; "
                f"the CPU walks {cpu.cr3:#010x}, which CR3 holds.  use_mm() changes both."
            )
        raise GuestKernelBug(
            f"endless fault: {self._symbols.kernel_symbol(trap.eip)} finds no page at {trap.address:#010x}, however "
            "often one is brought in",
            detail,
        )

    def call_budget(self) -> int:
        """Blocks that guest kernel code may run before somebody looks at the limits."""
        limit = self._block_limit
        return min(CALL_BUDGET, max(1, limit - self._clock.blocks)) if limit else CALL_BUDGET

    def check_limits(self) -> None:
        """Guest kernel code has run for a while: raises LimitReached or Interrupted when it has run too long."""
        self._sched.check_limits()

    def check_time(self) -> None:
        """Raises LimitReached when the host's time is over: at any place, for it is no part of what the guest sees."""
        self._sched.check_time()

    def paused(self, cpu: KernelCpu) -> None:
        """A routine was paused: guest code may be ended by any limit, the kernel's own only by time."""
        if cpu.module_calls:
            self.check_limits()
        else:
            self.check_time()

    def search_exception_table(self, eip: int) -> int | None:
        """The fixup's linear address for an instruction that may fault: modules' tables first, then the kernel's.

        By binary search in guest memory.
        """
        if self._no_fixups:
            return None
        found = self._modules.search_fixup(eip)
        if found is not None:
            return found
        return extable.search(self._fixups, eip)
