"""exec: an ELF program and the loader that it names become an address space, demand-loaded through the page cache."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.image.elf import Executable
from sandbox.kernel.abi.errno import E2BIG, EFAULT, ENOMEM, KernelError
from sandbox.kernel.abi.signals import SIGKILL
from sandbox.kernel.base.events import TaskChange
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.vma import (
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_GROWSDOWN,
    VM_MAYWRITE,
    Vma,
    VmaTree,
    page_align,
)
from sandbox.kernel.process.binfmt import Binary, find_binary
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

STACK_TOP = TASK_SIZE
ARGUMENT_BYTES = 128 * 1024
HWCAP = 0x0783FBFF
"""CPUID.1:EDX bits that the engine runs: FPU … SSE2."""
_FLAG_PROT = ((4, PROT_READ), (2, PROT_WRITE), (1, PROT_EXEC))

AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK, AT_SECURE = 11, 12, 13, 14, 15, 16, 17, 23
AT_RANDOM, AT_EXECFN = 25, 31


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

    Raises KernelError before anything was changed; OutOfMemory later, when the old program is gone.
    """
    called = path.encode("utf-8", "surrogateescape") if name is None else name
    binary = find_binary(kernel, task, inode, path, called, list(argv))
    argv, program = binary.argv, binary.program
    if sum(len(each) + 5 for each in (*argv, *envp)) > ARGUMENT_BYTES:
        raise KernelError(E2BIG)
    cpu = task.cpu
    mm = kernel.mmu.mm_alloc()
    mm.set_areas(VmaTree(stack_limit=kernel.config.stack_limit))
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
    task.tls = [0] * len(task.tls)
    kernel.desc.load_tls(cpu, task)
    try:
        loaded = _load(kernel, task, mm, binary)
        sp = _build_stack(kernel, task, mm, program, called, loaded, argv, envp)
    except KernelError as error:
        task.report = f"exec of {path} failed after the old program was gone: {error}"
        kernel.signals.die(task, SIGKILL)
    context = task.context
    context.copy_from(cpu.template)
    context.resumes_at = -1
    context.cr3 = cpu.cr3
    context.esp = task.kstack.stack_top
    context.eip = kernel.routines.start_thread
    context.eax, context.edx = loaded.start, sp
    if kernel.bus.active:
        kernel.bus.emit(TaskChange(kernel.clock.now, cpu.index, task.pid, "exec", path))


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Linear addresses: how far the program was moved, where its loader begins (0 for none), the first instruction."""

    bias: int
    loader_base: int
    start: int


def _load(kernel: Kernel, task: Task, mm: Mm, binary: Binary) -> _Loaded:
    """Map a program and its loader, and place the heap."""
    if kernel.broken("null-mapped"):
        mm.vmas.insert(Vma(0, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, VM_MAYWRITE))
    program, loader = binary.program, binary.loader
    bias = 0
    if program.position_independent:
        bias = PIE_BASE - program.span[0] if loader is not None else _place(mm, program)
    brk = _map_segments(kernel, task, mm, program, binary.inode, bias)
    start, base = program.entry + bias, 0
    if loader is not None and binary.interpreter is not None:
        base = _place(mm, loader) if loader.position_independent else 0
        _map_segments(kernel, task, mm, loader, binary.interpreter, base)
        start = loader.entry + base
    elif program.position_independent:
        brk = PIE_BASE
    mm.vmas.start_brk = mm.vmas.brk = brk
    return _Loaded(bias, base + (loader.span[0] if loader is not None else 0), start)


def _place(mm: Mm, program: Executable) -> int:
    """How far a position-independent file moves to the highest gap that is large enough for all of it."""
    first, end = program.span
    align = max(PAGE_SIZE, *(segment.align for segment in program.segments))
    found = mm.vmas.get_unmapped_area(end - first + align - PAGE_SIZE, 0)
    if found is None:
        raise KernelError(ENOMEM)
    return -(-found // align) * align - first


def _map_segments(kernel: Kernel, task: Task, mm: Mm, program: Executable, inode: Inode, bias: int) -> int:
    """Map a file's segments; the end of the last (linear)."""
    brk = 0
    for segment in program.segments:
        prot = sum(bit for flag, bit in _FLAG_PROT if segment.flags & flag)
        vaddr = segment.vaddr + bias
        start = vaddr & PAGE_MASK
        file_end = vaddr + segment.filesz
        mapped_end = page_align(file_end) if segment.filesz else start
        end = page_align(vaddr + segment.memsz)
        try:
            if mapped_end > start:
                pgoff = (segment.offset & PAGE_MASK) // PAGE_SIZE
                mm.vmas.insert(Vma(start, mapped_end, prot, VM_MAYWRITE, inode, pgoff))
            if end > mapped_end:
                mm.vmas.insert(Vma(mapped_end, end, prot, VM_MAYWRITE))
        except ValueError as error:
            raise KernelError(ENOMEM) from error
        if segment.memsz > segment.filesz and file_end & ~PAGE_MASK and prot & PROT_WRITE:
            _clear_tail(kernel, task, file_end)
        if prot & PROT_EXEC:
            mm.start_code, mm.end_code = mm.start_code or vaddr, file_end
        else:
            mm.start_data, mm.end_data = mm.start_data or vaddr, file_end
        brk = max(brk, end)
    return brk


