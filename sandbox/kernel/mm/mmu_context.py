"""Address spaces: made, loaded on CPUs, and given back by their last user."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.wait import Waiting
from sandbox.kernel.mm.entries import Entries, Scope
from sandbox.kernel.mm.filemap import PageCache
from sandbox.kernel.mm.mm import Mm, MmList
from sandbox.kernel.mm.mmap_lock import MmapLock
from sandbox.kernel.mm.msync import Writeback
from sandbox.kernel.mm.pgalloc import TableFrames


class MmuContext:
    """Which address space each CPU has, and who still uses it."""

    __slots__ = (
        "_broken_free", "_broken_lazy", "_entries", "_mmlist", "_pagecache", "_sched", "_smp", "_table_frames",
        "_tables", "_writeback", "farewell", "switched",
    )  # fmt: skip

    def __init__(
        self,
        entries: Entries,
        table_frames: TableFrames,
        smp: Smp,
        sched: Waiting,
        mmlist: MmList,
        pagecache: PageCache,
        writeback: Writeback,
        broken: Breakage,
    ) -> None:
        self._entries, self._tables, self._smp, self._mmlist = entries, entries.tables, smp, mmlist
        self._sched = sched
        self._table_frames, self._pagecache, self._writeback = table_frames, pagecache, writeback
        self.farewell: Callable[[Mm], None] | None = None
        """A debugger notes what was mapped."""
        self._broken_free, self._broken_lazy = broken("no-exit-free"), broken("kva-lazy-switch")
        self.switched: Callable[[], object] | None = None
        """Told when a CPU, or a task, is about to have another address space; a debugger's."""

    def mm_alloc(self) -> Mm:
        """An empty address space with the kernel's half.  Raises OutOfMemory."""
        pgd = self._tables.new_pgd(self._tables.kernel_pgd)
        mm = Mm(pgd, self._tables.cr3(pgd), lock=MmapLock(self._sched))
        self._mmlist.append(mm)
        return mm

    def switch_mm(self, cpu: KernelCpu, mm: Mm | None) -> None:
        """Load an address space on a CPU; None is the kernel's own.

        Whoever changes entries tells the CPUs in ``cpu_mask``: a CPU is in it before it can hold a translation, and
        until it can hold none.  A switch to what is loaded loads nothing, and counts as no flush.
        """
        before = cpu.active_mm
        if before is mm:
            if self._broken_lazy:
                self._entries.tlb.sequence.flushed(cpu.index, self._entries.tlb.sequence.sample())
            return
        if self.switched is not None:
            self.switched()
        bit = 1 << cpu.index
        if mm is not None:
            mm.cpu_mask |= bit
        cr3 = self._tables.cr3(self._tables.kernel_pgd) if mm is None else mm.cr3
        self._entries.tlb.empty(cpu, cpu.routines.load_cr3, cr3)
        cpu.cr3 = cr3
        cpu.active_mm = mm
        if before is not None:
            before.cpu_mask &= ~bit

    def mmput(self, cpu: KernelCpu, mm: Mm) -> None:
        """Drop a user of an address space; the last one frees its pages and tables."""
        mm.users -= 1
        if mm.users:
            return
        if self.farewell is not None:
            self.farewell(mm)
        self._writeback.release_dirty(cpu, mm)
        if cpu.active_mm is mm:
            self.switch_mm(cpu, None)
        self._leave_everywhere(mm)
        self._free_pages(cpu, mm)
        if mm.ldt:
            self._table_frames.free_block(mm.ldt, mm.ldt_order)
            mm.ldt = mm.ldt_entries = mm.ldt_order = 0
        mm.run_from(None)
        mm.vmas.clear()
        self._mmlist.remove(mm)
        self._pagecache.reap()

    def _leave_everywhere(self, mm: Mm) -> None:
        """CPUs that still have it loaded get the kernel's own directory."""
        others = [cpu for cpu in self._smp.cpus if cpu.active_mm is mm]
        if others:
            self._smp.call_on(others, lambda cpu: self._leave_mm(cpu, mm))

    def _leave_mm(self, cpu: KernelCpu, mm: Mm) -> None:
        """What the interrupted CPU does, unless it has gone on meanwhile."""
        if cpu.active_mm is mm:
            self.switch_mm(cpu, None)

    def _free_pages(self, cpu: KernelCpu, mm: Mm) -> None:
        """Clear what is mapped and let go of it: no CPU has the directory loaded any more, so nothing is flushed."""
        gather = self._entries.gather(cpu, mm, Scope.NOTHING)
        for linear, ptep, _ in self._tables.user_places(mm.pgd, 0, PAGE_OFFSET):
            gather.remove(linear, ptep, drop=not self._broken_free)
        gather.finish()
        self._tables.free_user_tables(mm.pgd)
