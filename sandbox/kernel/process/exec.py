"""exec: an ELF program and the loader that it names become an address space, demand-loaded through the page cache."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Sequence

from sandbox.image.elf import Executable, ImageError
from sandbox.kernel.abi.errno import EAGAIN, EFAULT, EINVAL, ENOMEM, KernelError
from sandbox.kernel.abi.signals import SIGCHLD, SIGSEGV
from sandbox.kernel.base.events import TaskChange
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.rlimit import RLIMIT_STACK
from sandbox.kernel.mm.vma import (
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_GROWSDOWN,
    VM_MAYWRITE,
    Vma,
)
from sandbox.kernel.mm.vma_tree import VmaTree
from sandbox.kernel.process.arguments import check_size
from sandbox.kernel.process.binfmt import Binary, find_binary
from sandbox.kernel.process.exit import mm_release, release_task
from sandbox.kernel.process.segments import map_segments, note_places, place
from sandbox.kernel.task.sigpending import is_dying
from sandbox.kernel.task.task import State, Task
from sandbox.kernel.task.vdso import map_vdso, vdso_image
from sandbox.kernel.vfs.inode import Inode
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

STACK_TOP = TASK_SIZE
HWCAP = 0x0783FBFF
"""CPUID.1:EDX bits that the engine runs: FPU … SSE2."""

AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK, AT_SECURE = 11, 12, 13, 14, 15, 16, 17, 23
AT_RANDOM, AT_EXECFN, AT_SYSINFO, AT_SYSINFO_EHDR = 25, 31, 32, 33


MMAP_PAGE_ZERO = 0x0100000
"""personality(2): as System V had it, a program may read address 0."""
COMM_BYTES = 15
PIE_BASE = 0x56555000
"""Where a position-independent program goes that has a loader: two thirds of its 3 GB (ELF_ET_DYN_BASE)."""


def do_execve(
    kernel: Kernel,
    task: Task,
    inode: Inode,
    path: str,
    argv: Sequence[bytes],
    envp: Sequence[bytes],
    name: bytes | None = None,
) -> None:
    """Replace a task's program.  Afterwards its context starts at ``start_thread``, which enters ring 3.

    ``path`` is where the file is, ``name`` how the caller called it.

    Without arguments it gets an empty one, as since Linux 5.18.  Raises KernelError before anything was changed;
    afterwards OutOfMemory, or TaskExit by SIGSEGV for what cannot be mapped.
    """
    called = path.encode("utf-8", "surrogateescape") if name is None else name
    binary = find_binary(kernel, task, inode, path, called, list(argv) or [b""])
    argv, program = binary.argv, binary.program
    check_size(task, called, argv, envp)
    cpu = task.cpu
    de_thread(kernel, task)
    mm = kernel.mmu.mm_alloc()
    mm_release(kernel, task)
    task.files = task.files.unshare()
    mm.set_areas(VmaTree(stack_limit=task.limits[RLIMIT_STACK][0]))
    mm.read_implies_exec = not program.stack_header
    mm.run_from(binary.inode)
    old, task.mm = task.mm, mm
    kernel.mmu.switch_mm(cpu, mm)
    if old is not None:
        kernel.mmu.mmput(cpu, old)
    task.comm = os.fsdecode(called.rsplit(b"/", 1)[-1][:COMM_BYTES])
    task.exe, task.exe_inode, task.has_execed = binary.path, binary.inode, True
    stat = binary.inode.stat()
    task.cred = task.cred.exec(stat.mode, stat.uid, stat.gid)
    kernel.posix_timers.delete_all(task)
    task.exit_signal = SIGCHLD
    task.tls = [0] * len(task.tls)
    kernel.desc.load_tls(cpu, task)
    try:
        loaded = _load(kernel, task, mm, binary)
        map_vdso(mm, kernel.vdso)
        sp = _build_stack(kernel, task, mm, program, called, loaded, argv, envp)
    except KernelError as error:
        why = error.__cause__.summary if isinstance(error.__cause__, ImageError) else error
        task.report = f"exec of {path} failed after the old program was gone: {why}"
        kernel.signal_delivery.die(task, SIGSEGV)
    context = task.context
    context.copy_from(cpu.template)
    task.debug = None
    context.resumes_at = -1
    context.cr3 = cpu.cr3
    context.esp = task.kstack.stack_top
    context.eip = kernel.routines.start_thread
    context.eax, context.edx = loaded.start, sp
    if kernel.bus.active:
        kernel.bus.emit(TaskChange(kernel.clock.now, cpu.index, task.pid, "exec", path))


def de_thread(kernel: Kernel, task: Task) -> None:
    """All other threads end; who is left is the leader and has its number.

    Raises KernelError(EAGAIN) for who is to end itself.
    """
    group = task.group
    if len(group.threads) == 1:
        return
    if group.must_end(task):
        raise KernelError(EAGAIN)
    group.exec_task = task
    kernel.signals.zap_other_threads(task)
    try:
        while any(not (each is task or (each.is_leader and each.state is State.ZOMBIE)) for each in group.threads):
            if is_dying(task):
                raise KernelError(EAGAIN)
            kernel.sched.sleep(task, "its threads")
    finally:
        group.exec_task = None
    if not task.is_leader:
        _take_the_lead(kernel, task)


def _take_the_lead(kernel: Kernel, task: Task) -> None:
    """The last thread becomes the leader in the place of the old one, which ended before."""
    leader, group = task.group.leader, task.group
    task.pid, leader.pid = leader.pid, task.pid
    kernel.tasks[task.pid], kernel.tasks[leader.pid] = task, leader
    task.exit_signal, task.parent = leader.exit_signal, leader.parent
    if task.parent is not None:
        siblings = task.parent.children
        siblings[siblings.index(leader)] = task
    if kernel.tasks.program is leader:
        kernel.tasks.program = task
    group.threads.reverse()
    release_task(kernel, leader)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Linear addresses: how far the program and its loader were moved (0 for none), the first instruction."""

    bias: int
    loader_base: int
    start: int


