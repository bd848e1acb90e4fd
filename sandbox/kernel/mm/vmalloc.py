"""vmalloc: frames from anywhere, addresses in a row, and a page behind each area that is never there (MM 4).

Areas are entered in the kernel's own directory.  Other directories learn of them lazily, by the fault of the first
kernel access (Linux since 2.4.0-test10), or eagerly, when the area is made (before).  Under PAE all directories share
the kernel's second level, unless the policy ``kernel_pmd=process`` gives each its own, so that neither has anything to
do.  Tables that areas needed stay for the next ones: an entry that another directory has copied can never dangle.

Device memory (``ioremap.py``), modules and arrays of struct page lie in the same list.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.kernel.base.events import MapChange
from sandbox.kernel.base.layout import PAGE_SIZE
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.mm.page_alloc import WrongContext
from sandbox.kernel.mm.pgtable import RW, A, D, P
from sandbox.x86.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.engine.context import CpuContext
    from sandbox.kernel.kernel import Kernel

GUARD = PAGE_SIZE
PROT_KERNEL, PROT_RUN = 3, 4


class BadVfree(SandboxError):
    """vfree of an address that no area begins at: freed already, inside an area, or never vmalloc's."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class Area:
    """Linear addresses [start, end) and their frames in order; the guard page lies behind ``end``.

    ``owned`` frames go back to the allocator with the area; those of a device do not.
    """

    start: int
    end: int
    frames: tuple[int, ...]
    kind: str = "vmalloc"
    owned: bool = True
    cache_bits: int = 0
    """PCD and PWT of its entries."""


