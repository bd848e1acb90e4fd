"""vmalloc and vfree: real entries, guards, propagation to other directories, and no frame lost (MM 4)."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.fs.namespace import FileSystem
from sandbox.kernel.inspect.oops import KernelOops
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.main import start_kernel
from sandbox.kernel.mm.pgtable import TableError
from sandbox.kernel.mm.vmalloc import GUARD, BadVfree
from sandbox.machine.machine import Machine
from tests.kernel.mm.conftest import PAGE, MakeSpace

REGION = 4 << 20
"""What one entry of a two-level directory maps."""


def boot(paging: str = "pae", ram: int = 16 << 20, **config: object) -> Kernel:
    made = KernelConfig(paging=paging, ram=ram, **config)  # type: ignore[arg-type]
    return start_kernel(Machine(made.ram, made.cpus), made, FileSystem()).kernel


def clear(kernel: Kernel, linear: int) -> None:
    """Let the CPU store to a whole page."""
    kernel.this_cpu.call(kernel.routines.clear_page, edi=linear)


class Areas(RuleBasedStateMachine):
    """Random areas, checked after every step."""

    paging = "pae"

    def __init__(self) -> None:
        super().__init__()
        self.kernel = boot(self.paging)
        self.live: dict[int, int] = {}
        area = self.kernel.vmalloc.vmalloc(40 * PAGE)
        self.kernel.vmalloc.vfree(area)
        self.kernel.vmalloc.vmalloc(PAGE)
        self.first = self.kernel.vmalloc.areas[0]
        self.free = self.kernel.pgdat.free_frames

    @rule(size=st.integers(1, 40 * PAGE))
    def allocate(self, size: int) -> None:
        address = self.kernel.vmalloc.vmalloc(size)
        assert address
        assert address not in self.live
        self.live[address] = -(-size // PAGE)
        clear(self.kernel, address)
        clear(self.kernel, address + (self.live[address] - 1) * PAGE)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.live)))
        self.kernel.vmalloc.vfree(address)
        del self.live[address]
        with pytest.raises(BadVfree):
            self.kernel.vmalloc.vfree(address)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), offset=st.integers(1, 40 * PAGE))
    def release_nonsense(self, data: st.DataObject, offset: int) -> None:
        address = data.draw(st.sampled_from(sorted(self.live))) + offset
        if address not in self.live:
            with pytest.raises(BadVfree):
                self.kernel.vmalloc.vfree(address)

    @invariant()
    def areas_do_not_meet(self) -> None:
        areas = self.kernel.vmalloc.areas
        region = self.kernel.layout.vmalloc
        assert {area.start: len(area.frames) for area in areas} == {**self.live, self.first.start: 1}
        ends = [region.start, *(area.end + GUARD for area in areas)]
        assert all(end <= area.start for end, area in zip(ends, areas, strict=False))
        assert ends[-1] <= region.end

    @invariant()
    def tables_agree_with_the_manual(self) -> None:
        kernel = self.kernel
        for area in kernel.vmalloc.areas:
            for number, pfn in enumerate(area.frames):
                entry = kernel.tables.lookup_pte(kernel.tables.kernel_pgd, area.start + number * PAGE)
                assert kernel.tables.pte_pfn(entry) == pfn
                assert kernel.memmap.count(pfn) == 1
            assert not kernel.tables.lookup_pte(kernel.tables.kernel_pgd, area.end), "the guard page is never there"

    @invariant()
    def frames_balance(self) -> None:
        held = sum(self.live.values())
        assert self.free - held == self.kernel.pgdat.free_frames


class TwoLevelAreas(Areas):
    paging = "legacy"


TestAreas = Areas.TestCase
TestAreas.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestTwoLevelAreas = TwoLevelAreas.TestCase
TestTwoLevelAreas.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_guard_page(paging: str) -> None:
    kernel = boot(paging)
    address = kernel.vmalloc.vmalloc(2 * PAGE)
    clear(kernel, address + PAGE)
    with pytest.raises(KernelOops, match="kernel page fault"):
        clear(kernel, address + 2 * PAGE)


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_what_is_refused(paging: str) -> None:
    kernel = boot(paging)
    free = kernel.pgdat.free_frames
    assert kernel.vmalloc.vmalloc(0) == 0
    assert kernel.vmalloc.vmalloc(1 << 30) == 0
    assert kernel.vmalloc.vmalloc((free - 2) * PAGE) == 0, "the tables take more than two frames"
    kept = free - kernel.pgdat.free_frames
    assert 0 < kept <= free // 512 + 2, "only the tables stay"
    assert kernel.vmalloc.areas == []


def crossing(kernel: Kernel) -> int:
    """An area whose last page needs a directory entry that nobody had."""
    start = kernel.layout.vmalloc.start
    first = kernel.vmalloc.vmalloc(REGION - start % REGION - 2 * PAGE)
    assert first == start
    return kernel.vmalloc.vmalloc(3 * PAGE)


@pytest.mark.parametrize("sync", ["lazy", "eager"])
def test_another_directory_learns(space: MakeSpace, paging: str, sync: str) -> None:
    made = space(paging=paging, policies={"vmalloc_sync": sync})
    kernel = made.kernel
    area = crossing(kernel)
    last = area + 2 * PAGE
    assert area % REGION == REGION - PAGE or area // REGION != last // REGION
    for linear in (area, area + PAGE, last):
        clear(kernel, linear)
        assert kernel.tables.lookup_pte(made.mm.pgd, linear) == kernel.tables.lookup_pte(
            kernel.tables.kernel_pgd, linear
        )
    expected = 2 if paging == "legacy" and sync == "lazy" else 0
    assert kernel.vmalloc.synced == expected
    assert made.resolutions.count("vmalloc-sync") == expected
    clear(kernel, last)
    assert kernel.vmalloc.synced == expected, "a second access does not fault"


def test_nothing_is_copied_for_an_address_that_nobody_has(space: MakeSpace) -> None:
    """MM 4: "if reference PMD or PTE is absent: exception table or oops"; a guard page is no page of an area."""
    made = space(paging="legacy")
    kernel = made.kernel
    area = crossing(kernel)
    cr3, guard = made.mm.cr3, area + 3 * PAGE
    assert not kernel.vmalloc.vmalloc_fault(cr3, guard, 0)
    assert kernel.vmalloc.synced == 0
    assert kernel.vmalloc.vmalloc_fault(cr3, area + 2 * PAGE, 0)
    assert kernel.vmalloc.synced == 1


def test_the_directory_is_cr3s_not_currents(space: MakeSpace) -> None:
    """MM 4: "take directory from CR3, not current", which are two in a borrowed address space."""
    made = space(paging="legacy")
    kernel = made.kernel
    other = kernel.mmu.mm_alloc()
    area = crossing(kernel)
    kernel.mmu.switch_mm(made.cpu, other)
    clear(kernel, area + 2 * PAGE)
    tables = kernel.tables
    reference = tables.lookup_pte(tables.kernel_pgd, area + 2 * PAGE)
    assert tables.lookup_pte(other.pgd, area + 2 * PAGE) == reference
    assert tables.lookup_pte(made.mm.pgd, area + 2 * PAGE) == 0, "current's own directory was left alone"


def test_a_freed_area_is_gone_on_every_cpu(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging, cpus=2)
    kernel = made.kernel
    area = kernel.vmalloc.vmalloc(PAGE)
    for cpu in kernel.cpus:
        kernel.smp.this_cpu = cpu
        clear(kernel, area)
    kernel.smp.this_cpu = kernel.cpus[0]
    kernel.vmalloc.vfree(area)
    for cpu in kernel.cpus:
        kernel.smp.this_cpu = cpu
        with pytest.raises(KernelOops):
            clear(kernel, area)


def test_without_shootdown_a_stale_address_still_works(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging, cpus=2, switches=frozenset({"no-shootdown"}))
    kernel = made.kernel
    area = kernel.vmalloc.vmalloc(4 * PAGE)
    # The engine holds one translation for all pages of the same number modulo 256, code included.
    page = area + 3 * PAGE
    kernel.smp.this_cpu = kernel.cpus[1]
    clear(kernel, page)
    kernel.smp.this_cpu = kernel.cpus[0]
    kernel.vmalloc.vfree(area)
    kernel.smp.this_cpu = kernel.cpus[1]
    clear(kernel, page)


def test_ring_3_reaches_none_of_it(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    area = made.kernel.vmalloc.vmalloc(PAGE)
    clear(made.kernel, area)
    entry = made.kernel.tables.lookup_pte(made.kernel.tables.kernel_pgd, area)
    assert not entry & 4


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_a_directory_with_another_table(paging: str) -> None:
    """2.6 stops when a directory and the reference name different tables for the same kernel addresses."""
    kernel = boot(paging, policies={"kernel_pmd": "process"})
    mm = kernel.mmu.mm_alloc()
    kernel.tables.map_page(mm.pgd, kernel.layout.vmalloc.start, kernel.tables.pfn_pte(5, 1), user=False)
    kernel.vmalloc.vmalloc(PAGE)
    with pytest.raises(TableError, match="the kernel's own names"):
        kernel.tables.sync_directory(mm.pgd, kernel.tables.kernel_pgd, kernel.layout.vmalloc.start)


def test_what_vfree_refuses() -> None:
    """Areas that the kernel lives in: arrays of struct page of an added section, and addresses of kernel stacks."""
    kernel = boot(ram=128 << 20, boot="mem=64m", policies={"mem_model": "sparsemem"})
    kernel.hotplug.add_memory(64 << 20, 64 << 20)
    kernel.vmalloc.reserve_addresses("kernel stacks", 4 << 20)
    areas = list(kernel.vmalloc.areas)
    assert {area.kind for area in areas} == {"mem_map", "kernel stacks"}
    free = kernel.pgdat.free_frames
    for area in areas:
        for free_it in (kernel.vmalloc.vfree, kernel.ioremap.iounmap):
            with pytest.raises(BadVfree):
                free_it(area.start)
    assert kernel.vmalloc.areas == areas
    assert kernel.pgdat.free_frames == free
