"""PT_LOAD segments become areas, as Linux's elf_load maps them: in the file's order, the later over the earlier."""

from __future__ import annotations

from sandbox.image.elf import Executable, ImageError, Segment
from sandbox.kernel.abi.errno import EINVAL, ENOMEM, EPERM, KernelError
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.rlimit import may_expand
from sandbox.kernel.mm.vma import MMAP_MIN_ADDR, PROT_EXEC, PROT_READ, PROT_WRITE, VM_MAYWRITE, Vma, page_align
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

_FLAG_PROT = ((4, PROT_READ), (2, PROT_WRITE), (1, PROT_EXEC))


def place(mm: Mm, program: Executable) -> int:
    """How far a position-independent file moves to the highest gap that is large enough for all of it.

    Raises KernelError(ENOMEM).
    """
    first, end = program.span
    aligns = [each.align for each in program.segments if not each.align & (each.align - 1)]
    align = max(PAGE_SIZE, *aligns) if aligns else PAGE_SIZE
    found = mm.vmas.get_unmapped_area(end - first + align - PAGE_SIZE, 0)
    if found is None:
        raise KernelError(ENOMEM)
    return -(-found // align) * align - first


def map_segments(kernel: Kernel, task: Task, mm: Mm, program: Executable, inode: Inode, bias: int, path: str) -> int:
    """Map the segments of the file at ``path``, moved by ``bias``; where the last of them ends (linear, a whole page).

    Raises KernelError, with an ImageError as its cause where the file is wrong.
    """
    for segment in program.segments:
        _check(segment, bias, path)
        _map_segment(kernel, task, mm, segment, inode, bias, path)
    return max((page_align(each.vaddr + each.memsz + bias) for each in program.segments), default=0)


def note_places(mm: Mm, program: Executable, bias: int) -> None:
    """Where code and data are, for /proc: the lowest code, the last data."""
    code = [each for each in program.segments if each.flags & 1]
    mm.start_code = min((each.vaddr + bias for each in code), default=0)
    mm.end_code = max((each.vaddr + each.filesz + bias for each in code), default=0)
    mm.start_data = max((each.vaddr + bias for each in program.segments), default=0)
    mm.end_data = max((each.vaddr + each.filesz + bias for each in program.segments), default=0)


def _check(segment: Segment, bias: int, name: str) -> None:
    where = f"segment at {segment.vaddr:#x}"
    start, end = segment.vaddr + bias, segment.vaddr + bias + segment.memsz
    if segment.filesz > segment.memsz:
        what = f"{where} with {segment.filesz} bytes in the file but only {segment.memsz} in memory"
        raise KernelError(EINVAL) from ImageError(name, what)
    if start >= TASK_SIZE or end > TASK_SIZE:
        raise KernelError(EINVAL) from ImageError(name, f"{where} reaches beyond {TASK_SIZE:#x}, into the kernel")
    if segment.memsz and start & PAGE_MASK < MMAP_MIN_ADDR:
        raise KernelError(EPERM) from ImageError(name, f"{where}: nothing is mapped below {MMAP_MIN_ADDR:#x}")
    if segment.filesz and (segment.offset - segment.vaddr) % PAGE_SIZE:
        what = f"{where} and its offset {segment.offset:#x} differ modulo the page size"
        raise KernelError(EINVAL) from ImageError(name, what)
    if segment.filesz and segment.offset < segment.vaddr % PAGE_SIZE:
        raise KernelError(EINVAL) from ImageError(name, f"{where} would begin before the file")


def _map_segment(kernel: Kernel, task: Task, mm: Mm, segment: Segment, inode: Inode, bias: int, path: str) -> None:
    """File pages whole, bytes behind the segment and all; then zeros, which are writable whatever the flags say."""
    prot = sum(bit for flag, bit in _FLAG_PROT if segment.flags & flag)
    vaddr = segment.vaddr + bias
    page, file_end = vaddr & PAGE_MASK, vaddr + segment.filesz
    mapped_end = page_align(file_end) if segment.filesz else page
    if mapped_end > page:
        _map(kernel, task, mm, Vma(page, mapped_end, prot, VM_MAYWRITE, inode, segment.offset // PAGE_SIZE, path))
        if segment.memsz > segment.filesz and prot & PROT_WRITE:
            _clear_tail(kernel, task, file_end)
    end = page_align(vaddr + segment.memsz)
    if segment.memsz > segment.filesz and end > mapped_end:
        _map(kernel, task, mm, Vma(mapped_end, end, PROT_READ | PROT_WRITE | prot & PROT_EXEC, VM_MAYWRITE))


def _map(kernel: Kernel, task: Task, mm: Mm, vma: Vma) -> None:
    """An area in place of what is there."""
    if mm.read_implies_exec and vma.prot & PROT_READ:
        vma.prot |= PROT_EXEC
    if mm.vmas.overlapping(vma.start, vma.end):
        kernel.mmap.do_munmap(task, vma.start, vma.size)
    if not may_expand(task.limits, mm.vmas, vma.size // PAGE_SIZE, vma.prot, vma.flags):
        raise KernelError(ENOMEM)
    mm.vmas.insert(vma)


def _clear_tail(kernel: Kernel, task: Task, address: int) -> None:
    """Zero from the end of a segment's file bytes to the end of that page, by the CPU."""
    if address % PAGE_SIZE and not kernel.broken("no-bss-zero"):
        kernel.uaccess.clear_user(task, address, -address % PAGE_SIZE)