class Vmalloc:
    """The areas of one kernel, in order of their addresses."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.areas: list[Area] = []
        self.synced = 0
        """Directory entries that faults have copied."""
        self._eager = kernel.config.policies["vmalloc_sync"] == "eager"

    def vmalloc(self, size: int, kind: str = "vmalloc", executable: Sequence[bool] = ()) -> int:
        """Linear address of ``size`` bytes, rounded up to pages; 0 for none, too much, or when frames run out.

        The contents are what was left in the frames.  ``executable`` says so of single pages, for modules.  Raises
        WrongContext in an interrupt: page tables may have to be allocated.
        """
        kernel = self._kernel
        if kernel.in_interrupt:
            raise WrongContext(f"vmalloc({size}) in an interrupt: it may sleep for frames and page tables")
        pages = -(-size // PAGE_SIZE)
        if not 0 < pages <= kernel.frames.total_frames:
            return 0
        at, start = self.get_vm_area(pages * PAGE_SIZE + GUARD)
        if not start:
            return 0
        frames: list[int] = []
        flags, nx = P | RW | A | D, kernel.tables.nx
        try:
            for number in range(pages):
                place = kernel.tables.pte_alloc(kernel.kernel_pgd, start + number * PAGE_SIZE, user=False)
                pfn = kernel.alloc_frame(highmem=True)
                frames.append(pfn)
                run = bool(executable) and executable[number]
                if run:
                    kernel.code.mapped(pfn, True, True)
                kernel.tables.set_pte(place, kernel.tables.pfn_pte(pfn, flags | (0 if run else nx)))
        except OutOfMemory:
            self._unmap(start, frames, owned=True)
            return 0
        prot = PROT_KERNEL | (PROT_RUN if any(executable) else 0)
        self._enter(at, Area(start, start + pages * PAGE_SIZE, tuple(frames), kind), prot)
        return start

    def vmap_device(self, physical: int, size: int, kind: str, cache_bits: int = 0) -> int:
        """Map physical pages that nobody owns; linear address, 0 when addresses or tables run out.

        ``physical`` and ``size`` in whole pages.  Raises WrongContext in an interrupt.
        """
        kernel = self._kernel
        if kernel.in_interrupt:
            raise WrongContext(f"{kind}({physical:#x}) in an interrupt: page tables may have to be allocated")
        at, start = self.get_vm_area(size + GUARD)
        if not start:
            return 0
        flags = P | RW | A | D | kernel.tables.nx | cache_bits
        self._warn_of_alias(physical, size, cache_bits)
        frames = tuple(range(physical >> 12, physical + size >> 12))
        done: list[int] = []
        try:
            for number, pfn in enumerate(frames):
                place = kernel.tables.pte_alloc(kernel.kernel_pgd, start + number * PAGE_SIZE, user=False)
                kernel.tables.set_pte(place, kernel.tables.pfn_pte(pfn, flags))
                done.append(pfn)
        except OutOfMemory:
            self._unmap(start, done, owned=False)
            return 0
        self._enter(at, Area(start, start + size, frames, kind, owned=False, cache_bits=cache_bits))
        return start

    def _warn_of_alias(self, physical: int, size: int, cache_bits: int) -> None:
        """One physical page, cached in one mapping and not in another: what a CPU does then is undefined."""
        for area in self.areas:
            if area.owned or area.cache_bits == cache_bits or not area.frames:
                continue
            first = area.frames[0] << 12
            if first < physical + size and physical < first + area.end - area.start:
                kinds = ("", "un") if area.cache_bits else ("un", "")
                self._kernel.printk(
                    f"{physical:#010x} is mapped {kinds[0]}cached here and {kinds[1]}cached at {area.start:#010x}\n"
                )

    def reserve(self, kind: str, size: int) -> tuple[int, tuple[int, ...]]:
        """An area of cleared frames that is never freed: linear address and frames.  Raises OutOfMemory."""
        start = self.vmalloc(size, kind)
        if not start:
            raise OutOfMemory(f"out of memory: no {size} bytes for {kind}", self._kernel.frames.report())
        area = self.find(start)
        assert area is not None
        for pfn in area.frames:
            self._kernel.clear_highpage(pfn)
        return start, area.frames

    def vfree(self, address: int) -> None:
        """Give an area back; 0 is nothing.  Raises BadVfree, and WrongContext in an interrupt."""
        if not address:
            return
        kernel = self._kernel
        if kernel.in_interrupt:
            raise WrongContext(f"vfree({address:#010x}) in an interrupt: other CPUs are told to flush")
        at = bisect_right(self.areas, address, key=lambda area: area.start) - 1
        area = self.areas[at] if at >= 0 else None
        if area is None or area.start != address:
            inside = f", inside the area {area.start:#010x}-{area.end:#010x}" if area and address < area.end else ""
            raise BadVfree(f"vfree({address:#010x}): no area begins there{inside}", self.report())
        del self.areas[at]
        self._unmap(area.start, list(area.frames), area.owned)
        if kernel.bus.active:
            kernel.bus.emit(
                MapChange(kernel.sched.now, kernel.this_cpu.index, 0, f"{area.kind}-free", area.start, area.end, 0)
            )

    def find(self, address: int) -> Area | None:
        """The area that holds an address."""
        at = bisect_right(self.areas, address, key=lambda area: area.start) - 1
        return self.areas[at] if at >= 0 and address < self.areas[at].end else None

    def vmalloc_fault(self, context: CpuContext, address: int, error_code: int) -> bool:
        """A kernel access found nothing: copy the reference directory's entry into the directory of CR3.

        True when the access may be tried again.  No area is looked up and no lock taken: it may happen anywhere.
        The directory is that of CR3, not the current task's: the two may differ.
        """
        kernel = self._kernel
        layout = kernel.layout
        if kernel.broken("no-vmalloc-sync"):
            return False
        if error_code & 5 or not (
            layout.vmalloc.start <= address < layout.vmalloc.end or layout.vmemmap.start <= address < layout.vmemmap.end
        ):
            return False
        if not kernel.tables.lookup_pte(kernel.kernel_pgd, address) & P:
            return False
        if not kernel.tables.sync_directory(context.cr3 >> 12, kernel.kernel_pgd, address):
            return False
        self.synced += 1
        return True

    def report(self) -> str:
        """One line an area."""
        return "\n".join(
            f"{area.start:#010x}-{area.end:#010x} {len(area.frames):>6} pages  {area.kind}" for area in self.areas
        )

    def sync_all(self, start: int, end: int) -> None:
        """Every directory that is in use learns of [start, end) (vmalloc_sync_all)."""
        kernel = self._kernel
        spaces = {task.mm.pgd for task in kernel.tasks.values() if task.mm is not None}
        for pgd in sorted(spaces):
            for linear in range(start, end, kernel.tables.large_page):
                kernel.tables.sync_directory(pgd, kernel.kernel_pgd, linear)
            kernel.tables.sync_directory(pgd, kernel.kernel_pgd, end - 1)

    def _enter(self, at: int, area: Area, prot: int = PROT_KERNEL) -> None:
        kernel = self._kernel
        self.areas.insert(at, area)
        if self._eager:
            self.sync_all(area.start, area.end)
        if kernel.broken("no-guard"):
            place = kernel.tables.pte_alloc(kernel.kernel_pgd, area.end, user=False)
            kernel.tables.set_pte(place, kernel.tables.pfn_pte(kernel.zero_page, P | RW | A | D | kernel.tables.nx))
        if kernel.bus.active:
            kernel.bus.emit(
                MapChange(kernel.sched.now, kernel.this_cpu.index, 0, area.kind, area.start, area.end, prot)
            )

    def get_vm_area(self, size: int) -> tuple[int, int]:
        """Where in the list and at which address ``size`` bytes are free; address 0 for nowhere."""
        region = self._kernel.layout.vmalloc
        start = region.start
        for at, area in enumerate(self.areas):
            if start + size <= area.start:
                return at, start
            start = area.end + GUARD
        return len(self.areas), start if start + size <= region.end else 0

    def _unmap(self, start: int, frames: list[int], owned: bool) -> None:
        """Clear the entries, let every CPU forget them, and only then release the frames."""
        kernel = self._kernel
        tables = kernel.tables
        early = kernel.broken("early-free")
        guard = kernel.broken("no-guard")
        for number in range(len(frames) + guard):
            place = tables.pte_alloc(kernel.kernel_pgd, start + number * PAGE_SIZE, user=False)
            tables.set_pte(place, 0)
            if early and owned and number < len(frames):
                kernel.put_page(frames[number])
        if frames:
            kernel.tlb.flush_tlb_all(kernel.this_cpu)
        if owned and not early:
            for pfn in frames:
                kernel.put_page(pfn)
