"""start_kernel: builds the record floor by floor, then wires what stands above it."""

from __future__ import annotations

import random
from functools import partial

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.irq import Interrupts
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.arch.vmlinux import kernel_image
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.printk import Log
from sandbox.kernel.base.races import Races
from sandbox.kernel.base.stats import Stats
from sandbox.kernel.base.tape import Tape
from sandbox.kernel.base.time import Clock
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.drivers.chrdev import ByteOperations, memory_devices
from sandbox.kernel.drivers.jobctl import JobControl
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.fs.userpath import UserPaths
from sandbox.kernel.inspect.owner import holders
from sandbox.kernel.inspect.symbolize import Symbols
from sandbox.kernel.ipc.msg import Messages
from sandbox.kernel.ipc.pipe_io import Pipes
from sandbox.kernel.ipc.sem import Semaphores
from sandbox.kernel.ipc.shm import SharedSegments
from sandbox.kernel.ipc.sockets import Sockets
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.access import Peek
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.entries import Entries
from sandbox.kernel.mm.fault import PageFaults
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.generic_file import GenericFile
from sandbox.kernel.mm.gfp import GFP_ATOMIC
from sandbox.kernel.mm.gup import RemoteAccess
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.hotplug import Hotplug
from sandbox.kernel.mm.ioremap import IoRemap
from sandbox.kernel.mm.isahole import IsaHole
from sandbox.kernel.mm.kmalloc import Kmalloc
from sandbox.kernel.mm.kmap import Kmap
from sandbox.kernel.mm.kva_flush import KvaFlush
from sandbox.kernel.mm.mm import MmList
from sandbox.kernel.mm.mmap import Mmap
from sandbox.kernel.mm.mmu_context import MmuContext
from sandbox.kernel.mm.mremap import Mremap
from sandbox.kernel.mm.msync import Writeback
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.page_ext import PageExt
from sandbox.kernel.mm.page_kva import PageKva
from sandbox.kernel.mm.page_mapper import Pool
from sandbox.kernel.mm.pagelock import PageLocks
from sandbox.kernel.mm.pageout import PageOut
from sandbox.kernel.mm.pgalloc import TableFrames
from sandbox.kernel.mm.tlb import Tlb
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.mm.vmalloc import Vmalloc
from sandbox.kernel.mm.vmscan import Shrinkers
from sandbox.kernel.module.chrdev import Devices
from sandbox.kernel.module.entry import GuestEntry
from sandbox.kernel.module.hypercall import Gate
from sandbox.kernel.module.ksyms import make_gate
from sandbox.kernel.module.loader import Modules
from sandbox.kernel.module.owners import WINDOWS
from sandbox.kernel.module.useraccess import UserCalls
from sandbox.kernel.process.exit import end_shell
from sandbox.kernel.procfs import proc_root
from sandbox.kernel.setup import boot
from sandbox.kernel.syscalls.table import SystemCalls
from sandbox.kernel.task.desc import Descriptors
from sandbox.kernel.task.futex import Futexes
from sandbox.kernel.task.futex_pi import PiFutexes
from sandbox.kernel.task.itimer import Timers
from sandbox.kernel.task.kstack import KernelStacks
from sandbox.kernel.task.posixtimer import PosixTimers
from sandbox.kernel.task.ptrace import PtraceStops
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.sigdeliver import SignalDelivery
from sandbox.kernel.task.sigframe import SignalFrames
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.switch import ContextSwitch
from sandbox.kernel.task.task import TaskTable
from sandbox.kernel.task.vdso import Vdso
from sandbox.kernel.traps import Traps
from sandbox.machine.machine import Machine
from sandbox.records import dataclass


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class System:
    """A kernel, and what stands above its record."""

    kernel: Kernel
    modules: Modules
    devices: Devices
    gate: Gate
    symbols: Symbols
    traps: Traps


def start_kernel(machine: Machine, config: KernelConfig, files: FileSystem, tape: Tape | None = None) -> System:
    """One kernel on one machine, booted, with no task yet; ``tape`` keeps what comes from outside.

    Raises ConfigurationError when the machine cannot hold it.
    """
    kernel = _build(machine, config, files, tape)
    _connect_files(kernel, files)
    machine.board.clock = lambda: kernel.clock.now
    return _wire(kernel)


