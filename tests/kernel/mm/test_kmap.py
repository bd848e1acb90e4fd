"""kmap on a booted machine with highmem: mm/highmem.c of 2.4 and 2.6 (MM 13); what a CPU sees is read by that CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import pytest

from sandbox.kernel.base.layout import PAGE_OFFSET, PKMAP_BASE
from sandbox.kernel.base.wait import WaitQueue, WrongContext
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_USER
from sandbox.kernel.mm.kmap import BadKunmap, Kmap, KmapDeadlock, NoPkmap
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.paging import PAGE_SIZE, G
from tests.kernel.mm.machines import boot, high, load, used

SMALL = "highmem=8m pkmap=2"
"""Eight megabytes of highmem and two slots."""


def machine(paging: str = "pae", boot_line: str = SMALL, **config: object) -> Kernel:
    return boot(paging, boot=boot_line, **config)


def present(kernel: Kernel, slot: int) -> bool:
    linear = PKMAP_BASE + slot * PAGE_SIZE
    return bool(kernel.tables.lookup_pte(kernel.tables.kernel_pgd, linear) & 1)


@dataclass
class Task:
    pid: int
    pending: int = 0


class Tasks:
    """A scheduler with tasks by number; whoever sleeps lets the next of ``others`` go on."""

    def __init__(self) -> None:
        self.current: Task | None = Task(1)
        self.others: list[Callable[[], object]] = []
        self.woken = 0

    def schedule(self, queues: Iterable[WaitQueue], what: str, until: int | None = None) -> None:
        before = self.current
        for queue in queues:
            queue.tasks.append(before)
        self.others.pop(0)()
        self.current = before
        for queue in queues:
            queue.tasks.clear()

    def wake_up(self, queue: WaitQueue) -> None:
        self.woken += 1
        queue.tasks.clear()

    def in_atomic(self) -> bool:
        return False

    def check_sleep(self, what: str) -> None:
        """No window is open."""

    def by(self, pid: int, step: Callable[[], object]) -> object:
        before, self.current = self.current, Task(pid)
        try:
            return step()
        finally:
            self.current = before


def with_tasks(kernel: Kernel) -> tuple[Kmap, Tasks]:
    sched = Tasks()
    kernel.kmap._sched = sched  # type: ignore[assignment]
    return kernel.kmap, sched


def test_lowmem_costs_nothing(paging: str) -> None:
    kernel = machine(paging)
    pfn = kernel.page_alloc.alloc_page(GFP_USER)
    assert kernel.kmap.map(kernel.this_cpu, pfn) == PAGE_OFFSET + pfn * PAGE_SIZE
    kernel.kmap.unmap(kernel.this_cpu, pfn, PAGE_OFFSET + pfn * PAGE_SIZE)
    assert kernel.kmap.counts == [0, 0] and not kernel.kmap.counters.misses


def test_a_table_of_slots() -> None:
    """LAST_PKMAP: 1024, under PAE 512 (asm-i386/highmem.h of 2.4)."""
    assert machine("legacy", "highmem=8m").kmap.capacity == 1024
    assert machine("pae", "highmem=8m").kmap.capacity == 512


def test_no_slot_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="kmap needs a slot"):
        machine("pae", "pkmap=0")


def test_counts_and_addresses(paging: str) -> None:
    """kmap sets 1 and adds 1; kunmap leaves 1, and the entry; a second kmap finds the same address."""
    kernel = machine(paging)
    (pfn,) = high(kernel)
    linear = kernel.kmap.map(kernel.this_cpu, pfn)
    slot = (linear - PKMAP_BASE) // PAGE_SIZE
    assert kernel.kmap.counts[slot] == 2 and load(kernel, linear) == pfn
    assert kernel.kmap.map(kernel.this_cpu, pfn) == linear and kernel.kmap.counts[slot] == 3
    for _ in range(2):
        kernel.kmap.unmap(kernel.this_cpu, pfn, linear)
    assert kernel.kmap.counts[slot] == 1 and present(kernel, slot)
    assert kernel.kmap.page_address(pfn) == linear and kernel.kmap.kmap_to_page(linear) == pfn
    assert (
        used(kernel, kernel.kmap, pfn) == linear and kernel.kmap.counters.misses == 1 and kernel.kmap.counters.hits == 2
    )


def test_one_global_flush_a_lap(paging: str) -> None:
    """Four slots: twelve pages after one another need two laps behind the first, and no flush but theirs."""
    kernel = machine(paging, "highmem=8m pkmap=4", cpus=2)
    before = kernel.tlb.counters.everything
    for number, pfn in enumerate(high(kernel, 12)):
        used(kernel, kernel.kmap, pfn, number % 2)
    assert kernel.tlb.counters.everything - before == kernel.kmap.counters.global_flushes == 3
    assert kernel.kmap.counters.pte_stores == 12 + kernel.kmap.counters.recycles


def test_a_lap_without_a_change_flushes_nothing(paging: str) -> None:
    """2.6: need_flush."""
    kernel = machine(paging)
    kernel.kmap.flush_all_zero_pkmaps(kernel.this_cpu)
    assert kernel.kmap.counters.global_flushes == 0


def test_every_cpu_sees_the_new_page(paging: str) -> None:
    kernel = machine(paging, cpus=2)
    for pfn in high(kernel, 7):
        linear = kernel.kmap.map(kernel.cpus[0], pfn)
        assert [load(kernel, linear, cpu) for cpu in (0, 1)] == [pfn, pfn]
        kernel.kmap.unmap(kernel.cpus[0], pfn, linear)


def stale(kernel: Kernel) -> bool:
    """Pages one after another through the slots: a CPU has seen one that was there before."""
    for pfn in high(kernel, 5):
        linear = kernel.kmap.map(kernel.cpus[0], pfn)
        if [load(kernel, linear, cpu) for cpu in (0, 1)] != [pfn, pfn]:
            return True
        kernel.kmap.unmap(kernel.cpus[0], pfn, linear)
    return False


def test_without_the_flush_a_cpu_reads_another_page(paging: str) -> None:
    assert not stale(machine(paging, cpus=2))
    assert stale(machine(paging, cpus=2, switches=frozenset({"no-pkmap-flush"})))


def test_global_entries_and_a_load_of_cr3(paging: str) -> None:
    """2.3.27's mistake (SDM 3A 4.10.2.4): only what is done is seen here, as the engine keeps no global entry."""
    kernel = machine(paging, cpus=2, switches=frozenset({"pkmap-global"}))
    before = kernel.tlb.counters.everything
    assert not stale(kernel)
    assert kernel.tables.lookup_pte(kernel.tables.kernel_pgd, PKMAP_BASE) & G
    assert kernel.tlb.counters.everything == before and kernel.kmap.counters.global_flushes


