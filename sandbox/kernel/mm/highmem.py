"""How the kernel reaches a frame's data: ``kmap_atomic`` windows, and the copies that go through them.

Every access goes through here, also while the direct map covers the frame.  Highmem frames get a window in the
fixmap: per CPU, a few slots used as a stack, each change followed by a local ``invlpg`` (MM 14).
"""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.arch.cpu import KernelCpu, Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import FIXADDR_END, PAGE_OFFSET, Layout
from sandbox.kernel.base.stats import Stats
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SHIFT, PAGE_SIZE, RW, A, D, P

KM_SLOTS = 16
"""Windows of one CPU."""
PAGE_KERNEL = P | RW | A | D


class KmapError(SandboxError):
    """Windows were used up, or released in the wrong order."""

    exit_status = 3


class PageMapper(Protocol):
    """Gives frames kernel linear addresses for a while; a frame of lowmem has its own and costs nothing."""

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        """The kernel linear address of a frame, for this CPU, until ``unmap``."""
        ...

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        """The address is not used any more."""
        ...


class Highmem:
    """Windows on frames; ``depth`` of every CPU must be 0 whenever a task goes back to ring 3."""

    __slots__ = ("_broken_zero", "_entries", "_flags", "_low", "_smp", "_stats", "depth", "mapper", "windows")

    def __init__(self, entries: KernelEntries, layout: Layout, smp: Smp, stats: Stats, broken: Breakage) -> None:
        self._entries, self._smp, self._stats = entries, smp, stats
        self._low = layout.direct_frames
        self._flags = PAGE_KERNEL | entries.tables.nx
        self._broken_zero = broken("no-zero")
        self.depth = [0] * len(smp.cpus)
        self.windows = 0
        """Windows opened so far."""
        self.mapper: PageMapper = self
        """Through whom pages of data are cleared, copied, read and written (policy ``high_pages``)."""

    def is_low(self, pfn: int) -> bool:
        """The direct map covers the frame: no window is needed."""
        return pfn < self._low

    def kmap_atomic(self, cpu: KernelCpu, pfn: int) -> int:
        """The kernel linear address of a frame: in the direct map for lowmem, else a window of this CPU.

        Raises KmapError when this CPU's windows are used up.
        """
        if pfn < self._low:
            return PAGE_OFFSET + pfn * PAGE_SIZE
        depth = self.depth[cpu.index]
        if depth == KM_SLOTS:
            raise KmapError(f"CPU {cpu.index} has no free kmap window")
        linear = FIXADDR_END - (cpu.index * KM_SLOTS + depth + 1) * PAGE_SIZE
        self._entries.set_window(cpu, linear, pfn << PAGE_SHIFT | self._flags)
        self.depth[cpu.index] = depth + 1
        self.windows += 1
        return linear

    def kunmap_atomic(self, cpu: KernelCpu, linear: int) -> None:
        """Release the window opened last.  Raises KmapError for any other address outside the direct map."""
        if linear < PAGE_OFFSET + self._low * PAGE_SIZE:
            return
        depth = self.depth[cpu.index] - 1
        if depth < 0 or linear != FIXADDR_END - (cpu.index * KM_SLOTS + depth + 1) * PAGE_SIZE:
            raise KmapError(f"kmap window {linear:#010x} is not the last one of CPU {cpu.index}")
        self._entries.clear_window(linear)
        self.depth[cpu.index] = depth

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        """``kmap_atomic``, as a PageMapper."""
        return self.kmap_atomic(cpu, pfn)

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        """``kunmap_atomic``, as a PageMapper."""
        self.kunmap_atomic(cpu, linear)

    def clear_highpage(self, pfn: int) -> None:
        """Let the CPU clear a frame of lowmem or highmem."""
        cpu = self._smp.this_cpu
        if pfn < self._low:  # as every mapper has it, without the two calls: this is what most faults do
            cpu.call(cpu.routines.clear_page, edi=PAGE_OFFSET + pfn * PAGE_SIZE)
            return
        window = self.mapper.map(cpu, pfn)
        cpu.call(cpu.routines.clear_page, edi=window)
        self.mapper.unmap(cpu, pfn, window)

    def clear_user_highpage(self, pfn: int) -> None:
        """The same for a frame that a program will see."""
        if not self._broken_zero:
            self.clear_highpage(pfn)
            self._stats.bytes_by_guest += PAGE_SIZE

    def clear_tail(self, pfn: int, offset: int) -> None:
        """Let the CPU clear a frame from a byte on."""
        cpu = self._smp.this_cpu
        window = self.mapper.map(cpu, pfn)
        cpu.call(cpu.routines.clear_user, ecx=PAGE_SIZE - offset, edi=window + offset)
        self.mapper.unmap(cpu, pfn, window)

    def copy_highpage(self, cpu: KernelCpu, target: int, source: int) -> None:
        """Let a CPU copy one frame into another."""
        window = self.mapper.map(cpu, source)
        self.copy_user_highpage(cpu, target, window)
        self.mapper.unmap(cpu, source, window)

    def copy_user_highpage(self, cpu: KernelCpu, target: int, linear: int) -> None:
        """Let a CPU copy what it sees at a linear address: only the target needs a kernel address (post 001)."""
        window = self.mapper.map(cpu, target)
        cpu.call(cpu.routines.copy_page, esi=linear, edi=window)
        self.mapper.unmap(cpu, target, window)
        self._stats.bytes_by_guest += PAGE_SIZE