def _build(machine: Machine, config: KernelConfig, files: FileSystem, tape: Tape | None) -> Kernel:
    """Every subsystem, each given the few that it needs; what calls upwards is handed in by those above."""
    memory, broken, image = machine.memory, config.broken, kernel_image()
    by_host = config.clock == "host"
    clock = Clock(machine.cpus, config.start, by_host, None if tape is None else tape.times)
    stats, log = Stats(), Log()
    trace = Trace(machine.bus, clock, stats, log)
    smp = Smp([KernelCpu(vcpu.index, vcpu, image.routines) for vcpu in machine.cpus])
    booted = boot(memory, smp.cpus, config, image)
    for warning in booted.warnings:
        log.printk(f"{warning}\n")
    layout, pgdat, zero_page = booted.layout, booted.pgdat, booted.zero_page
    kernel_entries, tables = booted.entries, booted.entries.tables

    tasks = TaskTable()
    races = Races(config.schedule)
    sched = Scheduler(smp, machine.board, tasks, config, trace, races)
    irq = Interrupts(smp, machine.board, log, sched.check_limits)

    tlb = Tlb(smp, image.routines, machine.bus, broken)
    kernel_entries.tlb, kernel_entries.races, tables.races = tlb, races, races
    code = CodeCache(memory, machine.cpus, not broken("no-code-drop"))
    machine.board.dma_done = code.dma_done
    shrinkers, mmlist = Shrinkers(), MmList()
    page_alloc = PageAllocator(pgdat, config, smp, sched, sched.cond_resched, shrinkers, code, layout, trace)
    highmem = Highmem(kernel_entries, layout, smp, stats, config.policies, broken)
    table_frames = TableFrames(memory, pgdat, page_alloc, highmem)
    tables.alloc_table, tables.free_table = table_frames.alloc, table_frames.free
    vmalloc = Vmalloc(
        kernel_entries, layout, smp, sched, pgdat, page_alloc, highmem, code, mmlist, zero_page, config, trace
    )
    entries = Entries(tables, tlb, pgdat.memmap, page_alloc, smp, zero_page, races, broken)
    locks = PageLocks(pgdat.memmap, sched)
    kva_flush = KvaFlush(tlb, smp, config.policies["kva_flush"])
    kva = PageKva(kernel_entries, layout, booted.kva_size, smp, sched, pgdat.memmap, locks, mmlist, kva_flush, broken)
    kmap = Kmap(kernel_entries, layout, booted.pkmap, smp, sched, pgdat.memmap, broken)
    page_alloc.kvas, page_alloc.forget_kva = kva.mapped, kva.forget
    page_ext = PageExt(memory, pgdat.memmap, lambda: page_alloc.alloc_page(GFP_ATOMIC))
    page_alloc.exts, page_alloc.check_ext = page_ext.pieces, page_ext.check_free
    pools: dict[str, Pool] = {"kva": kva, "kmap": kmap}
    if (pool := pools.get(config.policies["high_pages"])) is not None:
        highmem.copy_by(pool, broken("pool-nested-wait"))
    pagecache = PageCache(memory, pgdat, page_alloc, highmem, locks, races)
    writeback = Writeback(entries, smp, pagecache, broken)
    mmu = MmuContext(entries, table_frames, smp, sched, mmlist, pagecache, writeback, broken)
    faults = PageFaults(entries, pgdat, page_alloc, highmem, pagecache, code, zero_page, stats, broken)
    mmap = Mmap(entries, pagecache, writeback, faults, code, trace, broken)
    uaccess = UserAccess(memory, highmem, stats, broken)

    desc = Descriptors(memory, table_frames)
    signals = Signals(sched, tasks, broken)
    signals.tracing = tracing = PtraceStops(sched, signals)
    frames = SignalFrames(uaccess, desc, broken)
    signal_delivery = SignalDelivery(sched, tasks, signals, tracing, frames, trace, broken)
    timers = Timers(sched, signals, clock, broken)
    stacks = KernelStacks(page_alloc, pgdat.memmap, kernel_entries, smp, vmalloc)
    sched.switch_to, sched.tick = ContextSwitch(smp, mmu, desc, broken).switch_to, timers.tick
    sched.do_irq, sched.turn_over = irq.do_irq, code.turn_over
    if not broken("no-window-check"):
        sched.check_windows = highmem.windows.check_released
    pageout = PageOut(entries, mmu, smp, pgdat, page_alloc, pagecache, broken)
    for shrink in (pagecache.shrink, stacks.shrink, pageout.shrink):
        shrinkers.register(shrink)
    if broken("swap-kernel"):
        shrinkers.steal_first(vmalloc.lose_a_page)

    page_alloc.kmaps, page_alloc.check_kmap = kmap.pages, kmap.check_free
    kva.other_address = kmap.page_address
    futexes = Futexes(uaccess, sched, clock)
    return Kernel(
        machine=machine, config=config, broken=broken, memory=memory, bus=machine.bus, clock=clock,
        stats=stats, log=log, tape=tape, random=random.Random(config.seed),
        image=image, routines=image.routines, smp=smp, irq=irq, races=races,
        layout=layout, reserved=booted.reserved, ram=booted.ranges, zero_page=zero_page,
        model=booted.model, memmap=pgdat.memmap, page_ext=page_ext, pgdat=pgdat, page_alloc=page_alloc,
        tables=tables, entries=entries, table_frames=table_frames, tlb=tlb, highmem=highmem, kva=kva, kmap=kmap,
        locks=locks, code=code,
        mmlist=mmlist, mmu=mmu,
        vmalloc=vmalloc, ioremap=IoRemap(vmalloc, layout, pgdat, booted.ranges, config),
        kmalloc=Kmalloc(memory, smp, pgdat, page_alloc, config, log),
        pagecache=pagecache, writeback=writeback, faults=faults,
        mmap=mmap, mremap=Mremap(entries, pgdat, mmap, broken),
        uaccess=uaccess, peek=Peek(memory, tables),
        remote=RemoteAccess(entries, faults, pgdat.memmap, page_alloc, kmap, pagecache, mmu, uaccess, code, broken),
        generic_file=GenericFile(pagecache, pgdat, page_alloc, uaccess, zero_page),
        hotplug=Hotplug(
            memory, booted.ranges, kernel_entries, layout, booted.model, pgdat, page_alloc, highmem, vmalloc,
            booted.limit, broken
        ),
        isahole=IsaHole(machine, entries, smp, pgdat, page_alloc, highmem, pagecache, code, mmlist, broken),
        files=files, paths=UserPaths(files, uaccess), tasks=tasks, sched=sched, stacks=stacks, desc=desc,
        signals=signals, signal_delivery=signal_delivery, tracing=tracing, timers=timers,
        posix_timers=PosixTimers(sched, signals, timers, clock), vdso=Vdso(),
        futexes=futexes, pi_futexes=PiFutexes(futexes, uaccess, sched, clock, tasks),
        pipes=Pipes(page_alloc, pgdat.memmap, uaccess, sched, signals, broken),
        sockets=Sockets(files, page_alloc, uaccess, sched, signals, clock, broken),
        jobctl=JobControl(signals, tasks),
        shm=SharedSegments(mmap, clock), sem=Semaphores(sched, clock),
        msg=Messages(page_alloc, uaccess, sched, clock),
    )  # fmt: skip


