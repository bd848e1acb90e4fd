"""How the kernel reaches a frame's data: ``kmap`` and ``kunmap``.

Every access goes through here, also while the direct map covers the frame.  Highmem frames get a window in the
fixmap: per CPU, a few slots used as a stack, each change followed by a local ``invlpg`` (MM 14).
"""

from __future__ import annotations

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import FIXADDR_END, PAGE_OFFSET, Layout
from sandbox.kernel.mm.pgtable import NX, RW, A, D, P, PageTables
from sandbox.kernel.mm.tlb import Tlb
from sandbox.x86.errors import SandboxError

SLOTS = 16
"""Windows of one CPU."""
PAGE_KERNEL = P | RW | A | D


class KmapError(SandboxError):
    """Windows were used up, or released in the wrong order."""

    exit_status = 3


class Kmap:
    """Windows on frames; ``depth`` of every CPU must be 0 whenever a task goes back to ring 3."""

    def __init__(self, tables: PageTables, kernel_pgd: int, layout: Layout, tlb: Tlb, cpus: int) -> None:
        self._tables = tables
        self._pgd = kernel_pgd
        self._low = layout.direct_frames
        self._tlb = tlb
        self._flags = PAGE_KERNEL | (NX if tables.nx else 0)
        self.depth = [0] * cpus
        self.windows = 0
        """Windows opened so far."""

    def kmap(self, cpu: KernelCpu, pfn: int) -> int:
        """The kernel linear address of a frame: in the direct map for lowmem, else a window of this CPU.

        Raises KmapError when this CPU's windows are used up.
        """
        if pfn < self._low:
            return PAGE_OFFSET + (pfn << 12)
        depth = self.depth[cpu.index]
        if depth == SLOTS:
            raise KmapError(f"CPU {cpu.index} has no free kmap window")
        linear = FIXADDR_END - ((cpu.index * SLOTS + depth + 1) << 12)
        self._tables.map_page(self._pgd, linear, self._tables.pfn_pte(pfn, self._flags), user=False)
        self._tlb.flush_tlb_one(cpu, linear)
        self.depth[cpu.index] = depth + 1
        self.windows += 1
        return linear

    def kunmap(self, cpu: KernelCpu, linear: int) -> None:
        """Release the window opened last.  Raises KmapError for any other address outside the direct map."""
        if linear < PAGE_OFFSET + (self._low << 12):
            return
        depth = self.depth[cpu.index] - 1
        if depth < 0 or linear != FIXADDR_END - ((cpu.index * SLOTS + depth + 1) << 12):
            raise KmapError(f"kmap window {linear:#010x} is not the last one of CPU {cpu.index}")
        self._tables.map_page(self._pgd, linear, 0, user=False)
        self.depth[cpu.index] = depth
