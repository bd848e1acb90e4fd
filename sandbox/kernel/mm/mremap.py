"""mremap: an area grows where it is, or its page-table entries move to another place; no byte is copied."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EFAULT, EINVAL, ENOMEM, KernelError
from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.entries import Entries
from sandbox.kernel.mm.mm import Mm, Process
from sandbox.kernel.mm.mmap import MAX_MAP_COUNT, Mmap
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.kernel.mm.rlimit import may_expand
from sandbox.kernel.mm.vma import MMAP_MIN_ADDR, VM_LOCKED, Vma, page_align
from sandbox.records import replace
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4


class Mremap:
    """mremap(2) over the other calls on areas."""

    __slots__ = ("_broken_unmap", "_entries", "_memmap", "_mmap")

    def __init__(self, entries: Entries, pgdat: PgDat, mmap: Mmap, broken: Breakage) -> None:
        self._entries, self._memmap, self._mmap = entries, pgdat.memmap, mmap
        self._broken_unmap = broken("no-move-unmap")

    def do_mremap(self, task: Process, address: int, old: int, new: int, flags: int, target: int) -> int:
        """Resize or move what is mapped in [address, address + old); where it is afterwards.

        ``old`` 0 makes a second mapping of a shared area.  Raises KernelError as mremap(2): EINVAL, EFAULT, ENOMEM.
        """
        mm = task.mm
        assert mm is not None
        if flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP):
            raise KernelError(EINVAL)
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) and not flags & MREMAP_MAYMOVE:
            raise KernelError(EINVAL)
        if (flags & MREMAP_DONTUNMAP and old != new) or address & ~PAGE_MASK:
            raise KernelError(EINVAL)
        old, new = page_align(old), page_align(new)
        if not new:
            raise KernelError(EINVAL)
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
            return self._move_to(task, mm, address, old, new, flags, target)
        vma = mm.vmas.find_exact(address)
        if vma is None:
            raise KernelError(EFAULT)
        if old >= new:
            if old > new:
                self._mmap.do_munmap(task, address + new, old - new)
            return address
        _check_resize(task, mm, vma, address, old, new)
        if old == vma.end - address and self._grow(task, mm, vma, new - old):
            return address
        if not flags & MREMAP_MAYMOVE:
            raise KernelError(ENOMEM)
        found = mm.vmas.get_unmapped_area(new)
        if found is None:
            raise KernelError(ENOMEM)
        return self._move(task, mm, vma, address, old, new, found, keep=False)

    def _grow(self, task: Process, mm: Mm, vma: Vma, more: int) -> bool:
        """Extend an area upwards if nothing is in the way."""
        end = vma.end + more
        above = mm.vmas.find(vma.end)
        if end > TASK_SIZE or (above is not None and above.floor < end):
            return False
        start, prot, flags = vma.end, vma.prot, vma.flags
        pgoff = vma.page_of(start) if vma.counts else 0
        mm.vmas.insert(replace(vma, start=start, end=end, pgoff=pgoff))
        self._mmap.report(task, "mremap", start, end, prot)
        if flags & VM_LOCKED:
            self._mmap.populate(task.cpu, mm, start, end)
        return True

    def _move_to(self, task: Process, mm: Mm, address: int, old: int, new: int, flags: int, target: int) -> int:
        fixed = flags & MREMAP_FIXED
        if mm.vmas.find_exact(address) is None:
            raise KernelError(EFAULT)
        if target & ~PAGE_MASK or target > TASK_SIZE - new or new > TASK_SIZE:
            raise KernelError(EINVAL)
        if address + old > target and target + new > address:
            raise KernelError(EINVAL)
        if len(mm.vmas) + 2 >= MAX_MAP_COUNT - 3:
            raise KernelError(ENOMEM)
        if fixed:
            if target < MMAP_MIN_ADDR:
                raise KernelError(EINVAL)
            self._mmap.do_munmap(task, target, new)
        if old > new:
            self._mmap.do_munmap(task, address + new, old - new)
            old = new
        vma = mm.vmas.find_exact(address)
        if vma is None:
            raise KernelError(EFAULT)
        _check_resize(task, mm, vma, address, old, new)
        keep = bool(flags & MREMAP_DONTUNMAP)
        if keep and not may_expand(task.limits, mm.vmas, old // PAGE_SIZE, vma.prot, vma.flags):
            raise KernelError(ENOMEM)
        found = target if fixed else mm.vmas.get_unmapped_area(new, target)
        if found is None:
            raise KernelError(ENOMEM)
        return self._move(task, mm, vma, address, old, new, found, keep)

    def _move(self, task: Process, mm: Mm, vma: Vma, address: int, old: int, new: int, target: int, keep: bool) -> int:
        """Make the new area, move the entries into it, unmap the old place unless it is to be kept empty."""
        if len(mm.vmas) >= MAX_MAP_COUNT - 3:
            raise KernelError(ENOMEM)
        tables = self._entries.tables
        linears = [linear for linear, _ in tables.user_ptes(mm.pgd, address, address + old)]
        try:
            places = [tables.pte_alloc(mm.pgd, linear - address + target) for linear in linears]
        except OutOfMemory as error:
            raise KernelError(ENOMEM) from error
        flags, prot = vma.flags, vma.prot
        pgoff = vma.page_of(address) if vma.counts else 0
        kept = flags & ~VM_LOCKED if keep else flags
        moved = replace(
            vma, start=target, end=target + new, flags=kept, pgoff=pgoff, shift=_shift(vma, address, target)
        )
        if not old:
            moved.anon_vma, moved.inherited = None, False
        mm.vmas.insert(moved)
        self._mmap.report(task, "mremap", target, target + new, prot)
        gather = self._entries.gather(task.cpu, mm)
        for linear, place in zip(linears, places, strict=True):
            if self._broken_unmap:
                self._entries.share(mm, linear - address + target, tables.lookup_pte(mm.pgd, linear))
            else:
                gather.move(linear, tables.pte_alloc(mm.pgd, linear), place)
        gather.finish()
        if old and not keep:
            mm.vmas.remove(address, address + old)
            self._mmap.report(task, "munmap", address, address + old, prot)
        if keep and (vma.start, vma.end) == (address, address + old):
            vma.anon_vma, vma.inherited = None, False
        if flags & VM_LOCKED:
            self._mmap.populate(task.cpu, mm, target, target + new)
        return target


def _shift(vma: Vma, address: int, target: int) -> int:
    """Anonymous memory with pages keeps their numbers where it goes; without, it is as if mapped there."""
    if vma.counts or vma.anon_vma is None:
        return 0
    return vma.shift + (target - address) // PAGE_SIZE


def _check_resize(task: Process, mm: Mm, vma: Vma, address: int, old: int, new: int) -> None:
    """Linux's vma_to_resize.  Raises KernelError (EINVAL, EFAULT, ENOMEM)."""
    if not old and not vma.shared:
        raise KernelError(EINVAL)
    if old > vma.end - address:
        raise KernelError(EFAULT)
    if vma.counts and vma.page_of(address) + new // PAGE_SIZE >= 1 << 32:
        raise KernelError(ENOMEM)
    if not may_expand(task.limits, mm.vmas, (new - old) // PAGE_SIZE, vma.prot, vma.flags):
        raise KernelError(ENOMEM)
