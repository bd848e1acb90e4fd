"""The mini-kernel: what all its systems share, and the run from boot to the last exit."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from greenlet import GreenletExit, getcurrent

from sandbox.engine.context import FPU_TOP, XMM, XMM_STRIDE, CpuContext
from sandbox.engine.exits import BreakpointHit, Exit, Stepped, Trap
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu, KernelStack
from sandbox.kernel.arch.vmlinux import KernelImage, kernel_image
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import PageAlloc
from sandbox.kernel.base.layout import PAGE_OFFSET, PAGE_SIZE
from sandbox.kernel.base.time import BLOCK_NANOSECONDS, EPOCH
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.inspect.symbolize import Looking
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.mm.gfp import GFP_USER, HIGHMEM
from sandbox.kernel.mm.highmem import Kmap
from sandbox.kernel.mm.ioremap import IoRemap
from sandbox.kernel.mm.kmalloc import Kmalloc
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.msync import release_dirty
from sandbox.kernel.mm.page import PG_TABLE
from sandbox.kernel.mm.page_alloc import PageAllocator, WrongContext
from sandbox.kernel.mm.pgtable import MAPPED
from sandbox.kernel.mm.tlb import Tlb
from sandbox.kernel.mm.vma import VmaTree
from sandbox.kernel.mm.vmalloc import Vmalloc
from sandbox.kernel.mm.vmscan import shrink
from sandbox.kernel.module.ksyms import make_gate
from sandbox.kernel.module.loader import Modules
from sandbox.kernel.module.printk import Log
from sandbox.kernel.procfs import proc_root
from sandbox.kernel.setup import boot
from sandbox.kernel.syscalls.table import SystemCalls
from sandbox.kernel.task import signal
from sandbox.kernel.task.desc import load_ldt, load_tls
from sandbox.kernel.task.futex import Futexes
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import State, Task
from sandbox.kernel.task.vdso import Vdso
from sandbox.kernel.traps import KernelTraps
from sandbox.machine.machine import Machine
from sandbox.machine.memory import Reason
from sandbox.x86.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.kernel.drivers.tty import Tty
    from sandbox.kernel.fs.pipe import WaitQueue
    from sandbox.kernel.module.chrdev import ModuleDevice

_FPU_FIRST, _FPU_END = FPU_TOP, XMM + 8 * XMM_STRIDE


class UnexpectedExit(SandboxError):
    """A CPU came back from ring 3 in a way that no running program can cause."""

    exit_status = 3


@dataclass(slots=True)
class Counters:
    """What a run's summary shows; bytes are moved by guest code unless they say otherwise."""

    bytes_by_guest: int = 0
    cow_copies: int = 0
    cow_reuses: int = 0
    system_calls: int = 0
    frames_allocated: int = 0
    faults: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Page faults by resolution."""
    calls: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    """System calls by number."""


class Kernel(Looking):
    """One kernel on one machine.  Building it boots it.

    Raises ConfigurationError when the machine cannot hold it.
    """

    def __init__(self, machine: Machine, config: KernelConfig, files: FileSystem) -> None:
        super().__init__()
        self.machine = machine
        self.memory = machine.memory
        self.bus = machine.bus
        self.config = config
        self.files = files
        self._switches = config.switches
        self.counters = Counters()
        self.image: KernelImage = kernel_image()
        self.routines = self.image.routines
        self.cpus = [KernelCpu(cpu.index, cpu, self.routines) for cpu in machine.cpus]
        self.probe: Callable[[Task, CpuContext, Trap], None] | None = None
        """Called with a page fault before anything is done about it."""
        self.on_stop: Callable[[KernelCpu, Exit], None] | None = None
        """Called at a breakpoint and after steps; when it returns, the CPU goes on."""
        self.steps: int | None = None
        """Instructions of ring 3 to run at a time, None for no stepping."""
        self.this_cpu = self.cpus[0]
        """The CPU on whose behalf Python runs now."""
        self.traps = KernelTraps(self)
        for cpu in self.cpus:
            cpu.traps = self.traps
        booted = boot(self.memory, self.cpus, config, self.image)
        self.layout, self.tables, self.kernel_pgd = booted.layout, booted.tables, booted.kernel_pgd
        self.model, self.memmap = booted.model, booted.model.memmap
        self.frames, self.zero_page = booted.frames, booted.zero_page
        self.reserved, self.boot_options, self.ram = booted.reserved, booted.options, booted.ranges
        self.tables.alloc_table, self.tables.free_table = self._alloc_table, self._free_table
        self.tlb = Tlb(self.cpus, self.routines, self.bus, config.switches)
        self.page_alloc = PageAllocator(self)
        self.vmalloc = Vmalloc(self)
        self.kmalloc = Kmalloc(self)
        self.ioremap = IoRemap(self)
        self.kmap = Kmap(self.tables, self.kernel_pgd, self.layout, self.tlb, len(self.cpus))
        self.code = CodeCache(self.memory, machine.cpus, not self.broken("no-code-drop"))
        self.pagecache = PageCache(self)
        self.sched = Scheduler(self)
        self.syscalls = SystemCalls(self)
        self.futexes = Futexes(self)
        self.tasks: dict[int, Task] = {}
        self.deaths: list[tuple[int, str, int, str]] = []
        """(pid, command, signal, report) of every task that a signal ended."""
        self.gate_table = make_gate(self)
        self.modules = Modules(self)
        self.log = Log()
        self.devices: dict[str, ModuleDevice] = {}
        """Character devices of modules, by name."""
        self.device_number = 0
        """Of the last device that a module has registered."""
        self.wait_queues: dict[int, WaitQueue] = {}
        """Of modules, by the linear address of the word that names one."""
        self.irq_handlers: dict[int, int] = {}
        """Linear addresses of modules' handlers, by vector."""
        self.in_interrupt = False
        self.allocations = 0
        """Requests for frames since ``fail_at`` was set."""
        self.fail_at = config.fail_allocation
        """The request for frames that fails, counted from 1; 0 for none."""
        self.random = random.Random(config.seed)
        """What programs get from the kernel's random devices: the same for the same seed."""
        self.vdso = Vdso()
        files.now = lambda: EPOCH + self.sched.now * BLOCK_NANOSECONDS
        if files.standard:
            files.mount("proc", "/proc", "proc", proc_root(self))
        self.tty: Tty | None = None
        """The terminal, if the machine has one."""
        self.pipes = 0
        """Pipes made so far; each has this in its inode number."""
        self._next_pid = 1
        self.table_words = self.memory.mutable_words(Reason.TABLE)
        """For who stores descriptors."""
        self.table_frames = 0
        """Frames of page tables that were made since boot."""
        self.dma_stored: list[tuple[int, int]] = []
        """(physical address, bytes) that devices have stored since a CPU came back last."""
        machine.board.dma_done = lambda physical, size: self.dma_stored.append((physical, size))
        machine.board.clock = lambda: self.sched.now
        self._spare_contexts: list[CpuContext] = []
        self._spare_stacks: list[tuple[KernelStack, tuple[int, ...]]] = []

    def broken(self, switch: str) -> bool:
        """True when the named step is left out on purpose."""
        return switch in self._switches

    # -- frames --------------------------------------------------------------------------------------------------

    def alloc_frame(self, highmem: bool = False) -> int:
        """A frame with count 1 and old contents; what ``shrink`` finds gives way when the reserve is reached.

        Raises OutOfMemory.  It never sleeps: who calls may hold what others need.
        """
        if self.fail_at:
            self.inject_failure()
        frames = self.frames
        while True:
            if frames.free_frames > self.page_alloc.min_free:
                try:
                    pfn = frames.alloc_frame(highmem, self.this_cpu.index)
                    break
                except OutOfMemory:
                    if not shrink(self):
                        raise
            elif not shrink(self):
                raise self.page_alloc.shortage()
        self.code.reused(pfn)
        self.counters.frames_allocated += 1
        if self.bus.active:
            gfp = GFP_USER | (HIGHMEM if highmem else 0)
            self.bus.emit(PageAlloc(self.sched.now, self.this_cpu.index, "alloc", pfn, 0, gfp))
        return pfn

    def after_dma(self) -> None:
        """Devices have stored into frames: translations of what was in them are stale."""
        for physical, size in self.dma_stored:
            for pfn in range(physical >> 12, (physical + size - 1 >> 12) + 1):
                self.code.host_wrote(pfn)
        self.dma_stored.clear()

    def inject_failure(self) -> None:
        """Count a request for frames.  Raises OutOfMemory when it is the one that was chosen to fail."""
        self.allocations += 1
        if self.allocations == self.fail_at:
            self.page_alloc.pressure.injected += 1
            raise OutOfMemory(f"out of memory: request {self.allocations} for frames fails, as asked for")

    def put_page(self, pfn: int) -> None:
        """Drop a reference on a frame; the last one frees it."""
        if self.frames.put_page(pfn, self.this_cpu.index):
            self.code.freed(pfn)
            if self.bus.active:
                self.bus.emit(PageAlloc(self.sched.now, self.this_cpu.index, "free", pfn, 0, 0))

    def clear_highpage(self, pfn: int) -> None:
        """Let the CPU clear a frame of lowmem or highmem."""
        window = self.kmap.kmap(self.this_cpu, pfn)
        self.this_cpu.call(self.routines.clear_page, edi=window)
        self.kmap.kunmap(self.this_cpu, window)

    def _alloc_table(self) -> int:
        pfn = self.alloc_frame()
        self.table_frames += 1
        self.clear_highpage(pfn)
        self.memmap.set_flags(pfn, self.memmap.flags(pfn) | PG_TABLE)
        self.memory.declare(Reason.TABLE, pfn << 12, 1 << 12)
        return pfn

    def _free_table(self, pfn: int) -> None:
        self.memory.withdraw(pfn << 12, 1 << 12)
        self.table_frames -= 1
        self.put_page(pfn)

    # -- address spaces ------------------------------------------------------------------------------------------

    def new_mm(self) -> Mm:
        """An empty address space with the kernel's half.  Raises OutOfMemory."""
        pgd = self.tables.new_pgd(self.kernel_pgd)
        return Mm(pgd, self.tables.cr3(pgd))

    def activate(self, cpu: KernelCpu, mm: Mm | None) -> None:
        """Load an address space on a CPU; None is the kernel's own."""
        if cpu.active_mm is mm:
            return
        bit = 1 << cpu.index
        if cpu.active_mm is not None:
            cpu.active_mm.cpu_mask &= ~bit
        cr3 = self.tables.cr3(self.kernel_pgd) if mm is None else mm.cr3
        cpu.call(self.routines.load_cr3, eax=cr3)
        cpu.cr3 = cr3
        cpu.active_mm = mm
        if mm is not None:
            mm.cpu_mask |= bit

    def release_mm(self, cpu: KernelCpu, mm: Mm) -> None:
        """Drop a user of an address space; the last one frees its pages and tables."""
        mm.users -= 1
        if mm.users:
            return
        release_dirty(self, cpu, mm)
        if cpu.active_mm is mm:
            self.activate(cpu, None)
        for other in self.cpus:
            if other.active_mm is mm:
                here, self.this_cpu = self.this_cpu, other
                other.interrupt(self.routines.load_cr3, self.tables.cr3(self.kernel_pgd))
                other.cr3, other.active_mm = self.tables.cr3(self.kernel_pgd), None
                self.this_cpu = here
        tables = self.tables
        for _, entry in tables.user_ptes(mm.pgd, 0, PAGE_OFFSET):
            if entry & MAPPED and not self.broken("no-exit-free"):
                self.put_page(tables.pte_pfn(entry))
        tables.free_user_tables(mm.pgd)
        if mm.ldt:
            tables.free_table(mm.ldt)
            mm.ldt = mm.ldt_entries = 0
        mm.run_from(None)
        mm.vmas = VmaTree()
        self.pagecache.reap()

    # -- tasks ---------------------------------------------------------------------------------------------------

    @property
    def last_pid(self) -> int:
        """The number of the youngest task so far."""
        return self._next_pid - 1

    def new_pid(self) -> int:
        pid = self._next_pid
        self._next_pid += 1
        return pid

    def new_kstack(self) -> tuple[KernelStack, tuple[int, ...]]:
        """A kernel stack (one frame) and a scratch frame, with the contexts for calls on it.  Raises OutOfMemory."""
        if self._spare_stacks:
            return self._spare_stacks.pop()
        stack = self.alloc_frame()
        try:
            frames = (stack, self.alloc_frame())
        except OutOfMemory:
            self.put_page(stack)
            raise
        return KernelStack(PAGE_OFFSET + (frames[0] + 1) * PAGE_SIZE), frames

    def new_context(self, cpu: KernelCpu) -> CpuContext:
        """A context in the state after boot on a CPU."""
        context = self._spare_contexts.pop() if self._spare_contexts else cpu.vcpu.new_context()
        context.copy_from(cpu.template)
        context.resumes_at = context.passes = -1
        return context

    def reclaim_task(self, task: Task) -> None:
        """A task is gone: keep its stack and contexts for the next."""
        self._spare_contexts.append(task.context)
        self._spare_stacks.append((task.kstack, task.stack_frames))

    @property
    def spare_stack_frames(self) -> int:
        """Frames of the stacks that ``reclaim_task`` keeps."""
        return sum(len(frames) for _, frames in self._spare_stacks)

    def drop_spare_stacks(self) -> int:
        """Free the stacks that ``reclaim_task`` has kept; the number of frames."""
        freed = 0
        while self._spare_stacks:
            for pfn in self._spare_stacks.pop()[1]:
                self.put_page(pfn)
                freed += 1
        return freed

    def switch_to(self, cpu: KernelCpu, task: Task) -> None:
        """Load a task on a CPU: address space, kernel stack, thread-local descriptors, control registers."""
        self.this_cpu = cpu
        context = task.context
        for each in (context, *task.kstack.contexts):
            each.copy_system_from(cpu.template)
        self.activate(cpu, task.borrowed_mms[-1] if task.borrowed_mms else task.mm)
        context.cr3 = cpu.cr3 if task.mm is None else task.mm.cr3
        for each in task.kstack.contexts:
            each.cr3 = cpu.cr3
        self.table_words[(cpu.tss + 4) >> 2] = task.kstack.stack_top
        if not self.broken("no-tls-switch"):
            load_tls(self, cpu, task)
        if task.mm is not None and task.mm.ldt:
            load_ldt(task)
        if self.broken("no-fpu-switch"):
            last = cpu.vcpu.context
            context.data[_FPU_FIRST:_FPU_END] = last.data[_FPU_FIRST:_FPU_END]

    def deliver_signal(self, task: Task) -> None:
        """Carry out what is to be done about signals before ring 3 goes on.  Raises TaskExit."""
        signal.deliver(self, task)

    # -- guest kernel code ---------------------------------------------------------------------------------------

    def printk(self, text: str) -> None:
        """The kernel says something of its own."""
        self.log.add(text.encode())

    def may_sleep(self, what: str) -> None:
        """Raises WrongContext in an interrupt."""
        if self.in_interrupt:
            raise WrongContext(f"{what} in an interrupt: nothing may sleep there")

    def cond_resched(self) -> bool:
        """Give the CPU to the tasks that wait for it; False when there is none, or nobody who could come back."""
        task = self.this_cpu.current
        if task is None or task.greenlet is not getcurrent() or self.in_interrupt:
            return False
        return self.sched.cond_resched(task)

    # -- stops ---------------------------------------------------------------------------------------------------

    def stopped(self, cpu: KernelCpu, exit_: Exit) -> None:
        """A CPU stopped for no reason of the guest's: a debugger's, or one that cannot be."""
        if self.on_stop is None or not isinstance(exit_, BreakpointHit | Stepped):
            raise UnexpectedExit(f"CPU {cpu.index} came back by {exit_}")
        self.on_stop(cpu, exit_)

    def kill_now(self, task: Task, report: str) -> NoReturn:
        """End a task whose old program is gone and whose new one cannot start.  Raises TaskExit."""
        task.report = report
        signal.die(self, task, signal.SIGKILL)

    # -- running -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until no task is left.  Raises what the scheduler raises."""
        self.sched.run(lambda: not any(task.state is not State.DEAD for task in self.tasks.values()))

    def close(self) -> None:
        """End what is left of the tasks, wherever they sleep; the guest sees nothing of it, and nothing runs again."""
        self.sched.interrupted = True
        for task in self.tasks.values():
            if task.greenlet is not None and not task.greenlet.dead:
                task.greenlet.parent = getcurrent()
                with suppress(SandboxError, KernelError):
                    task.greenlet.throw(GreenletExit)
            task.greenlet = None
        self.tasks.clear()
