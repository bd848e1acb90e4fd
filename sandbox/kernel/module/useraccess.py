"""verify_area, and whose memory user access reaches (MM 7, post 002: "can current just be changed?").

The copies are ``asm/kernel/uaccess.S``.  A fault in one is handled with the areas of ``current``, while the CPU looks
translations up in the directory that CR3 holds.  ``use_mm`` changes both; ``set_current`` changes the first alone, and
shows what then happens: the page arrives in the wrong directory, and the access faults for ever.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EFAULT, ESRCH
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.base.wait import might_sleep
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm, active_mm
from sandbox.kernel.mm.pte import is_present
from sandbox.kernel.mm.rlimit import RLIMIT_STACK
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_READ, PROT_WRITE, VM_GROWSDOWN, Vma
from sandbox.x86.masks import CR0_WP
from sandbox.x86.paging import PAGE_SIZE, RW

VERIFY_READ, VERIFY_WRITE = 0, 1
KERNEL_DS = 0x18


class UserCalls:
    """What modules call about the memory of programs."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._credulous, self._broken_switch = kernel.broken("no-verify-area"), kernel.broken("no-mm-switch")

    def verify_area(self, kind: int, address: int, size: int) -> int:
        """0 when areas in a row allow the access from the first byte to the last, else -EFAULT.

        Nothing, and everything while FS is the kernel's, passes.  A stack's area grows.  A processor whose CR0.WP is
        clear writes through read-only entries, so that a write has their sharing broken here, page by page (the 386).
        """
        context = self._kernel.this_cpu.vcpu.context
        if not size or context.segment("fs").selector & 0xFFFC == KERNEL_DS or self._credulous:
            return 0
        mm, end = active_mm(self._kernel.this_cpu), address + size
        if mm is None or end > TASK_SIZE:
            return -EFAULT
        wanted = PROT_WRITE if kind == VERIFY_WRITE else PROT_READ | PROT_EXEC
        at = address
        while at < end:
            vma = mm.vmas.find(at)
            if vma is None or not vma.prot & wanted:
                return -EFAULT
            if at < vma.start and (at != address or not self._expand_stack(mm, vma, at)):
                return -EFAULT
            at = vma.end
        if kind == VERIFY_WRITE and not context.cr0 & CR0_WP:
            return self._break_sharing(mm, address, end)
        return 0

    def _expand_stack(self, mm: Mm, vma: Vma, address: int) -> bool:
        task = self._kernel.sched.current
        limit = task.limits[RLIMIT_STACK][0] if task is not None else self._kernel.config.stack_limit
        return bool(vma.flags & VM_GROWSDOWN) and mm.vmas.expand(vma, address, limit)

    def _break_sharing(self, mm: Mm, address: int, end: int) -> int:
        kernel = self._kernel
        for page in range(address & -PAGE_SIZE, end, PAGE_SIZE):
            entry = kernel.tables.lookup_pte(mm.pgd, page)
            vma = mm.vmas.find(page)
            if is_present(entry) and not entry & RW and vma is not None:
                try:
                    kernel.faults.handle_mm_fault(kernel.this_cpu, mm, vma, page, True)
                except OutOfMemory:
                    return -EFAULT
        return 0

    def use_mm(self, pid: int) -> int:
        """Load another task's address space until ``unuse_mm``; 0, or -ESRCH.  Raises WrongContext in an interrupt."""
        kernel = self._kernel
        might_sleep(kernel.sched, "use_mm")
        task, borrower = kernel.tasks.get(pid), kernel.sched.current
        if task is None or task.mm is None or borrower is None:
            return -ESRCH
        if self._broken_switch:
            borrower.forged_mm = task.mm
            return 0
        task.mm.users += 1
        borrower.borrowed_mms.append(task.mm)
        self._load(task.mm)
        return 0

    def unuse_mm(self) -> None:
        """Back to one's own address space."""
        kernel = self._kernel
        might_sleep(kernel.sched, "unuse_mm")
        task = kernel.sched.current
        if task is None:
            return
        if not task.borrowed_mms:
            task.forged_mm = None
            return
        mm = task.borrowed_mms.pop()
        self._load(task.borrowed_mms[-1] if task.borrowed_mms else task.mm)
        kernel.mmu.mmput(kernel.this_cpu, mm)

    def flush_tlb_page(self, address: int) -> None:
        """A module has changed a user page's entry: no CPU keeps a translation (exported by 2.4's i386_ksyms.c)."""
        kernel = self._kernel
        task = kernel.sched.current
        mm = None if task is None else task.borrowed_mms[-1] if task.borrowed_mms else task.mm
        if mm is not None:
            kernel.tlb.flush_tlb_page(kernel.this_cpu, mm, address)

    def _load(self, mm: Mm | None) -> None:
        cpu = self._kernel.this_cpu
        self._kernel.mmu.switch_mm(cpu, mm)
        cpu.vcpu.context.cr3 = cpu.cr3

    def set_current(self, pid: int) -> int:
        """From now on faults in kernel code are answered with another task's areas; 0 puts one's own back."""
        current = self._kernel.sched.current
        if current is None:
            return -ESRCH
        if not pid:
            current.forged_mm = None
            return 0
        task = self._kernel.tasks.get(pid)
        if task is None or task.mm is None:
            return -ESRCH
        current.forged_mm = task.mm
        return 0
