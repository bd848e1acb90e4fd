"""The record of one machine's kernel: its subsystems, which do not know it.

Who stands above hands it on; below, nothing names it.  ``main.start_kernel`` fills it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from greenlet import GreenletExit, getcurrent

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.irq import Interrupts
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.arch.vmlinux import KernelImage, Routines
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import Layout
from sandbox.kernel.base.printk import Log
from sandbox.kernel.base.races import Races
from sandbox.kernel.base.stats import Stats
from sandbox.kernel.base.tape import Tape
from sandbox.kernel.base.time import Clock
from sandbox.kernel.drivers.jobctl import JobControl
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.fs.userpath import UserPaths
from sandbox.kernel.ipc.msg import Messages
from sandbox.kernel.ipc.pipe_io import Pipes
from sandbox.kernel.ipc.sem import Semaphores
from sandbox.kernel.ipc.shm import SharedSegments
from sandbox.kernel.ipc.sockets import Sockets
from sandbox.kernel.mm.access import Peek
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.entries import Entries
from sandbox.kernel.mm.fault import PageFaults
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.generic_file import GenericFile
from sandbox.kernel.mm.gup import RemoteAccess
from sandbox.kernel.mm.highmem import Highmem
from sandbox.kernel.mm.hotplug import Hotplug
from sandbox.kernel.mm.ioremap import IoRemap
from sandbox.kernel.mm.isahole import IsaHole
from sandbox.kernel.mm.kmalloc import Kmalloc
from sandbox.kernel.mm.kmap import Kmap
from sandbox.kernel.mm.mm import MmList
from sandbox.kernel.mm.mmap import Mmap
from sandbox.kernel.mm.mmu_context import MmuContext
from sandbox.kernel.mm.mremap import Mremap
from sandbox.kernel.mm.msync import Writeback
from sandbox.kernel.mm.page import MemMap
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.page_ext import PageExt
from sandbox.kernel.mm.page_kva import PageKva
from sandbox.kernel.mm.pagelock import PageLocks
from sandbox.kernel.mm.pgalloc import TableFrames
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.sparse import MemoryModel
from sandbox.kernel.mm.tlb import Tlb
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.mm.vmalloc import Vmalloc
from sandbox.kernel.task.desc import Descriptors
from sandbox.kernel.task.futex import Futexes
from sandbox.kernel.task.futex_pi import PiFutexes
from sandbox.kernel.task.itimer import Timers
from sandbox.kernel.task.kstack import KernelStacks
from sandbox.kernel.task.posixtimer import PosixTimers
from sandbox.kernel.task.ptrace import PtraceStops
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.sigdeliver import SignalDelivery
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.task import State, Task, TaskTable
from sandbox.kernel.task.vdso import Vdso
from sandbox.kernel.vfs.file import File
from sandbox.machine.events import EventBus
from sandbox.machine.machine import Machine
from sandbox.machine.memory import PhysicalMemory
from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError


@dataclass(slots=True, eq=False, repr=False)
class Kernel:
    """One kernel on one machine, floor by floor."""

    machine: Machine
    config: KernelConfig
    broken: Breakage
    memory: PhysicalMemory
    bus: EventBus
    clock: Clock
    stats: Stats
    log: Log
    tape: Tape | None
    """Keeps what comes from outside, None where nobody will go through this run again."""
    random: random.Random
    """What programs get from the kernel's random devices: the same for the same seed."""

    image: KernelImage
    routines: Routines
    smp: Smp
    races: Races
    irq: Interrupts

    layout: Layout
    reserved: list[tuple[str, int, int]]
    """What boot keeps for ever: name, physical start and end."""
    ram: list[tuple[int, int]]
    """RAM that the kernel knows of: (physical, bytes)."""
    zero_page: int
    """The frame of zeros that all read-only anonymous pages share."""
    model: MemoryModel
    memmap: MemMap
    page_ext: PageExt
    pgdat: PgDat
    page_alloc: PageAllocator
    tables: PageTables
    entries: Entries
    table_frames: TableFrames
    tlb: Tlb
    highmem: Highmem
    kva: PageKva
    kmap: Kmap
    locks: PageLocks
    code: CodeCache
    mmlist: MmList
    mmu: MmuContext
    vmalloc: Vmalloc
    ioremap: IoRemap
    kmalloc: Kmalloc
    pagecache: PageCache
    writeback: Writeback
    faults: PageFaults
    mmap: Mmap
    mremap: Mremap
    uaccess: UserAccess
    remote: RemoteAccess
    peek: Peek
    generic_file: GenericFile
    hotplug: Hotplug
    isahole: IsaHole

    files: FileSystem
    paths: UserPaths
    tasks: TaskTable
    sched: Scheduler
    stacks: KernelStacks
    desc: Descriptors
    signals: Signals
    signal_delivery: SignalDelivery
    tracing: PtraceStops
    timers: Timers
    posix_timers: PosixTimers
    vdso: Vdso
    """What exec maps into every program."""
    futexes: Futexes
    pi_futexes: PiFutexes
    pipes: Pipes
    sockets: Sockets
    jobctl: JobControl
    shm: SharedSegments
    sem: Semaphores
    msg: Messages
    tainted: int = 0
    """Bits of /proc/sys/kernel/tainted."""
    run_user: Callable[[Task], None] = field(init=False)
    """What a task does with its life: ring 3 and its traps, until TaskExit; handed in by who answers traps."""
    lock_waiters: dict[object, object] = field(default_factory=dict)
    """Owners of file locks that sleep, and whose lock each waits for."""

    @property
    def cpus(self) -> tuple[KernelCpu, ...]:
        return self.smp.cpus

    @property
    def this_cpu(self) -> KernelCpu:
        """The CPU on whose behalf Python runs now."""
        return self.smp.this_cpu

    def hold_file(self, file: File) -> None:
        """The present call keeps an open file of a shared table until it is done."""
        task = self.sched.current
        if task is not None:
            task.held.append(file.get())

    def run(self) -> None:
        """Run until no task is left but those that only wait for others.  Raises what the scheduler raises."""
        tasks = self.tasks
        self.sched.run(
            lambda: not any(task.runs and not task.kthread and task.state is not State.DEAD for task in tasks.values())
        )

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
