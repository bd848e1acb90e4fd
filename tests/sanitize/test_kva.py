"""The kva pool under the shadow TLB: a history of uses on several CPUs, with MM 12's invariants after each step.

Who may be stale is the shadow's to say (SDM 3A, 4.10), and what a CPU sees is read by that CPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sandbox.engine import stubs
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.page import VIRTUAL
from sandbox.runner.session import MachineSession
from sandbox.x86.paging import P

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
SLOTS, FRAMES, STEPS = 2, 6, 300


class History:
    """Uses, holds, frees and switches of address spaces at random; ``wrong`` counts what a CPU saw of another page."""

    def __init__(self, kernel: Kernel, seed: int) -> None:
        self.kernel, self.random = kernel, random.Random(seed)
        self.frames = [self.fresh() for _ in range(FRAMES)]
        self.mms = [kernel.mmu.mm_alloc() for _ in range(2)]
        self.held: dict[int, tuple[KernelCpu, int]] = {}
        self.wrong = 0

    def fresh(self) -> int:
        """A frame whose first word is its number."""
        kernel = self.kernel
        pfn, cpu = kernel.page_alloc.alloc_page(GFP_HIGHUSER), kernel.this_cpu
        window = kernel.highmem.kmap_atomic(cpu, pfn)
        cpu.store(window, pfn.to_bytes(4, "little") + bytes(124))
        kernel.highmem.kunmap_atomic(cpu, window)
        return pfn

    def go(self) -> History:
        steps: list[Callable[[KernelCpu], None]] = [self.use, self.use, self.use, self.hold, self.free, self.switch]
        for _ in range(STEPS):
            self.random.choice(steps)(self.random.choice(self.kernel.cpus))
            self.check()
        return self

    def use(self, cpu: KernelCpu) -> None:
        pfn = self.random.choice(self.frames)
        linear = self.kernel.kva.map(cpu, pfn)
        self.look(cpu, pfn, linear)
        self.kernel.kva.unmap(cpu, pfn, linear)

    def hold(self, cpu: KernelCpu) -> None:
        """One address at most is held, for every CPU, until the next such step."""
        for pfn, (owner, linear) in self.held.items():
            self.look(cpu, pfn, linear)
            self.kernel.kva.unmap(owner, pfn, linear)
        held = bool(self.held)
        self.held.clear()
        if not held:
            pfn = self.random.choice(self.frames)
            self.held[pfn] = cpu, self.kernel.kva.kva_get(cpu, pfn)

    def free(self, cpu: KernelCpu) -> None:
        pfn = self.random.choice(self.frames)
        if pfn not in self.held:
            self.frames.remove(pfn)
            self.kernel.page_alloc.put_page(pfn)
            self.frames.append(self.fresh())

    def switch(self, cpu: KernelCpu) -> None:
        self.kernel.mmu.switch_mm(cpu, self.random.choice(self.mms))

    def look(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        self.wrong += cpu.call_c(self.kernel.image.symbols["readl"], linear) != pfn

    def check(self) -> None:
        """Bijective, by the tables and by struct page; who is held is mapped."""
        kernel, kva = self.kernel, self.kernel.kva
        tables, words = kernel.tables, kernel.memmap.words
        entries = {slot.linear: tables.lookup_pte(tables.kernel_pgd, slot.linear) for slot in kva.slots}
        behind = {linear: tables.pte_pfn(entry) for linear, entry in entries.items() if entry & P}
        assert behind == {slot.linear: pfn for pfn, slot in kva.mapped.items()}
        assert len(set(behind.values())) == len(behind) <= SLOTS
        assert all(words[kernel.memmap.at(pfn) + VIRTUAL] == linear for linear, pfn in behind.items())
        assert all(behind[linear] == pfn for pfn, (_, linear) in self.held.items())
        counters, others = kva.counters, len(kernel.cpus) - 1
        if kernel.config.policies["kva_flush"] != "use":  # which interrupts at each use of an address for all
            assert counters.ipis <= others * (counters.recycles + counters.given_back)


def history(policy: str, paging: str, cpus: int, seed: int, *switches: str) -> tuple[History, set[str]]:
    """The history, and the kinds of what the sanitizer told."""
    config = KernelConfig(
        ram=16 << 20, boot="highmem=8m kva=8k", paging=paging, cpus=cpus, sanitize=frozenset({"tlb"}),
        policies={"kva_flush": policy}, switches=frozenset(switches),
    )  # fmt: skip
    with MachineSession.idle(config) as session:
        made = History(session.kernel, seed).go()
        return made, {each.kind for each in session.reports()}


@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("policy", ["sequence", "everywhere", "use"])
def test_nobody_is_stale(policy: str, paging: str, cpus: int) -> None:
    made, told = history(policy, paging, cpus, seed=cpus)
    assert not told and not made.wrong
    assert made.kernel.kva.counters.recycles and made.kernel.kva.counters.given_back


@pytest.mark.parametrize(
    ("policy", "switch"),
    [("sequence", "kva-lazy-switch"), ("sequence", "no-flush"), ("use", "no-flush"), ("everywhere", "no-shootdown")],
)
def test_a_stale_address_is_told(policy: str, switch: str, paging: str) -> None:
    made, told = history(policy, paging, 2, 1, switch)
    assert "use" in told and made.wrong


def test_interrupts_of_the_three_ways(paging: str) -> None:
    """One history: a flush of all at each remap needs more interrupts than telling those who are behind (post 001)."""
    counters = {each: history(each, paging, 4, 3)[0].kernel.kva.counters for each in ("sequence", "everywhere", "use")}
    assert len({each.misses for each in counters.values()}) == 1
    assert counters["sequence"].ipis < counters["everywhere"].ipis
    assert counters["sequence"].ipis <= counters["use"].ipis
    assert counters["sequence"].local_invlpg < counters["use"].local_invlpg
    assert counters["sequence"].global_flushes == counters["use"].global_flushes == 0