def test_a_slot_with_users_stays(paging: str) -> None:
    kernel = machine(paging)
    first, *others = high(kernel, 5)
    linear = kernel.kmap.map(kernel.this_cpu, first)
    for pfn in others:
        assert used(kernel, kernel.kmap, pfn) != linear
    assert load(kernel, linear) == first


def test_not_in_an_interrupt(paging: str) -> None:
    """Neither with a slot free nor for lowmem: 2.4 BUGs on in_interrupt() before anything else."""
    kernel = machine(paging)
    kernel.this_cpu.in_interrupt = True
    for pfn in (*high(kernel), kernel.page_alloc.alloc_page(GFP_USER)):
        with pytest.raises(WrongContext, match="nothing may sleep"):
            kernel.kmap.map(kernel.this_cpu, pfn)


def test_nobody_there_who_could_sleep(paging: str) -> None:
    kernel = machine(paging)
    *held, last = high(kernel, 3)
    for pfn in held:
        kernel.kmap.map(kernel.this_cpu, pfn)
    with pytest.raises(NoPkmap, match="all 2 slots"):
        kernel.kmap.map(kernel.this_cpu, last)


def full(paging: str, *switches: str) -> tuple[Kernel, Tasks, dict[int, int], int]:
    """Two slots held by tasks 2 and 3: a kernel, its tasks, the address of each one's page, and a third page."""
    kernel = machine(paging, switches=frozenset(switches))
    kmap, sched = with_tasks(kernel)
    *held, third = high(kernel, 3)
    for pid, pfn in enumerate(held, 2):
        sched.by(pid, partial(kmap.map, kernel.this_cpu, pfn))
    return kernel, sched, {pfn: kmap.page_address(pfn) for pfn in held}, third


