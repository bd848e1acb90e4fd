"""How the CPUs learn that an address of the kva pool has another page behind it: three ways (post 001, MM 12).

``sequence``: not at all, until one is about to use the address and has not flushed since; then it executes INVLPG.
``everywhere``: at once, all of them, before the address is used again, so that nobody asks when it is.  ``use``:
INVLPG before each use, of an address for all by all of them.
"""

from __future__ import annotations

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.mm.kva_seq import Mapped
from sandbox.kernel.mm.tlb import Tlb
from sandbox.records import dataclass


@dataclass(slots=True)
class KvaCounters:
    """What the pool has done.  A flush counts once, the CPUs that it interrupts each under ``ipis``."""

    hits: int = 0
    misses: int = 0
    recycles: int = 0
    """Misses that took the slot of another page."""
    given_back: int = 0
    """Slots whose page was freed."""
    refused: int = 0
    """Slots without users that were passed over because their page was locked for IO."""
    pte_stores: int = 0
    local_invlpg: int = 0
    avoided: int = 0
    """First uses of a changed address on a CPU that had loaded CR3 since: no invalidation at all."""
    conflicts: int = 0
    """Shared uses for which other CPUs had to be interrupted: no CR3 load of theirs had come in between."""
    global_flushes: int = 0
    ipis: int = 0
    sleeps: int = 0
    tables: int = 0
    """Page tables of 4 KB that the pool has needed."""


class KvaFlush:
    """One of the three, by the policy ``kva_flush``; all of them keep the sequence's books."""

    def __init__(self, tlb: Tlb, smp: Smp, policy: str) -> None:
        self._tlb, self._smp, self._sequence = tlb, smp, tlb.sequence
        self._everywhere, self._each_use = policy == "everywhere", policy == "use"
        self.counters = KvaCounters()

    def taken(self, cpu: KernelCpu, slot: Mapped) -> None:
        """An address is about to have another page: nobody has used it since its entry went."""
        if self._everywhere and slot.generation:
            before = self._tlb.counters.interrupts
            self.counters.global_flushes += 1
            self._tlb.flush_tlb_all(cpu)
            self.counters.ipis += self._tlb.counters.interrupts - before

    def used_here(self, cpu: KernelCpu, linear: int, slot: Mapped) -> None:
        """A CPU is about to use an address, and no other will by this call."""
        if self._everywhere or (slot.cpus >> cpu.index & 1 and not self._each_use):
            return
        if not self._each_use and self._sequence.flushed_since(cpu.index, slot):
            self.counters.avoided += bool(slot.generation)
        else:
            self.counters.local_invlpg += 1
            self._tlb.flush_tlb_one(cpu, linear)
        slot.cpus |= 1 << cpu.index

    def used_anywhere(self, cpu: KernelCpu, linear: int, slot: Mapped) -> None:
        """The address goes to where it may be used on every CPU, unchecked: those that are not current are told."""
        self.used_here(cpu, linear, slot)
        if self._everywhere:
            return
        others = [other for other in self._smp.cpus if other is not cpu and not slot.cpus >> other.index & 1]
        behind = [other for other in others if self._each_use or not self._sequence.current(other.index, slot)]
        if slot.generation:
            self.counters.avoided += len(others) - len(behind)
        if behind:
            self.counters.conflicts += 1
            self.counters.ipis += len(behind)
            self._tlb.flush_kernel_page(behind, linear)
        for other in others:
            slot.cpus |= 1 << other.index
