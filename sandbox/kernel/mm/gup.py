"""Memory of another process: ``get_user_pages`` and ``access_remote_vm`` (kernel/ptrace.c of 2.3.20 to 2.4, mm/gup.c).

A page is brought in, and its sharing broken, in the other address space, as a fault there would do it; then the pool
of ``kmap`` gives it an address, and the CPU copies.  That is 2.3.20's way; 2.0 walked the tables by hand and wrote
through the direct map (MM 13).

``force`` is what debuggers have (FOLL_FORCE): areas that the program may not read or write are reached too, and a write
to one that it may not write gives it a page of its own first.  Shared areas are never forced: others would see it.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EFAULT, KernelError
from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.codecache import CodeCache
from sandbox.kernel.mm.entries import Entries
from sandbox.kernel.mm.fault import BUS_ERROR, PageFaults
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.kmap import Kmap
from sandbox.kernel.mm.mm import Mm, Process
from sandbox.kernel.mm.mmu_context import MmuContext
from sandbox.kernel.mm.page import MemMap
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.mm.rlimit import Limits
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.mm.vma import PROT_READ, PROT_WRITE, VM_GROWSDOWN, VM_IO, VM_MAYWRITE, VM_SHARED, Vma
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE, RW, D


class RemoteAccess:
    """Reads and writes of any address space, on the CPU of the task that asks."""

    __slots__ = (
        "_broken_poke", "_code", "_entries", "_faults", "_kmap", "_memmap", "_mmu", "_page_alloc", "_pagecache",
        "_uaccess",
    )  # fmt: skip

    def __init__(
        self,
        entries: Entries,
        faults: PageFaults,
        memmap: MemMap,
        page_alloc: PageAllocator,
        kmap: Kmap,
        pagecache: PageCache,
        mmu: MmuContext,
        uaccess: UserAccess,
        code: CodeCache,
        broken: Breakage,
    ) -> None:
        self._entries, self._faults, self._memmap, self._page_alloc = entries, faults, memmap, page_alloc
        self._kmap, self._pagecache, self._mmu, self._uaccess, self._code = kmap, pagecache, mmu, uaccess, code
        self._broken_poke = broken("poke-shared")

    # -- by bytes ------------------------------------------------------------------------------------------------

    def access_remote_vm(
        self, task: Process, mm: Mm, address: int, local: int, size: int, *, write: bool, force: bool = True
    ) -> int:
        """Move bytes between ``address`` in ``mm`` and ``local``, a linear address of the task's; those that moved.

        Short where a page cannot be had, where ``local`` faults, and for an address space that is gone.
        """
        if not mm.users:
            return 0
        mm.users += 1
        lock, done = mm.lock, 0
        lock.wait_for_writer()
        lock.readers += 1
        try:
            while done < size and address + done < TASK_SIZE:
                piece = min(size - done, PAGE_SIZE - (address + done) % PAGE_SIZE)
                moved = self._access_page(task, mm, address + done, local + done, piece, write, force)
                done += moved
                if moved < piece:
                    break
        finally:
            lock.readers -= 1
            if lock.queue.tasks:
                lock.wake()
            self._mmu.mmput(task.cpu, mm)
        return done

    def _access_page(self, task: Process, mm: Mm, address: int, local: int, size: int, write: bool, force: bool) -> int:
        """Within one page; the bytes that moved."""
        try:
            vma, pfn = self.get_user_page(task, mm, address, write=write, force=force)
        except (KernelError, OutOfMemory):
            return 0
        try:
            linear = self._kmap.map(task.cpu, pfn)
            there = linear + address % PAGE_SIZE
            left = self._uaccess.copy_user(task, *((there, local) if write else (local, there)), size)
            self._kmap.unmap(task.cpu, pfn, linear)
            if write and left < size:
                self._wrote(task, mm, vma, address & PAGE_MASK, pfn)
        finally:
            self._page_alloc.put_page(pfn)
        return size - left

    def _wrote(self, task: Process, mm: Mm, vma: Vma, page: int, pfn: int) -> None:
        """The entry's dirty bit, which the CPU has not set, and other CPUs' translations of the old bytes."""
        self._code.stored(pfn)
        ptep = self._entries.tables.pte_alloc(mm.pgd, page)
        entry = self._entries.settled(ptep)
        if is_mapped(entry) and self._entries.tables.pte_pfn(entry) == pfn:
            if not entry & D:
                self._entries.change(task.cpu, mm, page, ptep, entry, entry | D)
        elif vma.shared and vma.inode is not None:  # reclaim has unmapped it meanwhile, and taken it for clean
            self._pagecache.write_out(vma.inode, vma.page_of(page))

    # -- by pages ------------------------------------------------------------------------------------------------

    def get_user_page(self, task: Process, mm: Mm, address: int, *, write: bool, force: bool) -> tuple[Vma, int]:
        """The area and the frame of an address, with a reference on the frame, which the caller gives back.

        ``mm.lock`` is held for reading.  Raises KernelError(EFAULT) and OutOfMemory.
        """
        vma, page = self._area(mm, address, task.limits), address & PAGE_MASK
        if vma is None or not _allows(vma, write, force):
            raise KernelError(EFAULT)
        while True:
            pfn = self._follow_page(mm, vma, page, write)
            if pfn is not None:
                return vma, pfn
            if self._faults.handle_mm_fault(task.cpu, mm, vma, page, write) is BUS_ERROR:
                raise KernelError(EFAULT)

    def _area(self, mm: Mm, address: int, limits: Limits) -> Vma | None:
        """The area of an address; a stack grows down to it (find_extend_vma)."""
        vma = mm.vmas.find(address)
        if vma is None or address >= vma.start:
            return vma
        grows = vma.flags & VM_GROWSDOWN and self._faults.expand_stack(mm, vma, address, limits)
        return vma if grows else None

    def _follow_page(self, mm: Mm, vma: Vma, page: int, write: bool) -> int | None:
        """The frame that an entry names, if it is good for the access: a write needs one that is no one else's."""
        tables = self._entries.tables
        entry = self._entries.settled(tables.pte_alloc(mm.pgd, page))
        if not is_mapped(entry):
            return None
        pfn = tables.pte_pfn(entry)
        if write and not entry & RW and not self._may_force(vma, pfn):
            return None
        self._memmap.get_page(pfn)
        return pfn

    def _may_force(self, vma: Vma, pfn: int) -> bool:
        """A read-only entry's page may be written: the program may not, and nobody else has it."""
        if self._broken_poke:
            return True
        alone = self._memmap.count(pfn) == 1 and not self._memmap.reserved(pfn)
        return alone and not vma.prot & PROT_WRITE


def _allows(vma: Vma, write: bool, force: bool) -> bool:
    """Linux's check_vma_flags: device memory never, a shared area only as its program may."""
    if vma.flags & VM_IO:
        return False
    if not write:
        return bool(vma.prot & PROT_READ) or force
    if vma.prot & PROT_WRITE:
        return True
    return force and vma.flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
