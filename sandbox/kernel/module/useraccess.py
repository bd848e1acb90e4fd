"""verify_area, and whose memory user access reaches (MM 7, post 002: "can current just be changed?").

The copies are ``asm/kernel/uaccess.S``.  A fault in one is handled with the areas of ``current``, while the CPU looks
translations up in the directory that CR3 holds.  ``use_mm`` changes both; ``set_current`` changes the first alone, and
shows what then happens: the page arrives in the wrong directory, and the access faults for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EFAULT, ESRCH
from sandbox.kernel.base.layout import PAGE_SIZE, TASK_SIZE
from sandbox.kernel.mm.fault import handle_mm_fault
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.mm.pgtable import RW, P
from sandbox.kernel.mm.rlimit import RLIMIT_STACK
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_READ, PROT_WRITE, VM_GROWSDOWN

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

VERIFY_READ, VERIFY_WRITE = 0, 1
KERNEL_DS = 0x18
CR0_WP = 1 << 16


def verify_area(kernel: Kernel, a: tuple[int, ...]) -> int:
    """0 when areas in a row allow the access from the first byte to the last, else -EFAULT.

    Nothing, and everything while FS is the kernel's, passes.  A stack's area grows.  A processor whose CR0.WP is clear
    writes through read-only entries, so that a write has their sharing broken here, page by page (the 386).
    """
    kind, address, size = a
    context = kernel.this_cpu.vcpu.context
    if not size or context.segment("fs").selector & 0xFFFC == KERNEL_DS:
        return 0
    mm = kernel.this_cpu.active_mm
    end = address + size
    if mm is None or end > TASK_SIZE or kernel.broken("no-verify-area"):
        return 0 if kernel.broken("no-verify-area") else -EFAULT
    wanted = PROT_WRITE if kind == VERIFY_WRITE else PROT_READ | PROT_EXEC
    at = address
    while at < end:
        vma = mm.vmas.find(at)
        if vma is None or not vma.prot & wanted:
            return -EFAULT
        if at < vma.start:
            task = kernel.this_cpu.current
            limit = task.limits[RLIMIT_STACK][0] if task is not None else kernel.config.stack_limit
            if at != address or not vma.flags & VM_GROWSDOWN or not mm.vmas.expand(vma, at, limit):
                return -EFAULT
        at = vma.end
    if kind == VERIFY_WRITE and not context.cr0 & CR0_WP:
        return _break_sharing(kernel, address, end)
    return 0


def _break_sharing(kernel: Kernel, address: int, end: int) -> int:
    cpu = kernel.this_cpu
    mm = cpu.active_mm
    assert mm is not None
    for page in range(address & -PAGE_SIZE, end, PAGE_SIZE):
        entry = kernel.tables.lookup_pte(mm.pgd, page)
        vma = mm.vmas.find(page)
        if entry & P and not entry & RW and vma is not None:
            try:
                handle_mm_fault(kernel, cpu, mm, vma, page, True)
            except OutOfMemory:
                return -EFAULT
    return 0


def use_mm(kernel: Kernel, a: tuple[int, ...]) -> int:
    """Load another task's address space until ``unuse_mm``; 0, or -ESRCH.  Raises WrongContext in an interrupt."""
    kernel.may_sleep("use_mm")
    cpu = kernel.this_cpu
    task, borrower = kernel.tasks.get(a[0]), cpu.current
    if task is None or task.mm is None or borrower is None:
        return -ESRCH
    if kernel.broken("no-mm-switch"):
        borrower.forged_mm = task.mm
        return 0
    task.mm.users += 1
    borrower.borrowed_mms.append(task.mm)
    kernel.activate(cpu, task.mm)
    cpu.vcpu.context.cr3 = cpu.cr3
    return 0


def unuse_mm(kernel: Kernel, a: tuple[int, ...]) -> None:
    """Back to one's own address space."""
    kernel.may_sleep("unuse_mm")
    cpu = kernel.this_cpu
    task = cpu.current
    if task is None:
        return
    if not task.borrowed_mms:
        task.forged_mm = None
        return
    mm = task.borrowed_mms.pop()
    own = task.borrowed_mms[-1] if task.borrowed_mms else task.mm
    kernel.activate(cpu, own)
    cpu.vcpu.context.cr3 = cpu.cr3
    kernel.release_mm(cpu, mm)


def set_current(kernel: Kernel, a: tuple[int, ...]) -> int:
    """From now on faults in kernel code are answered with another task's areas; 0 puts one's own back."""
    current = kernel.this_cpu.current
    if current is None:
        return -ESRCH
    if not a[0]:
        current.forged_mm = None
        return 0
    task = kernel.tasks.get(a[0])
    if task is None or task.mm is None:
        return -ESRCH
    current.forged_mm = task.mm
    return 0
