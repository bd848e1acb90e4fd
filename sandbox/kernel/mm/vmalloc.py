"""vmalloc: frames from anywhere, addresses in a row, and a page behind each area that is never there (MM 4).

Areas are entered in the kernel's own directory.  Other directories learn of them lazily, by the fault of the first
kernel access (Linux since 2.4.0-test10), or eagerly, when the area is made (before).  Under PAE all directories share
the kernel's second level, so that neither has anything to do.  Tables that areas needed stay for the next ones: an
entry that another directory has copied can never dangle.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.kernel.events import MapChange
from sandbox.kernel.layout import PAGE_SIZE
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.mm.pagetable import RW, A, D, P
from sandbox.x86.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.engine.context import CpuContext
    from sandbox.kernel.kernel import Kernel

GUARD = PAGE_SIZE
PROT_KERNEL = 3


class BadVfree(SandboxError):
    """vfree of an address that no area begins at: freed already, inside an area, or never vmalloc's."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class Area:
    """Linear addresses [start, end) and their frames in order; the guard page lies behind ``end``."""

    start: int
    end: int
    frames: tuple[int, ...]


class Vmalloc:
    """The areas of one kernel, in order of their addresses."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.areas: list[Area] = []
        self.synced = 0
        """Directory entries that faults have copied."""
        self._eager = kernel.config.vmalloc_sync == "eager"

    def vmalloc(self, size: int) -> int:
        """Linear address of ``size`` bytes, rounded up to pages; 0 for none, too much, or when frames run out.

        The contents are what was left in the frames.
        """
        kernel = self._kernel
        pages = -(-size // PAGE_SIZE)
        if not 0 < pages <= kernel.frames.total_frames:
            return 0
        at, start = self._first_fit(pages * PAGE_SIZE + GUARD)
        if not start:
            return 0
        frames: list[int] = []
        end = start + pages * PAGE_SIZE
        try:
            for linear in range(start, end, PAGE_SIZE):
                place = kernel.tables.pte_alloc(kernel.kernel_pgd, linear, user=False)
                frames.append(kernel.alloc_frame(highmem=True))
                kernel.tables.store(place, kernel.tables.make(frames[-1], P | RW | A | D | kernel.tables.nx))
        except OutOfMemory:
            self._unmap(start, frames)
            return 0
        self.areas.insert(at, Area(start, end, tuple(frames)))
        if self._eager:
            self._sync_all(start, end)
        if kernel.bus.active:
            kernel.bus.emit(MapChange(kernel.sched.now, kernel.here.index, 0, "vmalloc", start, end, PROT_KERNEL))
        return start

    def vfree(self, address: int) -> None:
        """Give an area back.  Raises BadVfree."""
        at = bisect_right(self.areas, address, key=lambda area: area.start) - 1
        area = self.areas[at] if at >= 0 else None
        if area is None or area.start != address:
            inside = f", inside the area {area.start:#010x}-{area.end:#010x}" if area and address < area.end else ""
            raise BadVfree(f"vfree({address:#010x}): no area begins there{inside}", self.report())
        del self.areas[at]
        self._unmap(area.start, list(area.frames))
        kernel = self._kernel
        if kernel.bus.active:
            kernel.bus.emit(MapChange(kernel.sched.now, kernel.here.index, 0, "vfree", area.start, area.end, 0))

    def fault(self, context: CpuContext, address: int, error_code: int) -> bool:
        """A kernel access found nothing: copy the reference directory's entry into the directory of CR3.

        True when the access may be tried again.  No area is looked up and no lock taken: it may happen anywhere.
        """
        kernel = self._kernel
        region = kernel.layout.vmalloc
        if error_code & 5 or not region.start <= address < region.end:
            return False
        if not kernel.tables.get_pte(kernel.kernel_pgd, address) & P:
            return False
        if not kernel.tables.sync_directory(context.cr3 >> 12, kernel.kernel_pgd, address):
            return False
        self.synced += 1
        return True

    def report(self) -> str:
        """One line an area."""
        return "\n".join(
            f"{area.start:#010x}-{area.end:#010x} {len(area.frames):>6} pages, guard at {area.end:#010x}"
            for area in self.areas
        )

    def _first_fit(self, size: int) -> tuple[int, int]:
        """Where in the list and at which address ``size`` bytes are free; address 0 for nowhere."""
        region = self._kernel.layout.vmalloc
        start = region.start
        for at, area in enumerate(self.areas):
            if start + size <= area.start:
                return at, start
            start = area.end + GUARD
        return len(self.areas), start if start + size <= region.end else 0

    def _unmap(self, start: int, frames: list[int]) -> None:
        """Clear the entries, let every CPU forget them, and only then release the frames."""
        kernel = self._kernel
        tables = kernel.tables
        early = kernel.leaves_out("early-free")
        for number in range(len(frames)):
            place = tables.pte_alloc(kernel.kernel_pgd, start + number * PAGE_SIZE, user=False)
            tables.store(place, 0)
            if early:
                kernel.put_page(frames[number])
        if frames:
            kernel.tlb.flush_kernel(kernel.here)
        if not early:
            for pfn in frames:
                kernel.put_page(pfn)

    def _sync_all(self, start: int, end: int) -> None:
        """Every directory that is in use learns of an area."""
        kernel = self._kernel
        spaces = {task.mm.pgd for task in kernel.tasks.values() if task.mm is not None}
        for pgd in sorted(spaces):
            for linear in range(start, end, kernel.tables.large_page):
                kernel.tables.sync_directory(pgd, kernel.kernel_pgd, linear)
            kernel.tables.sync_directory(pgd, kernel.kernel_pgd, end - 1)
