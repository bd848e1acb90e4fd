"""brk, mmap in its forms, munmap, mprotect, mremap, msync, mincore, locking in memory."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import TypeVar, cast

from sandbox.kernel.abi.errno import EBADF, EBUSY, EFAULT, EINVAL, ENOMEM, KernelError
from sandbox.kernel.abi.flags import O_PATH
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.drivers.chrdev import CharDevice
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmap import MAP_ANONYMOUS, MAP_HUGE_MASK, MAP_HUGE_SHIFT, MAP_HUGETLB
from sandbox.kernel.mm.pte import Kind, decode
from sandbox.kernel.mm.vma import VM_LOCKED, page_align
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4
MCL_ALL, MCL_ONFAULT = 7, 4
MLOCK_ONFAULT = 1
DEV_ZERO = 1 << 8 | 5


Call = TypeVar("Call", bound=Callable[..., int])


def changes_areas(call: Call) -> Call:
    """A call that holds the lock of the caller's address space while it works."""

    @functools.wraps(call)
    def locked(kernel: Kernel, task: Task, *arguments: int) -> int:
        with _mm(task).lock:
            return call(kernel, task, *arguments)

    return cast(Call, locked)


@changes_areas
def sys_brk(kernel: Kernel, task: Task, address: int, *_: int) -> int:
    return kernel.mmap.do_brk(task, address)


@changes_areas
def sys_mmap2(kernel: Kernel, task: Task, address: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    if flags & MAP_ANONYMOUS:
        if flags & MAP_HUGETLB:
            raise KernelError(_no_huge_pages(kernel, length, flags))
        return kernel.mmap.do_mmap(task, address, length, prot, flags, None, 0)
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if flags & MAP_HUGETLB:
        raise KernelError(EINVAL)
    inode: Inode | None = file.inode
    if isinstance(inode, CharDevice) and inode.rdev == DEV_ZERO:
        inode = None
    return kernel.mmap.do_mmap(task, address, length, prot, flags, inode, pgoff, file.writable, file.readable, file)


def _no_huge_pages(kernel: Kernel, length: int, flags: int) -> int:
    """The errno: none is reserved (nr_hugepages is 0), and there is one size, what a large page of the paging maps."""
    log2 = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK
    return ENOMEM if length and log2 in (0, 21 if kernel.config.paging == "pae" else 22) else EINVAL


def sys_mmap(kernel: Kernel, task: Task, block: int, *_: int) -> int:
    """The old form: EBX points at the six arguments, the offset is in bytes."""
    address, length, prot, flags, fd, offset = struct.unpack("<6I", kernel.uaccess.get_user(task, block, 24))
    if offset & 0xFFF:
        raise KernelError(EINVAL)
    return sys_mmap2(kernel, task, address, length, prot, flags, fd, offset >> 12)


@changes_areas
def sys_munmap(kernel: Kernel, task: Task, address: int, length: int, *_: int) -> int:
    kernel.mmap.do_munmap(task, address, length)
    return 0


@changes_areas
def sys_mprotect(kernel: Kernel, task: Task, address: int, length: int, prot: int, *_: int) -> int:
    kernel.mmap.do_mprotect(task, address, length, prot)
    return 0


@changes_areas
def sys_mremap(kernel: Kernel, task: Task, address: int, old: int, new: int, flags: int, target: int, *_: int) -> int:
    return kernel.mremap.do_mremap(task, address, old, new, flags, target)


def _range(address: int, length: int, unaligned: int = EINVAL) -> int:
    """The end of whole pages from ``address`` on.  Raises KernelError: ``unaligned``, or ENOMEM beyond 4 GB."""
    if address & ~PAGE_MASK:
        raise KernelError(unaligned)
    end = address + page_align(length)
    if end > 1 << 32:
        raise KernelError(ENOMEM)
    return end


@changes_areas
def sys_msync(kernel: Kernel, task: Task, address: int, length: int, flags: int, *_: int) -> int:
    """MS_ASYNC writes at once too: the clock does not run while it does."""
    mm = _mm(task)
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC:
        raise KernelError(EINVAL)
    end = _range(address, length)
    if flags & MS_INVALIDATE and any(vma.flags & VM_LOCKED for vma in mm.vmas.overlapping(address, end)):
        raise KernelError(EBUSY)
    kernel.writeback.sync_mm(task.cpu, mm, address, end)
    if mm.vmas.first_gap(address, end) is not None:
        raise KernelError(ENOMEM)
    return 0


def sys_mincore(kernel: Kernel, task: Task, address: int, length: int, vector: int, *_: int) -> int:
    """A byte a page: 1 for what is in a frame, by the tables or in the page cache."""
    mm = _mm(task)
    if address & ~PAGE_MASK:
        raise KernelError(EINVAL)
    if address + length > TASK_SIZE:
        raise KernelError(ENOMEM)
    end = address + page_align(length)
    if not kernel.uaccess.access_ok(vector, (end - address) // PAGE_SIZE):
        raise KernelError(EFAULT)
    tables, found = kernel.tables, bytearray()
    for page in range(address, end, PAGE_SIZE):
        vma = mm.vmas.find_exact(page)
        if vma is None:
            break
        kind = decode(tables.lookup_pte(mm.pgd, page)).kind
        resident = kind not in (Kind.NONE, Kind.SWAPPED)  # as mincore_pte_range: a page that is moved is there
        if kind is Kind.NONE and vma.inode is not None:
            resident = kernel.pagecache.cached(vma.inode, vma.page_of(page)) is not None
        found.append(resident)
    kernel.uaccess.put_user(task, vector, bytes(found))
    if len(found) < (end - address) // PAGE_SIZE:
        raise KernelError(ENOMEM)
    return 0


def _lock(kernel: Kernel, task: Task, address: int, length: int, lock: bool, bring_in: bool = True) -> int:
    mm = _mm(task)
    end = page_align(address + length)
    address &= PAGE_MASK
    if end > 1 << 32:
        raise KernelError(EINVAL)
    if end == address:
        return 0
    gap = mm.vmas.first_gap(address, end)
    stop = end if gap is None else gap
    if stop > address:
        mm.vmas.set_flags(address, stop, VM_LOCKED if lock else 0, VM_LOCKED)
    if gap is not None:
        raise KernelError(ENOMEM)
    if lock and bring_in and not kernel.mmap.populate(task.cpu, mm, address, end):
        raise KernelError(ENOMEM)
    return 0


@changes_areas
def sys_mlock(kernel: Kernel, task: Task, address: int, length: int, *_: int) -> int:
    return _lock(kernel, task, address, length, True)


@changes_areas
def sys_mlock2(kernel: Kernel, task: Task, address: int, length: int, flags: int, *_: int) -> int:
    if flags & ~MLOCK_ONFAULT:
        raise KernelError(EINVAL)
    return _lock(kernel, task, address, length, True, not flags)


@changes_areas
def sys_munlock(kernel: Kernel, task: Task, address: int, length: int, *_: int) -> int:
    return _lock(kernel, task, address, length, False)


def sys_mlockall(kernel: Kernel, task: Task, flags: int, *_: int) -> int:
    """Accepted: nothing is ever taken from a program that it would miss."""
    if not flags or flags & ~MCL_ALL or flags == MCL_ONFAULT:
        raise KernelError(EINVAL)
    return 0


@changes_areas
def sys_munlockall(kernel: Kernel, task: Task, *_: int) -> int:
    mm = _mm(task)
    mm.vmas.set_flags(0, TASK_SIZE, 0, VM_LOCKED)
    return 0


def _mm(task: Task) -> Mm:
    assert task.mm is not None
    return task.mm