def _clear_tail(kernel: Kernel, task: Task, address: int) -> None:
    """Zero from the end of a segment's file bytes to the end of that page, by the CPU."""
    if kernel.broken("no-bss-zero"):
        return
    kernel.uaccess.clear_user(task, address, -address % PAGE_SIZE)


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
    strings = bytearray()
    base = STACK_TOP - 4

    def place(data: bytes) -> int:
        nonlocal strings
        strings[:0] = data
        return base - len(strings)

    name_at = place(name + b"\0")
    env_at = [place(each + b"\0") for each in reversed(envp)][::-1]
    arg_at = [place(each + b"\0") for each in reversed(argv)][::-1]
    mm.env_start = mm.arg_end = env_at[0] if env_at else name_at
    mm.arg_start, mm.env_end = arg_at[0] if arg_at else mm.arg_end, name_at
    platform_at = place(b"i686\0")
    random_at = place(noise)
    place(bytes(-(len(strings) + 4) % 16))
    auxv = [
        (AT_HWCAP, HWCAP), (AT_PAGESZ, PAGE_SIZE), (AT_CLKTCK, 100), (AT_PHDR, _phdr(program, loaded.bias)),
        (AT_PHENT, 32), (AT_PHNUM, program.phnum), (AT_BASE, loaded.loader_base), (AT_FLAGS, 0),
        (AT_ENTRY, program.entry + loaded.bias),
        (AT_UID, cred.uid.real), (AT_EUID, cred.uid.effective), (AT_GID, cred.gid.real), (AT_EGID, cred.gid.effective),
        (AT_SECURE, int(cred.secure)), (AT_RANDOM, random_at),
        (AT_EXECFN, name_at), (AT_PLATFORM, platform_at), (AT_NULL, 0),
    ]  # fmt: skip
    words = [len(argv), *arg_at, 0, *env_at, 0]
    for tag, value in auxv[-1:] if kernel.broken("no-auxv") else auxv:
        words += [tag, value]
    table = struct.pack(f"<{len(words)}I", *words)
    sp = (base - len(strings) - len(table)) & ~15
    image = table.ljust(base - len(strings) - sp, b"\0") + bytes(strings) + bytes(4)
    start = sp & PAGE_MASK
    if STACK_TOP - start > kernel.config.stack_limit:
        raise KernelError(E2BIG)
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
    return 0 if program.phdr_vaddr is None else program.phdr_vaddr + bias
