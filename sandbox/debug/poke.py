"""What a debugger reads and sets in a program's memory, as ptrace(2) does (``access_remote_vm``, kernel/ptrace.c).

What is not there yet is read as the program would find it, and stays absent.  A private page that somebody else has
too, another process after a fork or the page cache, becomes the process's own before it is written: the kernel's code
copies it on a CPU, and the rest of the world keeps what it had.  The kernel does that while the guest stands still: it
takes none of the guest's time, and no point of the debugger counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.looked import pieces
from sandbox.debug.target import WRAP, Refused, Target
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import PAGE_OFFSET, TASK_SIZE
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.vma import VM_IO, VM_SHARED
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


def read(target: Target, linear: int, size: int) -> bytes:
    """Bytes of what is looked at; short where no area is, or where what is swapped out begins."""
    found = b""
    for at, count in pieces(linear, size):
        piece = target.read(at, count)
        if not piece and isinstance(target, KernelTarget) and at < TASK_SIZE:
            piece = _absent(target, at)[:count]
        found += piece
        if len(piece) < count:
            break
    return found


def _absent(target: KernelTarget, linear: int) -> bytes:
    """From an address to its page's end, as the first access would bring it in."""
    vma = None if target.mm is None else target.mm.vmas.find(linear)
    if vma is None or linear < vma.start or vma.flags & VM_IO or _was_there(target, linear):
        return b""
    if vma.inode is None:
        return bytes(PAGE_SIZE - linear % PAGE_SIZE)
    index, cache = vma.page_of(linear), target.kernel.pagecache
    pfn = cache.cached(vma.inode, index)
    try:
        page = vma.inode.read_block(index) if pfn is None else target.read_physical(pfn * PAGE_SIZE, PAGE_SIZE)
    except KernelError:
        return b""
    whole = index * PAGE_SIZE < vma.inode.size
    return page.ljust(PAGE_SIZE, b"\0")[linear % PAGE_SIZE :] if whole else b""


def _was_there(target: KernelTarget, linear: int) -> bool:
    """An entry remembers a page that is elsewhere."""
    last = target.walk(linear).levels[-1]
    return last.name == "PTE" and bool(last.entry)


def _is_others(target: KernelTarget, mm: Mm, linear: int) -> bool:
    """A page of a private area that is not the process's alone, or that nobody has touched."""
    vma = mm.vmas.find(linear) if linear < TASK_SIZE else None
    if vma is None or linear < vma.start or vma.flags & VM_SHARED:
        return False
    physical, memmap = target.translate(linear), target.kernel.memmap
    if physical is None:
        return True
    pfn = physical // PAGE_SIZE
    return memmap.reserved(pfn) or memmap.count(pfn) > 1


def _own(debugger: Debugger, target: KernelTarget, mm: Mm, wanted: list[tuple[int, int]]) -> None:
    """Each page becomes the process's own, by a poke of the bytes that are there.  Raises Refused."""
    task = target.kernel.sched.current or target.task
    if task is None or not _at_rest(debugger, target, mm):
        raise Refused("not the process's own page yet, and the kernel is at work: set it at one of its instructions")
    for linear, size in wanted:
        now = read(target, linear, size)
        with _unseen(debugger, target):
            done = len(now) == size and _poke(target.kernel, task, mm, linear, now)
        if not done:
            raise Refused(f"no page of this process's own can be had at {linear & PAGE_MASK:08x}")


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
    charged, skipped, sched = clock.charged, clock.skipped, target.kernel.sched
    checks, sched.check_windows = sched.check_windows, _waits
    debugger.disarm()
    debugger.arm()
    for cpu in cpus:
        cpu.run_by(None)
    try:
        yield
    finally:
        sched.check_windows = checks
        clock.charged, clock.skipped = charged, skipped
        for cpu, time in zip(cpus, times, strict=True):
            cpu.clock = time
            cpu.run_by(control.run)
        debugger.restore(points)


def _waits(cpu: KernelCpu, what: str) -> None:
    """Nobody can be waited for while the guest stands still (``Scheduler.sleep`` says so before it gives up a CPU)."""
    if what == "a task sleeps":
        raise Refused("this cannot be set now: the kernel would have to wait for somebody")