def _connect_files(kernel: Kernel, files: FileSystem) -> None:
    """The tree learns the time and gets the kernel's devices and /proc."""
    clock = kernel.clock
    files.now = lambda: clock.nanoseconds
    if files.standard:
        files.add_devices(memory_devices(ByteOperations(kernel.memory, kernel.uaccess), kernel.config.seed))
        files.mount("proc", "/proc", "proc", proc_root(kernel))


def _where(kernel: Kernel, symbols: Symbols) -> str:
    """For reports of limits: where the tasks are, with nothing left for the way to ring 3."""
    for cpu in kernel.cpus:
        cpu.finish()
    return symbols.where()


def _wire(kernel: Kernel) -> System:
    """Modules, the gate, system calls and traps."""
    users = UserCalls(kernel)
    entry = GuestEntry(kernel, users)
    modules, devices = Modules(kernel, entry), Devices(kernel, entry)
    symbols = Symbols(kernel, modules)
    gate = make_gate(kernel, modules, devices, users, symbols.kernel_symbol)
    entry.name_of, entry.opened = symbols.kernel_symbol, lambda: [each.line() for each in gate.owners.held([WINDOWS])]
    traps = Traps(kernel, SystemCalls(kernel, modules), modules, gate, symbols)
    for cpu in kernel.cpus:
        cpu.traps = traps
    kernel.sched.where = partial(_where, kernel, symbols)
    kernel.page_alloc.holders = lambda pfn: holders(kernel, pfn)
    kernel.run_user = traps.run_user
    kernel.signals.end_shell = partial(end_shell, kernel)
    return System(kernel, modules, devices, gate, symbols, traps)
