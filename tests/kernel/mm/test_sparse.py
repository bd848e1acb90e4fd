"""Three memory models: guest code and Python agree on every frame, whatever RAM looks like; memory is added (MM 16)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.page import PIECE, STRUCT_PAGE_BYTES, NoStructPage
from sandbox.kernel.mm.sparse import CannotAddMemory, model_costs, sections_of, vmemmap_bytes
from tests.kernel.mm.machines import PAGE, boot, load, physical, store

MEGABYTE = 1 << 20
MODELS = ("flatmem", "sparsemem", "vmemmap")
HOLED = "mem=64m@0 mem=64m@128m"


def ask(kernel: Kernel, name: str, argument: int) -> int:
    return kernel.this_cpu.call_c(kernel.image.symbols[name], argument)


def valid(kernel: Kernel, pfn: int) -> bool:
    """By the model's own rule, in Python."""
    if kernel.model.name == "flatmem":
        return pfn < kernel.memmap.max_pfn
    return kernel.memmap.has_page(pfn)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_guest_code_agrees(model: str, paging: str) -> None:
    kernel = boot(paging, ram=192 * MEGABYTE, boot=HOLED, policies={"mem_model": model})
    edges = [at + by for at in (0, 0x4000, 0x8000, 0xC000, 0x10000, 0xFFFFF) for by in (-1, 0, 1)]
    for pfn in [pfn & 0xFFFFFFFF for pfn in edges] + list(range(0, 0xC000, 997)):
        there = valid(kernel, pfn)
        assert bool(ask(kernel, "pfn_valid", pfn)) == there, hex(pfn)
        assert ask(kernel, "pfn_valid_walk", pfn) == ask(kernel, "pfn_valid_fault", pfn) == there, hex(pfn)
        if there:
            page = ask(kernel, "pfn_to_page", pfn)
            assert page == kernel.model.struct_page(pfn)
            assert ask(kernel, "page_to_pfn", page) == kernel.model.pfn_of(page) == pfn
            assert physical(kernel, page) == kernel.memmap.physical(pfn)
            assert load(kernel, page) == kernel.memmap.flags(pfn)


