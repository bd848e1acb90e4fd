"""The kva pool on a booted machine with highmem: MM 12, post 001; what a CPU sees is read by that CPU."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.wait import WrongContext
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_USER, HIGHMEM
from sandbox.kernel.mm.page import VIRTUAL
from sandbox.kernel.mm.page_kva import BadKva, NoKva
from sandbox.x86.paging import PAGE_SIZE, G
from tests.kernel.mm.machines import boot, high, load, used

SMALL = "highmem=8m kva=8k"
"""Eight megabytes of highmem and two slots."""


def machine(paging: str = "pae", boot_line: str = SMALL, **config: object) -> Kernel:
    return boot(paging, boot=boot_line, **config)


def entry(kernel: Kernel, linear: int) -> int:
    return kernel.tables.lookup_pte(kernel.tables.kernel_pgd, linear)


def test_lowmem_costs_nothing(paging: str) -> None:
    kernel = machine(paging)
    pfn = kernel.page_alloc.alloc_page(GFP_USER)
    linear = kernel.kva.map(kernel.this_cpu, pfn)
    assert linear == PAGE_OFFSET + pfn * PAGE_SIZE
    kernel.kva.unmap(kernel.this_cpu, pfn, linear)
    assert not kernel.kva.slots and not kernel.kva.counters.misses


def test_a_page_keeps_its_address_without_users(paging: str) -> None:
    kernel = machine(paging)
    (pfn,) = high(kernel)
    linear = used(kernel, kernel.kva, pfn)
    assert kernel.layout.kva.start <= linear < kernel.layout.kva.end
    assert kernel.kva.page_kva(kernel.this_cpu, pfn) == linear and kernel.kva.page_of(linear) == pfn
    assert kernel.memmap.words[kernel.memmap.at(pfn) + VIRTUAL] == linear
    stores = kernel.kva.counters.pte_stores
    assert used(kernel, kernel.kva, pfn) == linear
    assert (kernel.kva.counters.hits, kernel.kva.counters.misses, kernel.kva.counters.pte_stores) == (1, 1, stores)
    assert not entry(kernel, linear) & G, "a CR3 load must drop it"


def test_the_slot_without_users_for_longest_is_taken(paging: str) -> None:
    """LRU, as the post has it: a, b, a again, then c takes b's."""
    kernel = machine(paging)
    first, second, third = high(kernel, 3)
    addresses = [used(kernel, kernel.kva, pfn) for pfn in (first, second)]
    used(kernel, kernel.kva, first)
    assert used(kernel, kernel.kva, third) == addresses[1]
    assert kernel.kva.page_kva(kernel.this_cpu, second) == 0
    assert kernel.memmap.words[kernel.memmap.at(second) + VIRTUAL] == 0
    assert kernel.kva.counters.recycles == 1


def test_a_slot_with_users_stays(paging: str) -> None:
    kernel = machine(paging)
    first, second, third = high(kernel, 3)
    linear = kernel.kva.map(kernel.this_cpu, first)
    for pfn in (second, third, second):
        assert used(kernel, kernel.kva, pfn) != linear
    assert load(kernel, linear) == first


def test_a_page_that_is_locked_for_io_stays(paging: str) -> None:
    kernel = machine(paging)
    first, second, third = high(kernel, 3)
    linear = used(kernel, kernel.kva, first)
    kernel.locks.lock_page(first)
    used(kernel, kernel.kva, second)
    assert used(kernel, kernel.kva, third) != linear
    assert kernel.kva.counters.refused == 1
    kernel.locks.unlock_page(first)
    used(kernel, kernel.kva, second)
    assert used(kernel, kernel.kva, third) == linear or used(kernel, kernel.kva, second) == linear


