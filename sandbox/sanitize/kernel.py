"""The sanitizer on a machine with the mini-kernel: where the kernel gives frames away, enters ring 3 and flushes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from sandbox.engine.cpu import Cpu
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.inspect.owner import holders
from sandbox.kernel.mm.mm import active_mm
from sandbox.machine.machine import Machine
from sandbox.sanitize.deferrals import AtomicSlots, Deferral, KvaPool, Pkmap
from sandbox.sanitize.stores import TableStores
from sandbox.sanitize.tlb import TlbSanitizer
from sandbox.x86.paging import LEGACY, PAE, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from sandbox.kernel.main import System

FEW = 4
"""Entries that changed between two runs of a CPU."""


class KernelSanitizer:
    """Made with the machine, before the kernel asks for its view of tables; ``connect`` once the kernel is there.

    Raises NoFeed and UnknownEngine.
    """

    def __init__(self, machine: Machine, paging: str) -> None:
        self._machine = machine
        self._system: System | None = None
        self._physical = machine.memory.physical_of
        self._deferrals: Sequence[Deferral] = ()
        self.stores = TableStores(machine.memory, (PAE if paging == "pae" else LEGACY).entry_size)
        self.tlb = TlbSanitizer(machine.cpus, machine.memory, self, self.stores.take)
        self.stores.look = self.tlb.flushed
        for cpu in machine.cpus:
            cpu.before_entries(partial(self._enters, cpu), self.stores)

    def connect(self, system: System) -> None:
        """From now on frames are watched."""
        self._system = system
        self._deferrals = (*self._deferrals, KvaPool(system.kernel.kva), Pkmap(system.kernel.kmap))
        system.kernel.page_alloc.watch = self
        if system.kernel.config.policies["kmap_atomic"] == "slots":
            self._deferrals = (*self._deferrals, AtomicSlots())
        self._dma_done, self._machine.board.dma_done = self._machine.board.dma_done, self._dma

    def _enters(self, cpu: Cpu) -> None:
        """While its flush is going on a CPU has nothing to tell, and what is stale before it seldom is behind it.

        What was stored may be done with already, which a look at a few records tells; with many entries, reading the
        feed is less work.
        """
        if self._system is not None and cpu.context.cpl != 3:
            kernel = self._system.kernel
            mm = active_mm(kernel.cpus[cpu.index])
            if kernel.tlb.flights or (mm is not None and mm.flights):
                return
        if not self._done_with():
            self.stores.alert = self.tlb.enters(cpu)

    def _done_with(self) -> bool:
        """Nothing was stored that any CPU has kept an old translation by, as a look tells; False says nothing."""
        stores = self.stores
        if len(stores.places) > FEW or not self.tlb.forgotten(map(self._physical, stores.places)):
            return False
        stores.places.clear()
        stores.alert = False
        return True

    # -- what happens to frames (framewatch.FrameWatch)

    def granted(self, pfn: int, order: int) -> None:
        """Frames were given away."""
        if self.stores.alert and not self._done_with():
            self.stores.alert = self.tlb.frames("reused", pfn, 1 << order)

    def released(self, pfn: int, order: int) -> None:
        """Nobody has these frames any more."""
        self.tlb.feed.drain()
        self.tlb.table_released(pfn)
        if self.stores.alert:
            self.stores.alert = self.tlb.frames("released", pfn, 1 << order)

    def _dma(self, physical: int, size: int) -> None:
        self._dma_done(physical, size)
        if self.stores.alert:
            first = physical >> PAGE_SHIFT
            self.stores.alert = self.tlb.frames("dma", first, (physical + size + PAGE_SIZE - 1 >> PAGE_SHIFT) - first)

    # -- what the sanitizer asks (tlb.World)

    def in_flight(self, cpu: int, linear: int) -> bool:
        if self._system is None:
            return False
        if linear >= PAGE_OFFSET:
            return self._system.kernel.tlb.flights > 0
        mm = active_mm(self._system.kernel.cpus[cpu])
        return mm is not None and mm.flights > 0

    def may_stay(self, cpu: int, linear: int) -> bool:
        return any(each.covers(cpu, linear) for each in self._deferrals)

    def task(self, cpu: int) -> int:
        current = None if self._system is None else self._system.kernel.cpus[cpu].current
        return 0 if current is None else current.pid

    def name(self, cpu: int, linear: int) -> str:
        system = self._system
        if system is None:
            return ""
        if linear >= PAGE_OFFSET:
            return f" <{system.symbols.kernel_symbol(linear)}>"
        task = system.kernel.tasks.get(self.task(cpu))
        return "" if task is None else system.symbols.user_symbol(task, linear)

    def owner(self, frame: int) -> str:
        system = self._system
        if system is None or not system.kernel.memmap.has_page(frame):
            return "not the allocator's"
        return holders(system.kernel, frame)[0] if system.kernel.memmap.count(frame) else "free"

    def now(self) -> int:
        return 0 if self._system is None else self._system.kernel.clock.now