@settings(max_examples=12, deadline=None)
@given(
    cuts=st.lists(st.integers(17, 250), min_size=0, max_size=4, unique=True),
    model=st.sampled_from(MODELS),
    paging=st.sampled_from(["pae", "legacy"]),
)
def test_any_map(cuts: list[int], model: str, paging: str) -> None:
    """RAM cut into pieces of odd sizes: totals add up, every owned frame has a structure that says so."""
    edges = [0, *sorted(cuts), 256]
    pieces = [(start, end) for start, end in itertools.pairwise(edges)][::2]
    line = " ".join(f"mem={end - start}m@{start}m" for start, end in pieces)
    kernel = boot(paging, ram=256 * MEGABYTE, boot=line, policies={"mem_model": model})
    for zone in kernel.pgdat.zones:
        zone.open_all()
        for first, count in zone.ranges:
            assert any(start * 256 <= first and first + count <= end * 256 for start, end in pieces)
            for pfn in (first, first + count // 2, first + count - 1):
                assert ask(kernel, "pfn_valid", pfn)
                assert load(kernel, ask(kernel, "pfn_to_page", pfn)) >> 31
    told = sum(end - start for start, end in pieces) * 256
    assert 0 < told - kernel.pgdat.total_frames < 4096


class Growing(RuleBasedStateMachine):
    """Pieces of a hole of 64 MB are added while the kernel runs; some are asked for twice."""

    model = "sparsemem"

    def __init__(self) -> None:
        super().__init__()
        self.kernel = boot(ram=192 * MEGABYTE, boot=HOLED, policies={"mem_model": self.model})
        self.total = self.kernel.pgdat.total_frames
        self.added: set[int] = set()

    @rule(first=st.integers(0, 15), count=st.integers(1, 6))
    def add(self, first: int, count: int) -> None:
        """In steps of 4 MB."""
        wanted = set(range(first, first + count))
        start, size = (64 + 4 * first) * MEGABYTE, 4 * count * MEGABYTE
        if wanted & self.added or max(wanted) > 15:
            with pytest.raises(CannotAddMemory):
                self.kernel.hotplug.add_memory(start, size)
            return
        self.kernel.hotplug.add_memory(start, size)
        self.added |= wanted
        self.total += count * 1024
        for pfn in (start >> 12, (start + size >> 12) - 1):
            assert ask(self.kernel, "pfn_valid", pfn)
            if pfn < self.kernel.layout.direct_frames:
                assert physical(self.kernel, PAGE_OFFSET + (pfn << 12)) == pfn << 12

    @rule()
    def use(self) -> None:
        pfn = self.kernel.pgdat.rmqueue(5, list(self.kernel.pgdat.zones[::-1]))
        page = ask(self.kernel, "pfn_to_page", pfn)
        assert load(self.kernel, page + 4) == 1
        self.kernel.pgdat.free_block(pfn, 5)

    @invariant()
    def totals(self) -> None:
        frames = self.kernel.pgdat
        assert frames.total_frames == self.total == sum(zone.total for zone in frames.zones)


class GrowingFlat(Growing):
    model = "flatmem"


class GrowingVirtual(Growing):
    model = "vmemmap"


TestGrowing, TestGrowingFlat, TestGrowingVirtual = Growing.TestCase, GrowingFlat.TestCase, GrowingVirtual.TestCase
TestGrowing.settings = TestGrowingFlat.settings = TestGrowingVirtual.settings = settings(
    max_examples=5, stateful_step_count=12, deadline=None
)


def test_what_cannot_be_added() -> None:
    kernel = boot(ram=192 * MEGABYTE, boot="mem=64m")
    for start, size, why in (
        (64 * MEGABYTE + 1, PAGE, "not whole pages"),
        (64 * MEGABYTE, 0, "not whole pages"),
        (63 * MEGABYTE, 2 * MEGABYTE, "there already"),
        (192 * MEGABYTE, PAGE, "not RAM"),
        (64 * MEGABYTE, PAGE, "as boot laid it out"),
    ):
        with pytest.raises(CannotAddMemory, match=why):
            kernel.hotplug.add_memory(start, size)


@pytest.mark.parametrize("model", ["sparsemem", "vmemmap"])
def test_a_section_that_is_filled_up_keeps_its_structures(model: str, paging: str) -> None:
    """MM 16, a section edge with partial RAM: what mem= left of it is added, mapped, and the rest is as it was."""
    kernel = boot(paging, ram=96 * MEGABYTE, boot="mem=47m", policies={"mem_model": model, "section": "64M"})
    pfn = kernel.page_alloc.alloc_pages(3)
    kernel.memmap.get_page(pfn)
    before = kernel.model.struct_page(pfn)
    new = 47 * MEGABYTE >> 12
    assert physical(kernel, PAGE_OFFSET + (new << 12)) is None
    kernel.hotplug.add_memory(47 * MEGABYTE, 17 * MEGABYTE)
    assert (kernel.model.struct_page(pfn), kernel.memmap.count(pfn)) == (before, 2)
    for frame in (new, new + 255):
        assert physical(kernel, PAGE_OFFSET + (frame << 12)) == frame << 12
        store(kernel, PAGE_OFFSET + (frame << 12), frame)
        assert load(kernel, PAGE_OFFSET + (frame << 12)) == frame


def test_memory_added_reaches_other_directories() -> None:
    """Under the lazy policy by a fault, under the eager one at once: the virtual map's own range too."""
    for sync in ("lazy", "eager"):
        kernel = boot("legacy", ram=192 * MEGABYTE, boot=HOLED, policies={"mem_model": "vmemmap", "vmalloc_sync": sync})
        mm = kernel.mmu.mm_alloc()
        kernel.mmu.switch_mm(kernel.this_cpu, mm)
        kernel.hotplug.add_memory(64 * MEGABYTE, 64 * MEGABYTE)
        page = kernel.model.struct_page(0x5000)
        assert load(kernel, page) >> 31
        assert ask(kernel, "pfn_valid_fault", 0x5000)


def test_no_structure_is_looked_up_in_a_hole() -> None:
    kernel = boot(ram=192 * MEGABYTE, boot=HOLED, policies={"mem_model": "vmemmap"})
    assert kernel.memmap.reserved(0x5000)
    assert kernel.memmap.describe(0x5000) == "no struct page"
    with pytest.raises(NoStructPage):
        kernel.memmap.physical(0x5000)
    sparse = boot(ram=192 * MEGABYTE, boot=HOLED, policies={"mem_model": "sparsemem"})
    assert ask(sparse, "page_to_pfn", PAGE_OFFSET) == 0xFFFFFFFF
    assert sparse.model.pfn_of(PAGE_OFFSET) == -1


def test_structures_never_straddle_a_page() -> None:
    assert PAGE % STRUCT_PAGE_BYTES == 0
    assert PIECE * STRUCT_PAGE_BYTES == PAGE


def test_costs() -> None:
    """By hand: 32 bytes a frame; 1 GB of RAM in two halves, the second from 3 GB on, PAE, sections of 512 MB."""
    half = 512 * MEGABYTE
    ranges = [(0, half), (6 * half, half)]
    costs = {cost.model: cost for cost in model_costs(ranges, 29, 8)}
    frames = half // PAGE
    assert costs["flatmem"].direct == 7 * frames * 32
    assert costs["sparsemem"].ram == 2 * frames * 32 + PAGE
    assert costs["vmemmap"].reserved == vmemmap_bytes(7 * half) == 7 * frames * 32
    assert costs["vmemmap"].ram == 2 * frames * 32 + 4 * PAGE, "two tables of 2 MB for 4 MB each"
    assert costs["vmemmap"].addresses == costs["vmemmap"].direct + costs["vmemmap"].reserved
    assert sections_of(ranges, 29) == [0, 6]


def test_a_failed_addition_loses_nothing() -> None:
    kernel = boot(ram=192 * MEGABYTE, boot=HOLED, policies={"mem_model": "vmemmap"})
    held = kernel.pgdat.free_frames + kernel.table_frames.held
    for nth in (1, 2, 3):
        kernel.page_alloc.failing.seen, kernel.page_alloc.failing.at = 0, nth
        with pytest.raises(OutOfMemory):
            kernel.hotplug.add_memory(64 * MEGABYTE, 8 * MEGABYTE)
        assert kernel.pgdat.free_frames + kernel.table_frames.held + kernel.model.added_frames == held