def test_all_in_use(paging: str) -> None:
    """No task is there that could sleep; in an interrupt none may."""
    kernel = machine(paging)
    frames = high(kernel, 3)
    held = [(pfn, kernel.kva.map(kernel.this_cpu, pfn)) for pfn in frames[:2]]
    with pytest.raises(NoKva, match="all 2 slots"):
        kernel.kva.map(kernel.this_cpu, frames[2])
    kernel.this_cpu.in_interrupt = True
    with pytest.raises(WrongContext, match="nothing may sleep"):
        kernel.kva.map(kernel.this_cpu, frames[2])
    kernel.kva.unmap(kernel.this_cpu, *held[0])
    used(kernel, kernel.kva, frames[2])


def test_a_freed_page_has_no_address(paging: str) -> None:
    kernel = machine(paging)
    first, second = high(kernel, 2)
    linear = used(kernel, kernel.kva, first)
    kernel.page_alloc.put_page(first)
    assert entry(kernel, linear) == 0 and kernel.kva.page_of(linear) is None
    assert kernel.memmap.words[kernel.memmap.at(first) + VIRTUAL] == 0
    assert used(kernel, kernel.kva, second) == linear
    assert kernel.kva.counters.given_back == 1 and kernel.kva.counters.recycles == 0


def test_a_freed_block_has_none_either() -> None:
    kernel = machine()
    block = kernel.page_alloc.alloc_pages(GFP_USER | HIGHMEM, 1)
    for pfn in (block, block + 1):
        kernel.kva.unmap(kernel.this_cpu, pfn, kernel.kva.map(kernel.this_cpu, pfn))
    kernel.page_alloc.free_pages(block, 1)
    assert not kernel.kva.mapped


def test_a_page_with_users_is_not_freed() -> None:
    kernel = machine()
    (pfn,) = high(kernel)
    kernel.kva.map(kernel.this_cpu, pfn)
    with pytest.raises(BadKva, match="freed while its kva"):
        kernel.page_alloc.put_page(pfn)


def test_a_page_under_io_is_not_freed() -> None:
    """__free_pages_ok of 2.4 says BUG() of a locked page."""
    kernel = machine()
    (pfn,) = high(kernel)
    used(kernel, kernel.kva, pfn)
    kernel.locks.lock_page(pfn)
    with pytest.raises(BadKva, match="locked for IO"):
        kernel.page_alloc.put_page(pfn)
    kernel.locks.unlock_page(pfn)
    kernel.page_alloc.put_page(pfn)


def test_what_was_not_taken_is_not_given_back() -> None:
    kernel = machine()
    first, second = high(kernel, 2)
    linear = used(kernel, kernel.kva, first)
    with pytest.raises(BadKva, match="has no user"):
        kernel.kva.unmap(kernel.this_cpu, first, linear)
    with pytest.raises(BadKva, match="which it is not"):
        kernel.kva.unmap(kernel.this_cpu, second, linear)


# -- other CPUs ------------------------------------------------------------------------------------------------------


def recycled(kernel: Kernel) -> tuple[int, int]:
    """Both CPUs have used an address, and CPU 0 gives it another page: the address and the page."""
    first, second, third = high(kernel, 3)
    for cpu in (0, 1):
        linear = used(kernel, kernel.kva, first, cpu)
    used(kernel, kernel.kva, second)
    assert used(kernel, kernel.kva, third) == linear
    return linear, third


def test_a_recycle_tells_nobody_until_another_cpu_comes(paging: str) -> None:
    kernel = machine(paging, cpus=2)
    linear, pfn = recycled(kernel)
    assert (kernel.cpus[1].ipis, kernel.kva.counters.local_invlpg) == (0, 1), "the CPU that recycled, and only that"
    assert used(kernel, kernel.kva, pfn, 1) == linear
    assert (kernel.cpus[1].ipis, kernel.kva.counters.local_invlpg) == (0, 2)


def test_a_load_of_cr3_in_between_saves_the_invalidation(paging: str) -> None:
    """It is the kernel's own directory again: what counts is that CR3 was loaded."""
    kernel = machine(paging, cpus=2)
    linear, pfn = recycled(kernel)
    kernel.mmu.switch_mm(kernel.cpus[1], kernel.mmu.mm_alloc())
    before = kernel.kva.counters.local_invlpg
    assert used(kernel, kernel.kva, pfn, 1) == linear
    assert (kernel.kva.counters.local_invlpg, kernel.kva.counters.avoided) == (before, 1)


