"""madvise: pages dropped, brought in, or left out of a fork; every other advice is taken and ignored."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EACCES, EFAULT, EINVAL, ENOMEM, EOPNOTSUPP, KernelError
from sandbox.kernel.abi.flags import S_IFREG
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.vma import (
    PROT_WRITE,
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_LOCKED,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
    Vma,
    page_align,
)
from sandbox.kernel.syscalls.memory import changes_areas
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK = 4, 8, 9, 10, 11
MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTNEED_LOCKED = 18, 19, 22, 23, 24
MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTDUMP, MADV_DODUMP = 0, 1, 2, 16, 17
IGNORED = {3, 12, 13, 14, 15, 20, 21, 25}
"""WILLNEED, MERGEABLE to NOHUGEPAGE, COLD, PAGEOUT, COLLAPSE."""
ACTS = {
    MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTDUMP, MADV_DODUMP,
    MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK,
    MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTNEED_LOCKED,
}  # fmt: skip
_FLAGS = {
    MADV_NORMAL: (0, VM_RAND_READ | VM_SEQ_READ),
    MADV_RANDOM: (VM_RAND_READ, VM_SEQ_READ),
    MADV_SEQUENTIAL: (VM_SEQ_READ, VM_RAND_READ),
    MADV_DONTDUMP: (VM_DONTDUMP, 0),
    MADV_DODUMP: (0, VM_DONTDUMP),
    MADV_DONTFORK: (VM_DONTCOPY, 0),
    MADV_DOFORK: (0, VM_DONTCOPY),
    MADV_WIPEONFORK: (VM_WIPEONFORK, 0),
    MADV_KEEPONFORK: (0, VM_WIPEONFORK),
}
"""VM_* bits to set and to clear."""


@changes_areas
def sys_madvise(kernel: Kernel, task: Task, address: int, length: int, advice: int, *_: int) -> int:
    """A hole in the range is ENOMEM, after the rest has been done."""
    mm = task.mm
    assert mm is not None
    if advice not in ACTS and advice not in IGNORED:
        raise KernelError(EINVAL)
    end = address + page_align(length)
    if address & ~PAGE_MASK or end > 1 << 32:
        raise KernelError(EINVAL)
    if end == address:
        return 0
    if advice in ACTS:
        areas = mm.vmas.overlapping(address, end)
        if advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
            _populate(kernel, task, mm, address, end, advice == MADV_POPULATE_WRITE)
            return 0
        for vma in areas:
            _advise(kernel, task, mm, vma, max(address, vma.start), min(end, vma.end), advice)
    if mm.vmas.first_gap(address, end) is not None:
        raise KernelError(ENOMEM)
    return 0


def _advise(kernel: Kernel, task: Task, mm: Mm, vma: Vma, start: int, end: int, advice: int) -> None:
    """Raises KernelError: EINVAL, EACCES, EOPNOTSUPP."""
    if advice in _FLAGS:
        if advice == MADV_WIPEONFORK and (vma.inode is not None or vma.shared):
            raise KernelError(EINVAL)
        mm.vmas.set_flags(start, end, *_FLAGS[advice])
    elif advice == MADV_FREE:
        if vma.inode is not None:
            raise KernelError(EINVAL)
    elif advice == MADV_REMOVE:
        if vma.flags & VM_LOCKED or vma.inode is None or vma.inode.kind != S_IFREG:
            raise KernelError(EINVAL)
        if not vma.shared or not vma.prot & PROT_WRITE:
            raise KernelError(EACCES)
        raise KernelError(EOPNOTSUPP)
    else:
        if vma.flags & VM_LOCKED and advice == MADV_DONTNEED:
            raise KernelError(EINVAL)
        if not kernel.broken("no-dontneed"):
            kernel.mmap.zap_areas(task.cpu, mm, [vma.piece(start, end)])


def _populate(kernel: Kernel, task: Task, mm: Mm, start: int, end: int, write: bool) -> None:
    """Raises KernelError: ENOMEM at a hole, EINVAL where the protection forbids it, EFAULT behind a file's end."""
    for page in range(start, end, PAGE_SIZE):
        vma = mm.vmas.find_exact(page)
        if vma is None:
            raise KernelError(ENOMEM)
        if not vma.prot or (write and not vma.prot & PROT_WRITE):
            raise KernelError(EINVAL)
        if not kernel.mmap.touch(task.cpu, mm, vma, page, write):
            raise KernelError(EFAULT)
