"""brk, mmap in its three forms, munmap, mprotect, madvise."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EINVAL, ENOMEM, KernelError
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, do_brk, do_mmap, do_mprotect, do_munmap, zap_areas
from sandbox.kernel.task import Task
from sandbox.kernel.usercopy import get_user
from sandbox.kernel.vma import page_align

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

MADV_DONTNEED = 4


def sys_brk(kernel: Kernel, task: Task, address: int, *_: int) -> int:
    return do_brk(kernel, task, address)


def sys_mmap2(kernel: Kernel, task: Task, address: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    if flags & MAP_ANONYMOUS:
        return do_mmap(kernel, task, address, length, prot, flags, None, 0)
    inode, writable = kernel.files.mappable(task, fd)
    return do_mmap(kernel, task, address, length, prot, flags, inode, pgoff, writable)


def sys_mmap(kernel: Kernel, task: Task, block: int, *_: int) -> int:
    """The old form: EBX points at the six arguments, the offset is in bytes."""
    address, length, prot, flags, fd, offset = struct.unpack("<6I", get_user(kernel, task, block, 24))
    if offset & 0xFFF:
        raise KernelError(EINVAL)
    return sys_mmap2(kernel, task, address, length, prot, flags, fd, offset >> 12)


def sys_munmap(kernel: Kernel, task: Task, address: int, length: int, *_: int) -> int:
    do_munmap(kernel, task, address, length)
    return 0


def sys_mprotect(kernel: Kernel, task: Task, address: int, length: int, prot: int, *_: int) -> int:
    do_mprotect(kernel, task, address, length, prot)
    return 0


def sys_madvise(kernel: Kernel, task: Task, address: int, length: int, advice: int, *_: int) -> int:
    """MADV_DONTNEED drops private pages; every other advice is taken and ignored.

    A hole in the range is ENOMEM, after the rest has been done.
    """
    assert task.mm is not None
    end = address + page_align(length)
    if address & 0xFFF or end > 1 << 32:
        raise KernelError(EINVAL)
    vmas = task.mm.vmas
    if advice == MADV_DONTNEED:
        zap_areas(
            kernel,
            task.cpu,
            task.mm,
            [vma.piece(max(address, vma.start), min(end, vma.end)) for vma in vmas.overlapping(address, end)],
        )
    if vmas.first_gap(address, end) is not None:
        raise KernelError(ENOMEM)
    return 0
