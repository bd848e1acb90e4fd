"""What a debugger sets in a program's memory, as ptrace(2)'s POKEDATA does (``access_remote_vm``, kernel/ptrace.c).

A private page that somebody else has too, another process after a fork or the page cache, becomes the process's own
first: the kernel's code copies it on a CPU, and the rest of the world keeps what it had.  The kernel does that while
the guest stands still: it takes none of the guest's time, and no point of the debugger counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.target import WRAP, Refused, pieces
from sandbox.kernel.base.layout import PAGE_OFFSET, TASK_SIZE
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.vma import VM_SHARED
from sandbox.kernel.task.task import Task
from sandbox.machine.memory import Reason
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

BETWEEN = ("fault", "syscall", "sysret", "signal", "fork", "exec", "input")
"""Events between two pieces of the kernel's work, at which it can be asked for another one."""


def write(debugger: Debugger, linear: int, data: bytes) -> None:
    """Set bytes of what is looked at, at a linear address.  Raises Refused."""
    target = debugger.target
    parts = pieces(linear, len(data))
    if isinstance(target, KernelTarget) and target.mm is not None:
        wanted = [each for each in parts if _is_others(target, target.mm, each[0])]
        if wanted:
            _own(debugger, target, target.mm, wanted)
    target.write(linear & WRAP, data)


def _is_others(target: KernelTarget, mm: Mm, linear: int) -> bool:
    """A page of a private area that is mapped, and not the process's alone."""
    vma = mm.vmas.find(linear) if linear < TASK_SIZE else None
    if vma is None or linear < vma.start or vma.flags & VM_SHARED:
        return False
    physical, memmap = target.translate(linear), target.kernel.memmap
    if physical is None:
        return False
    pfn = physical // PAGE_SIZE
    return memmap.reserved(pfn) or memmap.count(pfn) > 1


def _own(debugger: Debugger, target: KernelTarget, mm: Mm, wanted: list[tuple[int, int]]) -> None:
    """Each page becomes the process's own, by a poke of the bytes that are there.  Raises Refused."""
    task = target.kernel.sched.current or target.task
    if task is None or not _at_rest(debugger, target, mm):
        raise Refused("this page is shared, and the kernel is at work: set it at an instruction of the program")
    for linear, size in wanted:
        now = target.read(linear, size)
        with _unseen(debugger, target):
            done = _poke(target.kernel, task, mm, linear, now)
        if not done:
            raise Refused(f"the page at {linear & PAGE_MASK:08x} is shared, and cannot be copied for this process")


def _at_rest(debugger: Debugger, target: KernelTarget, mm: Mm) -> bool:
    """No routine of the kernel's is half done on this CPU, nor a change of the areas."""
    stop, cpu = debugger.stop, target.kernel.this_cpu
    if stop is None or mm.lock.writer is not None or cpu.in_interrupt:
        return False
    event = str(stop.details.get("event", "")).partition("#")[0].partition(" ")[0]
    return event in BETWEEN if event else cpu.vcpu.context.cpl == 3 or cpu.current is None


def _poke(kernel: Kernel, task: Task, mm: Mm, linear: int, data: bytes) -> bool:
    """Through the scratch page of a task, which is as it was afterwards."""
    scratch, memory = task.scratch, kernel.memory
    at = memory.host_index(scratch - PAGE_OFFSET)
    kept = bytes(memory.bytes[at : at + PAGE_SIZE])
    task.cpu.store(scratch, data)
    moved = kernel.remote.access_remote_vm(task, mm, linear, scratch, len(data), write=True)
    memory.host_write(scratch - PAGE_OFFSET, kept, Reason.DEBUGGER)
    return moved == len(data)


@contextmanager
def _unseen(debugger: Debugger, target: KernelTarget) -> Iterator[None]:
    """The machine works without its debugger, and its clock stands still."""
    control, clock, cpus = target.control, target.kernel.clock, target.machine.cpus
    points, times = debugger.snapshot(), [cpu.clock for cpu in cpus]
    charged, skipped = clock.charged, clock.skipped
    debugger.disarm()
    debugger.arm()
    for cpu in cpus:
        cpu.run_by(None)
    try:
        yield
    finally:
        clock.charged, clock.skipped = charged, skipped
        for cpu, time in zip(cpus, times, strict=True):
            cpu.clock = time
            cpu.run_by(control.run)
        debugger.restore(points)
