"""clone: another task, with an address space and files of its own (fork) or with its maker's (a thread)."""

from __future__ import annotations

from contextlib import suppress

from greenlet import greenlet

from sandbox.kernel.abi.errno import EAGAIN, EINVAL, ENOMEM, KernelError
from sandbox.kernel.abi.flags import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
)
from sandbox.kernel.abi.ptrace import PTRACE_EVENT_VFORK_DONE
from sandbox.kernel.abi.signals import SIGCHLD
from sandbox.kernel.abi.userdesc import UserDesc
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.events import TaskChange
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.time import BLOCK_NANOSECONDS
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.entries import Scope
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.pgtable import PageTables
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.rlimit import default_limits
from sandbox.kernel.mm.vma import VM_WIPEONFORK, Vma
from sandbox.kernel.process.exit import set_parent, task_main
from sandbox.kernel.process.ptrace import fork_event, trace_child
from sandbox.kernel.task.itimer import arm_cpu_limit
from sandbox.kernel.task.sigpending import is_dying, recalculate
from sandbox.kernel.task.task import (
    GDT_ENTRY_TLS_ENTRIES,
    GDT_ENTRY_TLS_MIN,
    SCHED_DEADLINE,
    SCHED_RESET_ON_FORK,
    FsStruct,
    SysvSem,
    Task,
    ThreadGroup,
)
from sandbox.kernel.vfs.file import FdTable
from sandbox.records import dataclass
from sandbox.x86.masks import TF
from sandbox.x86.paging import PAGE_SIZE, RW, A, D

MAX_TASKS = 4096


@dataclass(frozen=True, slots=True)
class CloneArgs:
    """What clone(2) was asked for: CLONE_* bits, and user addresses (0 for none)."""

    flags: int = 0
    exit_signal: int = SIGCHLD
    stack: int = 0
    parent_tid: int = 0
    child_tid: int = 0
    tls: UserDesc | None = None


FORK = CloneArgs()


def new_task(
    kernel: Kernel,
    maker: Task | None,
    comm: str,
    mm: Mm | None,
    files: FdTable,
    flags: int = 0,
) -> Task:
    """A task with its kernel stack and greenlet, not yet runnable, with the next pid.

    With CLONE_THREAD it is a thread of its maker's process, else the first of a process of its own.  Raises
    OutOfMemory.
    """
    cpu = kernel.sched.queues.least_loaded(-1 if maker is None else maker.cpus_allowed)
    kstack, frames = kernel.stacks.new_kstack()
    number = kernel.tasks.new_pid()
    if maker is None:
        fs, group = FsStruct(kernel.files.root), ThreadGroup(limits=default_limits(kernel.config.stack_limit))
        group.pgid = group.sid = number
    else:
        fs = maker.fs if flags & CLONE_FS else maker.fs.copy()
        group = maker.group if flags & CLONE_THREAD else _child_group(maker)
    context = kernel.stacks.new_context(cpu)
    task = Task(number, comm, context, kstack, frames, mm, files, None, cpu, fs, group)
    task.started = kernel.clock.now * BLOCK_NANOSECONDS
    task.scratch = PAGE_OFFSET + frames[1] * PAGE_SIZE
    task.greenlet = greenlet(lambda: task_main(kernel, task))
    kernel.tasks[task.pid] = task
    if maker is not None:
        _inherit(task, maker)
        if flags & CLONE_THREAD:
            task.parent = group.leader.parent
        else:
            heir = maker.parent if flags & CLONE_PARENT and maker.parent is not None else maker
            set_parent(task, heir)
            arm_cpu_limit(task)
    return task


def _child_group(maker: Task) -> ThreadGroup:
    """A process with what a fork hands on."""
    return ThreadGroup(limits=list(maker.limits), pgid=maker.pgid, sid=maker.sid)


def _inherit(task: Task, maker: Task) -> None:
    task.cred, task.personality, task.capabilities = maker.cred, maker.personality, maker.capabilities
    task.exe, task.exe_inode = maker.exe, maker.exe_inode
    task.ioprio, task.oom_score_adj = maker.ioprio, maker.oom_score_adj
    task.nice, task.cpus_allowed = maker.nice, maker.cpus_allowed
    if not maker.policy & SCHED_RESET_ON_FORK:
        task.policy, task.rt_priority = maker.policy, maker.rt_priority