def _load(kernel: Kernel, task: Task, mm: Mm, binary: Binary) -> _Loaded:
    """Map a program and its loader, and place the heap."""
    if kernel.broken("null-mapped"):
        mm.vmas.insert(Vma(0, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, VM_MAYWRITE))
    program, loader = binary.program, binary.loader
    bias = 0
    if program.position_independent and program.segments:
        bias = (PIE_BASE - program.segments[0].vaddr) & PAGE_MASK if loader is not None else place(mm, program)
    brk = map_segments(kernel, task, mm, program, binary.inode, bias, binary.path)
    note_places(mm, program, bias)
    start, base = program.entry + bias, 0
    if loader is not None and binary.interpreter is not None:
        base = _load_interpreter(kernel, task, mm, loader, binary.interpreter, binary.loader_path)
        start = loader.entry + base
    elif program.position_independent:
        brk = PIE_BASE
    if start >= TASK_SIZE:
        raise KernelError(EINVAL) from ImageError(binary.path, f"the entry point {start:#x} is in the kernel")
    mm.vmas.start_brk = mm.vmas.brk = brk
    if task.personality & MMAP_PAGE_ZERO and not mm.vmas.overlapping(0, PAGE_SIZE):
        mm.vmas.insert(Vma(0, PAGE_SIZE, PROT_READ | PROT_EXEC, VM_MAYWRITE))
    return _Loaded(bias, base, start)


def _load_interpreter(kernel: Kernel, task: Task, mm: Mm, loader: Executable, inode: Inode, path: str) -> int:
    """Map the loader, over the program if it says so; how far it was moved.  Raises KernelError."""
    if not loader.segments:
        raise KernelError(EINVAL) from ImageError(path, "no PT_LOAD segment: there is nothing to run")
    base = place(mm, loader) if loader.position_independent else 0
    map_segments(kernel, task, mm, loader, inode, base, path)
    return base


def _build_stack(
    kernel: Kernel,
    task: Task,
    mm: Mm,
    program: Executable,
    name: bytes,
    loaded: _Loaded,
    argv: Sequence[bytes],
    envp: Sequence[bytes],
) -> int:
    """Strings, auxiliary vector, envp, argv and argc below STACK_TOP; the stack pointer (linear)."""
    cred = task.cred
    noise = random.Random(kernel.config.seed << 20 ^ task.pid).randbytes(16)
    base = at = STACK_TOP - 4
    pieces: list[bytes] = []

    def push(data: bytes) -> int:
        nonlocal at
        pieces.append(data)
        at -= len(data)
        return at

    name_at = push(name + b"\0")
    env_at = [push(each + b"\0") for each in reversed(envp)][::-1]
    arg_at = [push(each + b"\0") for each in reversed(argv)][::-1]
    mm.env_start = mm.arg_end = env_at[0] if env_at else name_at
    mm.arg_start, mm.env_end = arg_at[0] if arg_at else mm.arg_end, name_at
    platform_at = push(b"i686\0")
    random_at = push(noise)
    push(bytes(at % 16))
    strings = b"".join(reversed(pieces))
    auxv = [
        *([(AT_SYSINFO, mm.vdso + vdso_image().vsyscall), (AT_SYSINFO_EHDR, mm.vdso)] if mm.vdso else []),
        (AT_HWCAP, HWCAP), (AT_PAGESZ, PAGE_SIZE), (AT_CLKTCK, 100), (AT_PHDR, _phdr(program, loaded.bias)),
        (AT_PHENT, 32), (AT_PHNUM, program.phnum), (AT_BASE, loaded.loader_base), (AT_FLAGS, 0),
        (AT_ENTRY, program.entry + loaded.bias),
        (AT_UID, cred.uid.real), (AT_EUID, cred.uid.effective), (AT_GID, cred.gid.real), (AT_EGID, cred.gid.effective),
        (AT_SECURE, int(cred.secure)), (AT_RANDOM, random_at),
        (AT_EXECFN, name_at), (AT_PLATFORM, platform_at), (AT_NULL, 0),
    ]  # fmt: skip
    pairs = [word for pair in (auxv[-1:] if kernel.broken("no-auxv") else auxv) for word in pair]
    mm.auxv = struct.pack(f"<{len(pairs)}I", *pairs)
    words = [len(argv), *arg_at, 0, *env_at, 0, *pairs]
    table = struct.pack(f"<{len(words)}I", *words)
    sp = (base - len(strings) - len(table)) & ~15
    image = table.ljust(base - len(strings) - sp, b"\0") + strings + bytes(4)
    start = sp & PAGE_MASK
    if STACK_TOP - start > task.limits[RLIMIT_STACK][0]:
        raise KernelError(ENOMEM)
    prot = PROT_READ | PROT_WRITE | (PROT_EXEC if program.stack_executable else 0)
    try:
        mm.vmas.insert(Vma(start, STACK_TOP, prot, VM_MAYWRITE | VM_GROWSDOWN))
    except ValueError as error:
        raise KernelError(ENOMEM) from error
    mm.start_stack = sp
    if kernel.uaccess.copy_to_user(task, sp, image):
        raise KernelError(EFAULT)
    return sp


def _phdr(program: Executable, bias: int) -> int:
    return (program.phdr_vaddr or 0) + bias
