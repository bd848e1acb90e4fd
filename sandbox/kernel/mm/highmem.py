"""How the kernel reaches a frame's data: ``kmap_atomic`` windows, and the copies that go through them.

Every access goes through here, also while the direct map covers the frame.  Highmem frames get a window of the policy
``kmap_atomic`` (``mm/kmap_atomic.py``), pages that are copied or cleared an address of the policy ``high_pages``
(``mm/page_mapper.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.kernel.arch.cpu import CLEAR_PAGE_BLOCKS, KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import PAGE_OFFSET, Layout
from sandbox.kernel.base.stats import Stats
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.mm.kmap_atomic import KM_USER0, KM_USER1, KMAP_ATOMIC
from sandbox.kernel.mm.page_mapper import (
    AtomicMapper,
    HighPageCounters,
    LocalAddress,
    PageMapper,
    Pool,
    TaskAddress,
    Unwaiting,
    WaitingOnce,
)
from sandbox.x86.paging import PAGE_SIZE


class Highmem:
    """Windows on frames; ``depth`` of every CPU must be 0 whenever a task goes back to ring 3."""

    __slots__ = (
        "_broken_zero", "_low", "_mappers", "_smp", "_stats", "_strays", "counters", "depth", "mapper", "source_mapper",
        "watched_pages", "windows",
    )  # fmt: skip

    def __init__(
        self,
        entries: KernelEntries,
        layout: Layout,
        smp: Smp,
        stats: Stats,
        policies: Mapping[str, str],
        broken: Breakage,
    ) -> None:
        self._smp, self._stats = smp, stats
        self._low, cpus = layout.direct_frames, len(smp.cpus)
        self._broken_zero = broken("no-zero")
        self.watched_pages = entries.tables.memory.watched_pages
        self.windows = KMAP_ATOMIC[policies["kmap_atomic"]](entries, cpus, broken)
        """What is open on which CPU, and what it came to."""
        self.depth = self.windows.depth
        self.counters = HighPageCounters()
        self._strays: tuple[PageMapper, PageMapper] = (
            AtomicMapper(self.windows, self._low, KM_USER0),
            AtomicMapper(self.windows, self._low, KM_USER1),
        )
        self._mappers: tuple[PageMapper, PageMapper] = self._strays
        self.mapper: PageMapper = self._strays[0]
        """Through whom pages of data are read and written (policy ``high_pages``; ``local`` and ``task`` only copy)."""
        self.source_mapper: PageMapper = self._strays[1]
        """Through whom the other page of such a copy is reached."""
        kind = {"local": LocalAddress, "task": TaskAddress}.get(policies["high_pages"])
        if kind is not None:
            self._mappers = (
                kind(entries, self._low, cpus, 0, self.counters, broken),
                kind(entries, self._low, cpus, 1, self.counters, broken),
            )

    def copy_by(self, pool: Pool, broken: bool) -> None:
        """From now on pages that are copied or cleared get their addresses there; ``broken``: whatever it takes."""
        source, target = self._strays
        self._mappers = pool, pool
        self.mapper, self.source_mapper = pool, pool
        if not broken:
            self._mappers = Unwaiting(pool, source, self.counters), Unwaiting(pool, target, self.counters)
            self.mapper = WaitingOnce(pool, target, self.counters)
            self.source_mapper = WaitingOnce(pool, source, self.counters)

    def is_low(self, pfn: int) -> bool:
        """The direct map covers the frame: no window is needed."""
        return pfn < self._low

    def kmap_atomic(self, cpu: KernelCpu, pfn: int, km_type: int = KM_USER0) -> int:
        """The kernel linear address of a frame: in the direct map for lowmem, else a window of this CPU.

        Raises KmapError.
        """
        if pfn < self._low:
            return PAGE_OFFSET + pfn * PAGE_SIZE
        return self.windows.open(cpu, (pfn,), km_type)

    def kunmap_atomic(self, cpu: KernelCpu, linear: int, km_type: int = KM_USER0) -> None:
        """Close a window; nothing for addresses of the direct map.  Raises KmapError."""
        if linear >= PAGE_OFFSET + self._low * PAGE_SIZE:
            self.windows.close(cpu, linear, km_type)

    def mappers(self, cpu: KernelCpu) -> tuple[PageMapper, PageMapper]:
        """What gives source and target of a copy their addresses; windows where the task's pair cannot."""
        first = self._mappers[0]
        if isinstance(first, TaskAddress) and not (first.available(cpu) and first.has_table(cpu)):
            self.counters.strays += 1
            return self._strays
        return self._mappers

    def clear_highpage(self, pfn: int, strict: bool = False) -> None:
        """Let the CPU clear a frame of lowmem or highmem.  ``strict``: by the policy or not at all (KmapError)."""
        cpu = self._smp.this_cpu
        if pfn < self._low:  # as kmap_atomic has it, without the two calls: this is what most faults do
            cpu.call(cpu.routines.clear_page, edi=PAGE_OFFSET + pfn * PAGE_SIZE)
            return
        mapper = (self._mappers if strict else self.mappers(cpu))[1]
        linear = mapper.map(cpu, pfn)
        try:
            cpu.call(cpu.routines.clear_page, edi=linear)
        finally:
            mapper.unmap(cpu, pfn, linear)

    def clear_user_highpage(self, pfn: int, way: KernelCpu | None = None) -> None:
        """The same for a frame that a program will see; of lowmem on a CPU's ``way`` out, where it has one."""
        if not self._broken_zero:
            if way is not None and pfn < self._low and not self._is_watched(pfn, way):
                routines = way.routines
                way.on_way_out(
                    routines.call_stub, CLEAR_PAGE_BLOCKS, 1, routines.clear_page, 0, PAGE_OFFSET + pfn * PAGE_SIZE
                )
            else:
                self.clear_highpage(pfn)
            self._stats.bytes_by_guest += PAGE_SIZE

    def _is_watched(self, pfn: int, way: KernelCpu) -> bool:
        """Somebody follows what is stored into the frame of lowmem, or pushed while it is filled: to the block."""
        watched = self.watched_pages
        return bool(watched) and (pfn in watched or way.kstack.frame in watched)

    def clear_tail(self, pfn: int, offset: int) -> None:
        """Let the CPU clear a frame from a byte on."""
        cpu = self._smp.this_cpu
        window = self.mapper.map(cpu, pfn)
        cpu.call(cpu.routines.clear_user, ecx=PAGE_SIZE - offset, edi=window + offset)
        self.mapper.unmap(cpu, pfn, window)

    def copy_highpage(self, cpu: KernelCpu, target: int, source: int, strict: bool = False) -> None:
        """Let a CPU copy one frame into another; ``strict`` as ``clear_highpage`` has it."""
        reader, writer = self._mappers if strict else self.mappers(cpu)
        linear = reader.map(cpu, source)
        try:  # the second address may be refused, or no frame be left for its table
            self._copy_page(cpu, writer, target, linear)
        finally:
            reader.unmap(cpu, source, linear)

    def copy_user_highpage(self, cpu: KernelCpu, target: int, linear: int) -> None:
        """Let a CPU copy what it sees at a linear address: only the target needs a kernel address (post 001)."""
        self._copy_page(cpu, self.mappers(cpu)[1], target, linear)

    def _copy_page(self, cpu: KernelCpu, writer: PageMapper, target: int, linear: int) -> None:
        window = writer.map(cpu, target)
        try:
            cpu.call(cpu.routines.copy_page, esi=linear, edi=window)
        finally:
            writer.unmap(cpu, target, window)
        self._stats.bytes_by_guest += PAGE_SIZE