def do_fork(kernel: Kernel, parent: Task, args: CloneArgs = FORK) -> Task:
    """Copy a task, or as much of it as it does not share; the child's system call returns 0.

    Raises KernelError: ENOMEM, EAGAIN.
    """
    if len(kernel.tasks) >= MAX_TASKS or parent.policy == SCHED_DEADLINE:
        raise KernelError(EAGAIN)
    event = fork_event(kernel, parent, args.flags, args.exit_signal)
    child = _copy_process(kernel, parent, args)
    if args.flags & CLONE_VFORK:
        child.vfork_parent = parent
    trace_child(parent, child, args.flags, event)
    recalculate(child)
    if args.flags & CLONE_PARENT_SETTID:
        with suppress(KernelError):  # as Linux, which has no way back here
            kernel.uaccess.put_user(parent, args.parent_tid, child.pid.to_bytes(4, "little"))
    if kernel.bus.active:
        what = "clone" if args.flags & CLONE_THREAD else "fork"
        kernel.bus.emit(TaskChange(kernel.clock.now, parent.cpu.index, parent.pid, what, f"child {child.pid}"))
    kernel.sched.enqueue(child)
    if event:
        kernel.tracing.event(parent, event, child.pid)
    return child


def _copy_process(kernel: Kernel, parent: Task, args: CloneArgs) -> Task:
    flags, cpu = args.flags, parent.cpu
    assert parent.mm is not None
    try:
        mm = _shared(parent.mm) if flags & CLONE_VM else dup_mm(kernel, cpu, parent.mm)
    except OutOfMemory as error:
        raise KernelError(ENOMEM) from error
    files = parent.files.share(kernel.hold_file) if flags & CLONE_FILES else parent.files.copy()
    try:
        child = new_task(kernel, parent, parent.comm, mm, files, flags=flags)
    except OutOfMemory as error:
        files.release()
        kernel.mmu.mmput(cpu, mm)
        raise KernelError(ENOMEM) from error
    child.exit_signal = parent.exit_signal if flags & CLONE_PARENT else args.exit_signal
    keeps_stack = flags & (CLONE_VM | CLONE_VFORK) != CLONE_VM
    child.signals = parent.signals.fork(share_hand=bool(flags & CLONE_SIGHAND), keep_stack=keeps_stack)
    child.signals.shared = child.group.shared
    child.orig_eax = parent.orig_eax
    child.sysvsem = parent.sysvsem.share() if flags & CLONE_SYSVSEM else SysvSem()
    child.clear_child_tid = args.child_tid if flags & CLONE_CHILD_CLEARTID else 0
    child.set_child_tid = args.child_tid if flags & CLONE_CHILD_SETTID else 0
    _copy_thread(kernel, parent, child, args)
    return child


def _copy_thread(kernel: Kernel, parent: Task, child: Task, args: CloneArgs) -> None:
    """Registers and segments: as the parent's, but for EAX, the stack and the thread's own segment."""
    assert child.mm is not None
    context = child.context
    context.copy_from(parent.context)
    if parent.debug is not None:
        context.reset_debug()
    context.eax = 0
    if parent.ptrace is not None and parent.ptrace.forced_flag:
        context.eflags &= ~TF
    context.cr3 = child.mm.cr3
    if args.stack:
        context.esp = args.stack
    child.tls = list(parent.tls)
    if args.tls is not None:
        set_tls(child, args.tls)
        kernel.desc.refresh(child, args.tls.entry_number)


def set_tls(task: Task, desc: UserDesc) -> None:
    """Store a thread-local descriptor.  Raises KernelError(EINVAL) for one that is none, or has no place."""
    slot = desc.entry_number - GDT_ENTRY_TLS_MIN
    if not 0 <= slot < GDT_ENTRY_TLS_ENTRIES or not desc.fits_tls:
        raise KernelError(EINVAL)
    if desc.clears:
        task.tls[slot] = 0
        return
    low = desc.limit & 0xFFFF | (desc.base & 0xFFFFFF) << 16 | desc.access << 40
    task.tls[slot] = low | (desc.limit >> 16 & 0xF) << 48 | desc.granularity << 52 | (desc.base >> 24) << 56


def _shared(mm: Mm) -> Mm:
    mm.users += 1
    return mm


def wait_for_vfork(kernel: Kernel, parent: Task, child: Task) -> None:
    """The parent goes on when the child has executed a program or ended."""
    if kernel.broken("no-vfork-wait"):
        child.vfork_parent = None
        return
    while child.vfork_parent is parent and not is_dying(parent):
        kernel.sched.sleep(parent, "a vfork child")
    child.vfork_parent = None
    if not is_dying(parent):
        kernel.tracing.event(parent, PTRACE_EVENT_VFORK_DONE, child.pid)


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
    with parent.lock:
        return _dup_mm(kernel, cpu, parent)


def _dup_mm(kernel: Kernel, cpu: KernelCpu, parent: Mm) -> Mm:
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
                if kept & RW == 0:
                    gather.protect(linear, ptep, _read_only)
                entry = entries.settled(ptep)  # as it is now: its page may have been moved meanwhile
                if is_mapped(entry):
                    entries.share(child, linear, entry & kept)
                elif entry:
                    entries.share(child, linear, entry)
    except OutOfMemory:
        kernel.mmu.mmput(cpu, child)
        raise
    finally:
        gather.finish()
    return child


def _read_only(entry: int) -> int:
    return entry & ~RW
