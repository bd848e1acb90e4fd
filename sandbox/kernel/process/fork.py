"""fork: a child that shares every page until one of the two writes to it."""

from __future__ import annotations

from greenlet import greenlet

from sandbox.kernel.abi.errno import EAGAIN, ENOMEM, KernelError
from sandbox.kernel.abi.signals import SIGKILL
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.events import TaskChange
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.time import BLOCK_NANOSECONDS
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.entries import Scope
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.pte import MAPPED
from sandbox.kernel.mm.rlimit import default_limits
from sandbox.kernel.mm.vma import VM_WIPEONFORK, Vma
from sandbox.kernel.process.exit import task_main
from sandbox.kernel.task.itimer import arm_cpu_limit
from sandbox.kernel.task.sigqueue import bit_of
from sandbox.kernel.task.task import SCHED_DEADLINE, SCHED_RESET_ON_FORK, Task
from sandbox.kernel.vfs.file import FdTable
from sandbox.x86.paging import PAGE_SIZE, RW, A, D

MAX_TASKS = 4096
KILL = bit_of(SIGKILL)


def new_task(
    kernel: Kernel, parent: Task | None, comm: str, mm: Mm | None, files: FdTable, pid: int | None = None
) -> Task:
    """A task with its kernel stack and greenlet, not yet runnable; the next ``pid`` unless one is given.

    Raises OutOfMemory.
    """
    cpu = kernel.sched.least_loaded(-1 if parent is None else parent.cpus_allowed)
    kstack, frames = kernel.stacks.new_kstack()
    number = kernel.tasks.new_pid() if pid is None else pid
    task = Task(number, comm, kernel.stacks.new_context(cpu), kstack, frames, mm, files, parent, cpu, kernel.files.root)
    task.started = kernel.clock.now * BLOCK_NANOSECONDS
    task.scratch = PAGE_OFFSET + frames[1] * PAGE_SIZE
    task.greenlet = greenlet(lambda: task_main(kernel, task))
    kernel.tasks[task.pid] = task
    if parent is not None:
        parent.children.append(task)
        task.pgid, task.sid, task.umask = parent.pgid, parent.sid, parent.umask
        task.cred, task.personality = parent.cred, parent.personality
        task.exe, task.exe_inode = parent.exe, parent.exe_inode
        task.cwd, task.root = parent.cwd, parent.root
        task.ioprio, task.oom_score_adj = parent.ioprio, parent.oom_score_adj
        task.limits, task.nice = list(parent.limits), parent.nice
        task.capabilities, task.cpus_allowed = parent.capabilities, parent.cpus_allowed
        if not parent.policy & SCHED_RESET_ON_FORK:
            task.policy, task.rt_priority = parent.policy, parent.rt_priority
        arm_cpu_limit(task)
    else:
        task.limits = default_limits(kernel.config.stack_limit)
        task.pgid = task.sid = task.pid
    return task


def do_fork(kernel: Kernel, parent: Task, *, share_mm: bool = False) -> Task:
    """Copy a task; the child's system call returns 0.  With ``share_mm`` it runs in the parent's address space.

    Raises KernelError: ENOMEM, EAGAIN.
    """
    if len(kernel.tasks) >= MAX_TASKS or parent.policy == SCHED_DEADLINE:
        raise KernelError(EAGAIN)
    assert parent.mm is not None
    cpu = parent.cpu
    try:
        mm = _shared(parent.mm) if share_mm else dup_mm(kernel, cpu, parent.mm)
    except OutOfMemory as error:
        raise KernelError(ENOMEM) from error
    files = parent.files.copy()
    try:
        child = new_task(kernel, parent, parent.comm, mm, files)
    except OutOfMemory as error:
        files.close_all()
        kernel.mmu.mmput(cpu, mm)
        raise KernelError(ENOMEM) from error
    child.context.copy_from(parent.context)
    child.context.eax = 0
    child.context.cr3 = mm.cr3
    child.tls = list(parent.tls)
    child.signals = parent.signals.fork(share=False)
    if kernel.bus.active:
        kernel.bus.emit(TaskChange(kernel.clock.now, cpu.index, parent.pid, "fork", f"child {child.pid}"))
    kernel.sched.enqueue(child)
    return child


def adopt(parent: Task, child: Task) -> None:
    """The child is another's: of its maker's parent (CLONE_PARENT)."""
    if child.parent is not None:
        child.parent.children.remove(child)
    child.parent = parent
    parent.children.append(child)


def _shared(mm: Mm) -> Mm:
    mm.users += 1
    return mm


def wait_for_vfork(kernel: Kernel, parent: Task, child: Task) -> None:
    """The parent goes on when the child has executed a program or ended."""
    if kernel.broken("no-vfork-wait"):
        return
    child.vfork_parent = parent
    while child.vfork_parent is parent and not parent.signals.waiting & KILL:
        kernel.sched.sleep(parent, "a vfork child")
    child.vfork_parent = None


def _make_tables(tables: PageTables, parent: Mm, child: Mm, vma: Vma) -> None:
    """The tables that an area's entries need, before one is read: reclaim for a table may take pages of the parent.

    Raises OutOfMemory.
    """
    made = -1
    for linear, _ in tables.user_ptes(parent.pgd, vma.start, vma.end):
        if linear // tables.large_page != made:
            made = linear // tables.large_page
            tables.pte_alloc(child.pgd, linear)


def dup_mm(kernel: Kernel, cpu: KernelCpu, parent: Mm) -> Mm:
    """A copy of an address space: private writable pages read-only in both, the child's entries old and clean.

    The parent's TLB entries are flushed once at the end (MM 11).  Raises OutOfMemory, with nothing left behind.
    """
    child = kernel.mmu.mm_alloc()
    child.set_areas(parent.vmas.copy())
    child.start_code, child.end_code = parent.start_code, parent.end_code
    child.start_data, child.end_data = parent.start_data, parent.end_data
    child.start_stack, child.read_implies_exec = parent.start_stack, parent.read_implies_exec
    child.vdso, child.auxv = parent.vdso, parent.auxv
    child.arg_start, child.arg_end = parent.arg_start, parent.arg_end
    child.env_start, child.env_end = parent.env_start, parent.env_end
    child.run_from(parent.exe)
    tables, entries = kernel.tables, kernel.entries
    protect = not kernel.broken("no-cow")
    gather = entries.gather(cpu, parent, Scope.SPACE)
    try:
        kernel.desc.copy_ldt(parent, child)
        for vma in child.vmas:
            if vma.flags & VM_WIPEONFORK:
                continue
            _make_tables(tables, parent, child, vma)
            kept = ~(A | D | RW) if protect and not vma.shared else ~(A | D)
            for linear, ptep, _ in tables.user_places(parent.pgd, vma.start, vma.end):
                entry = gather.protect(linear, ptep, _read_only) if kept & RW == 0 else entries.settled(ptep)
                if entry & MAPPED:
                    entries.share(child, linear, entry & kept)
    except OutOfMemory:
        kernel.mmu.mmput(cpu, child)
        raise
    finally:
        gather.finish()
    return child


def _read_only(entry: int) -> int:
    return entry & ~RW