def test_a_switch_that_loads_no_cr3_does_not(paging: str) -> None:
    kernel = machine(paging, cpus=2)
    mm = kernel.mmu.mm_alloc()
    kernel.mmu.switch_mm(kernel.cpus[1], mm)
    _, pfn = recycled(kernel)
    before = kernel.kva.counters.local_invlpg
    kernel.mmu.switch_mm(kernel.cpus[1], mm)
    used(kernel, kernel.kva, pfn, 1)
    assert kernel.kva.counters.local_invlpg == before + 1


def test_a_lazy_switch_that_counts_leaves_the_cpu_stale(paging: str) -> None:
    """The switch kva-lazy-switch: CPU 1 reads the page that was there before."""
    kernel = machine(paging, cpus=2, switches=frozenset({"kva-lazy-switch"}))
    linear, pfn = recycled(kernel)
    kernel.mmu.switch_mm(kernel.cpus[1], None)
    kernel.kva.map(kernel.cpus[1], pfn)
    assert load(kernel, linear, 1) not in (0, pfn)


def test_everywhere_interrupts_the_others_at_each_recycle(paging: str) -> None:
    kernel = machine(paging, cpus=3, policies={"kva_flush": "everywhere"})
    linear, pfn = recycled(kernel)
    counters = kernel.kva.counters
    assert [cpu.ipis for cpu in kernel.cpus] == [0, 1, 1]
    assert (counters.global_flushes, counters.ipis, counters.local_invlpg) == (1, 2, 0)
    assert used(kernel, kernel.kva, pfn, 1) == linear and not counters.local_invlpg


def test_use_invalidates_each_time(paging: str) -> None:
    kernel = machine(paging, cpus=2, policies={"kva_flush": "use"})
    _, pfn = recycled(kernel)
    uses = kernel.kva.counters.local_invlpg
    assert uses == 4 and kernel.cpus[1].ipis == 0
    used(kernel, kernel.kva, pfn, 1)
    used(kernel, kernel.kva, pfn, 1)
    assert kernel.kva.counters.local_invlpg == uses + 2


def test_an_address_for_all_tells_only_those_who_are_behind(paging: str) -> None:
    """Post 001: only if several CPUs need the address without a context switch in between."""
    kernel = machine(paging, cpus=3)
    linear, pfn = recycled(kernel)
    kernel.mmu.switch_mm(kernel.cpus[2], kernel.mmu.mm_alloc())
    assert kernel.kva.kva_get(kernel.cpus[0], pfn) == linear
    assert [cpu.ipis for cpu in kernel.cpus] == [0, 1, 0]
    assert [load(kernel, linear, cpu) for cpu in range(3)] == [pfn] * 3
    assert (kernel.kva.counters.conflicts, kernel.kva.counters.ipis) == (1, 1)
    kernel.kva.unmap(kernel.cpus[0], pfn, linear)
    kernel.kva.kva_get(kernel.cpus[1], pfn)
    assert kernel.kva.counters.ipis == 1, "they are current now"


def test_tables_are_made_as_slots_are_used_and_every_directory_knows_them(paging: str) -> None:
    kernel = machine(paging, "highmem=8m", policies={"kernel_pmd": "process"})
    mm = kernel.mmu.mm_alloc()
    held = kernel.table_frames.held
    kernel.mmu.switch_mm(kernel.this_cpu, mm)
    (pfn,) = high(kernel)
    used(kernel, kernel.kva, pfn)
    assert kernel.table_frames.held == held + 1 and kernel.kva.counters.tables == 1
    per_table = kernel.tables.large_page // PAGE_SIZE
    for other in high(kernel, per_table - 1):
        used(kernel, kernel.kva, other)
    assert kernel.kva.counters.tables == 1
    (pfn,) = high(kernel)
    if kernel.kva.capacity > per_table:
        used(kernel, kernel.kva, pfn)
        assert kernel.kva.counters.tables == 2
