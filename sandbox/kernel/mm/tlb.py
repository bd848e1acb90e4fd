"""Who must forget a translation, and when (MM 18).

Every change of a present entry is followed by one of these; they run ``invlpg`` or a CR3 load on the emulated CPUs.
Not present to present needs none.  A CPU holds user translations of an mm only while that mm's CR3 is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.arch.vmlinux import Routines
from sandbox.kernel.base.events import TlbFlush
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.mm.kva_seq import FlushSequence
from sandbox.kernel.mm.mm import Mm
from sandbox.machine.events import EventBus, InterProcessorInterrupt
from sandbox.records import dataclass

RANGE_CEILING = 32
"""Above so many pages the whole (non-global) TLB goes instead of one page at a time."""


@dataclass(slots=True)
class TlbCounters:
    """Invalidations, by kind."""

    pages: int = 0
    spaces: int = 0
    everything: int = 0
    interrupts: int = 0


class Tlb:
    """Invalidation on the CPU that asks and, by inter-processor interrupt, on the others that must."""

    def __init__(self, smp: Smp, routines: Routines, bus: EventBus, broken: Breakage) -> None:
        self._smp = smp
        smp.sent = self._sent
        self.routines = routines
        self.bus = bus
        self.counters = TlbCounters()
        self.sequence = FlushSequence(len(smp.cpus), broken_wrap=broken("kva-no-wrap"))
        """What each CPU has flushed last."""
        self.flights = 0
        """Flushes of the kernel half that have begun and not ended; those of programs are counted in their ``Mm``."""
        self._here = not broken("no-flush")
        self._there = self._here and not broken("no-shootdown")

    def flush_tlb_page(self, cpu: KernelCpu, mm: Mm, linear: int) -> None:
        """A user entry was cleared, reduced or moved to another frame."""
        self.counters.pages += 1
        self._on_users(cpu, mm, self.routines.invlpg, linear)
        if self.bus.active and self.bus.wants(TlbFlush):
            self.bus.emit(TlbFlush(cpu.vcpu.clock, cpu.index, "page", linear))

    def _sent(self, target: int) -> None:
        if self.bus.active and self.bus.wants(InterProcessorInterrupt):
            cpu = self._smp.this_cpu
            self.bus.emit(InterProcessorInterrupt(cpu.vcpu.clock, cpu.index, target, "call", 0))

    def flush_tlb_mm(self, cpu: KernelCpu, mm: Mm) -> None:
        """Many user entries of one address space changed."""
        self.counters.spaces += 1
        self._on_users(cpu, mm, self.routines.flush_tlb, 0)
        if self.bus.active and self.bus.wants(TlbFlush):
            self.bus.emit(TlbFlush(cpu.vcpu.clock, cpu.index, "space", 0))

    def flush_tlb_pages(self, cpu: KernelCpu, mm: Mm, pages: Sequence[int]) -> None:
        """Several user entries changed: one at a time while that is cheaper."""
        if len(pages) > RANGE_CEILING:
            self.flush_tlb_mm(cpu, mm)
        else:
            for linear in pages:
                self.flush_tlb_page(cpu, mm, linear)

    def flush_tlb_all(self, cpu: KernelCpu) -> None:
        """Kernel mappings were removed or changed: everything, global entries too, on every CPU."""
        self.counters.everything += 1
        self.flights += 1
        try:
            if self._here:
                self.empty(cpu, self.routines.flush_tlb_all)
            others = [other for other in self._smp.cpus if other is not cpu]
            self._tell(others, self._handler(self.routines.flush_tlb_all))
        finally:
            self.flights -= 1
        if self.bus.active and self.bus.wants(TlbFlush):
            self.bus.emit(TlbFlush(cpu.vcpu.clock, cpu.index, "all", 0))

    def reload_all(self, cpu: KernelCpu) -> None:
        """Every CPU loads CR3, which leaves global entries: what 2.3.27 took for ``flush_tlb_all``."""
        self.empty(cpu, self.routines.flush_tlb)
        others = [other for other in self._smp.cpus if other is not cpu]
        self._tell(others, self._handler(self.routines.flush_tlb))

    def flush_tlb_one(self, cpu: KernelCpu, linear: int) -> None:
        """One kernel address on this CPU only: atomic windows and fixed slots."""
        if self._here:
            cpu.call(self.routines.invlpg, eax=linear)

    def flush_kernel_page(self, others: Sequence[KernelCpu], linear: int) -> None:
        """One kernel address on other CPUs, which have no other page behind it meanwhile."""
        self.flights += 1
        try:
            self._tell(others, self._handler(self.routines.invlpg, linear))
        finally:
            self.flights -= 1

    def empty(self, cpu: KernelCpu, routine: int, eax: int = 0) -> None:
        """Run a routine that loads CR3: nothing is left on the CPU of what was present, but for global entries."""
        began = self.sequence.sample()
        cpu.call(routine, eax=eax)
        self.sequence.flushed(cpu.index, began)

    def _on_users(self, cpu: KernelCpu, mm: Mm, routine: int, argument: int) -> None:
        mask, mine = mm.cpu_mask, 1 << cpu.index
        mm.flights += 1
        try:
            if mask & mine and self._here:
                self._execute(cpu, routine, argument)
            if mask & ~mine:
                others = [other for other in self._smp.cpus if other is not cpu and mask >> other.index & 1]
                self._tell(others, self._handler(routine, argument))
        finally:
            mm.flights -= 1

    def _tell(self, others: Sequence[KernelCpu], handler: Callable[[KernelCpu], None]) -> None:
        if self._there and others:
            self.counters.interrupts += len(others)
            self._smp.call_on(others, handler)

    def _execute(self, cpu: KernelCpu, routine: int, argument: int = 0) -> None:
        """What flushes the CPU that asks, and what one does that is told."""
        if routine == self.routines.invlpg:
            cpu.call(routine, eax=argument)
        else:
            self.empty(cpu, routine, argument)

    def _handler(self, routine: int, argument: int = 0) -> Callable[[KernelCpu], None]:
        return lambda cpu: self._execute(cpu, routine, argument)
