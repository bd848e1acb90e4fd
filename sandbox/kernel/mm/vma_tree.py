"""What a process has mapped: VMAs, kept sorted, split and merged as Linux does.

Everything here is bookkeeping over linear addresses in whole pages of 4096 bytes; page tables are somebody
else's, who learns from the values returned which pages to unmap or to protect again::

    00000000  never mapped below `lowest`
    08048000  the program's segments
       ...    brk area: from `start_brk` up
    40000000  TASK_UNMAPPED_BASE: bottom-up mmap starts here (kernels before 2.6)
       ...    mmap
    B8000000  mmap_base: top-down mmap starts here and goes down
       ...    room for the stack, and its guard gap of 256 pages
    C0000000  TASK_SIZE
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.free_area import FreeAreas
from sandbox.kernel.mm.vma import (
    MMAP_MIN_ADDR,
    PROT_READ,
    PROT_WRITE,
    STACK_GUARD_GAP,
    VM_DONTCOPY,
    VM_GROWSDOWN,
    VM_MAYWRITE,
    AnonVma,
    Vma,
    page_align,
)
from sandbox.records import replace
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE

TASK_UNMAPPED_BASE = TASK_SIZE // 3
MIN_STACK_ROOM = 128 << 20


def mmap_base(stack_limit: int) -> int:
    """Where top-down mmap starts: below a stack of ``stack_limit`` bytes (128 MB at least, 5/6 at most)."""
    room = min(max(stack_limit, MIN_STACK_ROOM), TASK_SIZE // 6 * 5)
    return (TASK_SIZE - room) & PAGE_MASK


class VmaTree:
    """The VMAs of one address space, in order and never overlapping; neighbours that can be one are one.

    (Linux has had a list, an AVL tree, a red-black tree and a maple tree here; a sorted list does for some
    hundreds.)
    """

    def __init__(self, *, stack_limit: int = 8 << 20, top_down: bool = True, lowest: int = MMAP_MIN_ADDR) -> None:
        self.top_down = top_down
        self.mmap_base = mmap_base(stack_limit)
        self.lowest = lowest
        self.start_brk = 0
        self.brk = 0
        self.pages = 0
        """Pages in all VMAs."""
        self.data_pages = 0
        """Of these, the pages that RLIMIT_DATA counts."""
        self.owner: object = None
        """The mm that it belongs to."""
        self._vmas: list[Vma] = []
        self._ends: list[int] = []
        self._last: Vma | None = None
        self._free = FreeAreas()

    def __iter__(self) -> Iterator[Vma]:
        return iter(self._vmas)

    def __len__(self) -> int:
        return len(self._vmas)

    def copy(self) -> VmaTree:
        """The tree of a forked child: own VMA objects, without those that are VM_DONTCOPY."""
        child = VmaTree(top_down=self.top_down, lowest=self.lowest)
        child.mmap_base, child.start_brk, child.brk = self.mmap_base, self.start_brk, self.brk
        child._vmas = [replace(vma) for vma in self._vmas if not vma.flags & VM_DONTCOPY]
        child._ends = [vma.end for vma in child._vmas]
        for vma in child._vmas:
            child._count(vma, 1)
            child._link(vma)
            if vma.anon_vma is not None:
                vma.anon_vma, vma.inherited = AnonVma(), True
        return child

    def clear(self) -> None:
        """Forget every VMA."""
        for vma in self._vmas:
            self._unlink(vma)
        self._vmas, self._ends, self._last = [], [], None
        self.pages = self.data_pages = 0
        self._free.forget()

    def find(self, linear: int) -> Vma | None:
        """The first VMA that ends above ``linear``; it need not contain it (Linux find_vma)."""
        last = self._last
        if last is not None and last.start <= linear < last.end:
            return last
        index = bisect_right(self._ends, linear)
        if index == len(self._vmas):
            return None
        self._last = self._vmas[index]
        return self._last

    def find_exact(self, linear: int) -> Vma | None:
        """The VMA that contains ``linear``."""
        vma = self.find(linear)
        return vma if vma is not None and vma.start <= linear else None

    def before(self, vma: Vma) -> Vma | None:
        """The neighbour below a VMA of this tree."""
        index = bisect_right(self._ends, vma.start)
        return self._vmas[index - 1] if index else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """The VMAs that have a page in [start, end), in order."""
        index = bisect_right(self._ends, start)
        found = []
        while index < len(self._vmas) and self._vmas[index].start < end:
            found.append(self._vmas[index])
            index += 1
        return found

    def first_gap(self, start: int, end: int) -> int | None:
        """The first linear address in [start, end) that no VMA contains, or None."""
        for vma in self.overlapping(start, end):
            if vma.start > start:
                return start
            start = vma.end
        return start if start < end else None

    def insert(self, vma: Vma) -> Vma:
        """Add a VMA, merged with its neighbours where possible; the object that now holds its pages.

        Raises ValueError if another VMA is in the way: ``remove`` first, as MAP_FIXED does.
        """
        index = bisect_right(self._ends, vma.start)
        if index < len(self._vmas) and self._vmas[index].start < vma.end:
            raise ValueError(f"{vma.describe()} overlaps {self._vmas[index].describe()}")
        if vma.end > TASK_SIZE:
            raise ValueError(f"{vma.describe()} reaches beyond TASK_SIZE")
        self._vmas.insert(index, vma)
        self._ends.insert(index, vma.end)
        self._link(vma)
        self._count(vma, 1)
        start = vma.start
        self._merge(index, index + 1)
        return self._vmas[bisect_right(self._ends, start)]

    def remove(self, start: int, end: int) -> list[Vma]:
        """Take [start, end) out of the tree, holes or not; the pieces removed, for the caller to unmap."""
        first, last = self._carve(start, end)
        removed = self._vmas[first:last]
        del self._vmas[first:last], self._ends[first:last]
        self._last = None
        if removed:
            self._free.freed(self._vmas, self._ends, removed[0].start)
        for vma in removed:
            self._unlink(vma)
            self._count(vma, -1)
        return removed

    def protect(self, start: int, end: int, prot: int, *, split: bool = True) -> list[tuple[int, int, int]]:
        """Give [start, end) the protection ``prot``; (start, end, old prot) of each piece that changed.

        Holes are skipped: mprotect(2) fails with ENOMEM at the first, so its caller asks ``first_gap`` and
        stops there.
        ``split=False`` breaks it on purpose: VMAs that are touched change as a whole.
        """
        if not split:
            touched = self.overlapping(start, end)
            if touched:
                start, end = touched[0].start, touched[-1].end
        if not any(vma.prot != prot for vma in self.overlapping(start, end)):
            return []
        first, last = self._carve(start, end)
        changed = []
        for vma in self._vmas[first:last]:
            if vma.prot != prot:
                changed.append((vma.start, vma.end, vma.prot))
                self._count(vma, -1)
                vma.prot = prot
                self._count(vma, 1)
        self._merge(first, last)
        return changed

    def set_flags(self, start: int, end: int, add: int, drop: int = 0) -> None:
        """Change the VM_* bits of what is mapped in [start, end)."""
        first, last = self._carve(start, end)
        for vma in self._vmas[first:last]:
            self._count(vma, -1)
            vma.flags = vma.flags & ~drop | add
            self._count(vma, 1)
        if drop & VM_GROWSDOWN:
            self._free.forget()
        self._merge(first, last)

    def get_unmapped_area(self, length: int, hint: int = 0, *, bottom_up: bool | None = None) -> int | None:
        """A free address for ``length`` bytes, or None: the hint if it is free, else by the tree's direction.

        The top-down search falls back to bottom-up when all below ``mmap_base`` is taken.
        """
        length = page_align(length)
        if not 0 < length <= TASK_SIZE:
            return None
        if hint:
            hint = max(page_align(hint), self.lowest)
            if hint + length <= TASK_SIZE and self._is_free(hint, length):
                return hint
        if self.top_down if bottom_up is None else not bottom_up:
            found = self._free.highest(self._vmas, self._ends, length, self.lowest, self.mmap_base)
            if found is not None:
                return found
        return self._free.lowest(self._vmas, self._ends, length, TASK_UNMAPPED_BASE)

    def anon_vma_prepare(self, vma: Vma) -> None:
        """An area is about to get its first page of its own: it takes a neighbour's anon_vma, or a new one."""
        if vma.anon_vma is not None:
            return
        index = bisect_right(self._ends, vma.start)
        above = self._vmas[index + 1] if index + 1 < len(self._vmas) else None
        below = self._vmas[index - 1] if index else None
        if above is not None and above.anon_vma and not above.inherited and vma.could_share(above):
            vma.anon_vma = above.anon_vma
        elif below is not None and below.anon_vma and not below.inherited and below.could_share(vma):
            vma.anon_vma = below.anon_vma
        else:
            vma.anon_vma = AnonVma()

    def expand(self, vma: Vma, linear: int, stack_limit: int) -> bool:
        """Grow a VM_GROWSDOWN VMA down to the page of ``linear``; False if the limit (bytes) or a neighbour
        forbids it."""
        start = linear & PAGE_MASK
        if start >= vma.start:
            return True
        if not vma.flags & VM_GROWSDOWN or vma.end - start > stack_limit or start < self.lowest:
            return False
        below = self.before(vma)
        if below is not None:
            gap = 0 if below.flags & VM_GROWSDOWN or not below.prot else STACK_GUARD_GAP
            if start - gap < below.end:
                return False
        grown = (vma.start - start) // PAGE_SIZE  # a stack's: no data
        if vma.inode is not None:
            if vma.pgoff < grown:
                return False
            vma.pgoff -= grown
        vma.start = start
        self.pages += grown
        return True

    def set_brk(self, linear: int, prot: int = PROT_READ | PROT_WRITE) -> list[Vma]:
        """Move the break, as brk(2): ``brk`` says where it is afterwards, unmoved if that is impossible.

        Returns the pieces that a shrinking break removed, for the caller to unmap.
        """
        if not self.start_brk <= linear <= TASK_SIZE:
            return []
        old, new = page_align(self.brk), page_align(linear)
        removed: list[Vma] = []
        if new < old:
            removed = self.remove(new, old)
        elif new > old:
            above = self.find(old)
            if above is not None and above.floor < new + PAGE_SIZE:
                return []
            self.insert(Vma(old, new, prot, VM_MAYWRITE))
        self.brk = linear
        return removed

    def check(self) -> None:
        """Raise AssertionError unless the tree's invariants hold."""
        assert self._ends == [vma.end for vma in self._vmas]
        assert self.pages == sum(vma.size for vma in self._vmas) // PAGE_SIZE
        assert self.data_pages == sum(vma.data_pages for vma in self._vmas)
        for below, above in zip(self._vmas, self._vmas[1:], strict=False):
            assert below.end <= above.start, f"{below.describe()} overlaps {above.describe()}"
            assert not self._joins(below, above), f"{below.describe()} and {above.describe()} are not merged"
        assert all(vma.start < vma.end <= TASK_SIZE for vma in self._vmas)
        for inode in {id(vma.inode): vma.inode for vma in self._vmas if vma.inode is not None}.values():
            mapped = sum(vma.inode is inode for vma in self._vmas)
            assert (inode.i_mmap or {}).get(self) == mapped, f"{inode} does not know of {mapped} areas"

    def _is_free(self, start: int, length: int) -> bool:
        index = bisect_right(self._ends, start)
        return index == len(self._vmas) or start + length <= self._vmas[index].floor

    def _carve(self, start: int, end: int) -> tuple[int, int]:
        """Split at both ends; indexes [first, last) of the VMAs that then fill the mapped part of it."""
        if (start | end) % PAGE_SIZE or start > end:
            raise ValueError(f"{start:#x}-{end:#x} is not a range of whole pages")
        first = self._split(start)
        return first, self._split(end)

    def _split(self, linear: int) -> int:
        """Make ``linear`` a boundary; the index of the first VMA that ends above it."""
        index = bisect_right(self._ends, linear)
        if index < len(self._vmas) and self._vmas[index].start < linear:
            lower = self._vmas[index]
            upper = lower.piece(linear, lower.end)
            lower.end = linear
            self._vmas.insert(index + 1, upper)
            self._ends.insert(index, linear)
            self._link(upper)
            self._last = None
            index += 1
        return index

    def _merge(self, first: int, last: int) -> None:
        """Merge what can be one at the boundaries of the VMAs [first, last), outer neighbours included.

        Upwards: where the two neighbours do not fit each other, the lower gets what lies between (vma_merge).
        """
        index, left = max(first, 1), min(last, len(self._vmas) - 1) - max(first, 1) + 1
        for _ in range(left):
            lower, upper = self._vmas[index - 1], self._vmas[index]
            if not self._joins(lower, upper):
                index += 1
                continue
            lower.end = upper.end
            if lower.anon_vma is None:
                lower.anon_vma, lower.inherited = upper.anon_vma, upper.inherited
            del self._vmas[index], self._ends[index - 1]
            self._unlink(upper)
            self._last = None

    def _joins(self, lower: Vma, upper: Vma) -> bool:
        """Two neighbours can be one; the heap never joins what exec mapped below it (since Linux 6.1)."""
        return upper.continues(lower) and upper.start != page_align(self.start_brk)

    def _count(self, vma: Vma, sign: int) -> None:
        self.pages += sign * vma.size // PAGE_SIZE
        self.data_pages += sign * vma.data_pages

    def _link(self, vma: Vma) -> None:
        """An area of the tree maps an inode once more."""
        if vma.inode is not None:
            if vma.inode.i_mmap is None:
                vma.inode.i_mmap = {}
            vma.inode.i_mmap[self] = vma.inode.i_mmap.get(self, 0) + 1

    def _unlink(self, vma: Vma) -> None:
        if vma.inode is not None and vma.inode.i_mmap is not None:
            left = vma.inode.i_mmap[self] - 1
            if left:
                vma.inode.i_mmap[self] = left
            else:
                del vma.inode.i_mmap[self]