@pytest.mark.parametrize(("switches", "woken"), [((), 1), (("no-pkmap-wake",), 0)])
def test_the_third_sleeps_until_a_count_is_one(paging: str, switches: tuple[str, ...], woken: int) -> None:
    kernel, sched, at, third = full(paging, *switches)
    first, linear = next(iter(at.items()))
    kmap, cpu = kernel.kmap, kernel.this_cpu
    told: list[int] = []

    def give_back() -> None:
        sched.by(2, lambda: kmap.unmap(cpu, first, linear))
        told.append(sched.woken)

    sched.others = [lambda: None, give_back]
    assert kmap.map(cpu, third) == linear and load(kernel, linear) == third
    assert kmap.counters.sleeps == 2, "woken for nothing, it looked and slept again"
    assert told == [woken]


@pytest.mark.parametrize(("switches", "slots"), [((), 1), (("no-pkmap-recheck",), 2)])
def test_after_a_sleep_the_page_may_be_mapped(paging: str, switches: tuple[str, ...], slots: int) -> None:
    """The waiter's page was mapped by another meanwhile: the same address, no second slot."""
    kernel, sched, at, third = full(paging, *switches)
    kmap, cpu = kernel.kmap, kernel.this_cpu
    mapped: list[int] = []

    def meanwhile() -> None:
        for pfn, linear in at.items():
            kmap.unmap(cpu, pfn, linear)
        mapped.append(kmap.map(cpu, third))

    sched.others = [lambda: sched.by(2, meanwhile)]
    mapped.append(kmap.map(cpu, third))
    assert len(set(mapped)) == slots


def test_nesting_that_deadlocks_is_told(paging: str) -> None:
    """Documentation/vm/highmem: two tasks hold a slot each and want a second one."""
    kernel = machine(paging)
    kmap, sched = with_tasks(kernel)
    cpu = kernel.this_cpu
    first, second, third, fourth = high(kernel, 4)
    kmap.map(cpu, first)
    sched.by(2, lambda: kmap.map(cpu, second))
    sched.others = [lambda: sched.by(2, lambda: kmap.map(cpu, fourth))]
    with pytest.raises(KmapDeadlock, match="all 2 slots") as told:
        kmap.map(cpu, third)
    for line in (f"task 1 waits for a slot for frame {third:#x}", f"frame {second:#x} is held by task 2"):
        assert line in str(told.value.detail)


def test_who_holds_what_is_known(paging: str) -> None:
    kernel = machine(paging)
    kmap, sched = with_tasks(kernel)
    (pfn,) = high(kernel)
    linear = kmap.map(kernel.this_cpu, pfn)
    assert kmap.held([1]) == [f"{linear:#010x} frame {pfn:#x} is held by task 1"] and not kmap.held([2])
    sched.by(2, lambda: kmap.unmap(kernel.this_cpu, pfn, linear))
    assert not kmap.held([1]), "another task may give it back"


def test_what_was_not_taken_is_not_given_back(paging: str) -> None:
    kernel = machine(paging)
    first, second = high(kernel, 2)
    linear = used(kernel, kernel.kmap, first)
    with pytest.raises(BadKunmap, match="has no user"):
        kernel.kmap.unmap(kernel.this_cpu, first, linear)
    with pytest.raises(BadKunmap, match="not mapped there"):
        kernel.kmap.unmap(kernel.this_cpu, second, linear)
    assert load(kernel, linear) == first
