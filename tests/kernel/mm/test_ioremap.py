"""vremap and ioremap: exact entries for device memory, RAM refused, every version's edge (MM 6)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.wait import WrongContext
from sandbox.kernel.mm.gfp import GFP_KERNEL, HIGHMEM
from sandbox.kernel.mm.vmalloc import GUARD, BadVfree
from sandbox.x86.paging import PCD
from tests.kernel.mm.machines import PAGE, boot, load, physical, store

CARD, RAM = 0x80000000, 16 << 20


class Mappings(RuleBasedStateMachine):
    """``live`` is the model: (physical, size) by address."""

    paging = "pae"

    def __init__(self) -> None:
        super().__init__()
        self.kernel = boot(self.paging, ram=RAM, devices=("card",))
        self.live: dict[int, tuple[int, int]] = {}
        self.kernel.vmalloc.vfree(self.kernel.vmalloc.vmalloc(100 * PAGE))
        self.free, self.before = self.kernel.pgdat.free_frames, self.kernel.table_frames.held

    @rule(
        page=st.one_of(st.integers(0, 0x200), st.integers(0, 1 << 20)),
        offset=st.integers(0, PAGE - 1),
        size=st.integers(0, 40 * PAGE),
        nocache=st.booleans(),
    )
    def ioremap(self, page: int, offset: int, size: int, nocache: bool) -> None:
        at = page * PAGE + offset
        linear = self.kernel.ioremap.ioremap(at, size, nocache)
        frames = range(page, (at + size - 1 >> 12) + 1)
        ours = any(zone.has(pfn) for zone in self.kernel.pgdat.zones for pfn in frames)
        assert bool(linear) == bool(size and at + size <= 1 << 32 and not ours)
        if not linear:
            return
        if linear < self.kernel.layout.direct.end:
            assert at >= 0xA0000
            assert at + size <= 0x100000
            assert linear == PAGE_OFFSET + at
            return
        assert linear & 0xFFF == offset
        assert linear != at
        self.live[linear] = at, size
        for each in (0, size - 1):
            assert physical(self.kernel, linear + each) == at + each
        entry = self.kernel.tables.lookup_pte(self.kernel.tables.kernel_pgd, linear)
        assert bool(entry & PCD) == nocache

    @rule(page=st.integers(RAM // PAGE - 3, 1 << 20), size=st.integers(0, 40 * PAGE), odd=st.integers(0, 3))
    def vremap(self, page: int, size: int, odd: int) -> None:
        at = page * PAGE + odd
        linear = self.kernel.ioremap.vremap(at, size)
        wrong = at < RAM or odd or not size or at + size > 1 << 32
        assert bool(linear) == (not wrong)
        if linear:
            self.live[linear] = at, size
            assert physical(self.kernel, linear + size - 1) == at + size - 1

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        linear = data.draw(st.sampled_from(sorted(self.live)))
        del self.live[linear]
        self.kernel.ioremap.iounmap(linear)
        assert physical(self.kernel, linear) is None
        with pytest.raises(BadVfree):
            self.kernel.ioremap.iounmap(linear)

    @invariant()
    def nothing_is_owned(self) -> None:
        assert self.kernel.pgdat.free_frames == self.free - self.tables(), "no frame comes or goes, but for tables"

    @invariant()
    def guards_are_there(self) -> None:
        areas = self.kernel.vmalloc.areas
        assert len(areas) == len(self.live)
        for area in areas:
            assert physical(self.kernel, area.end) is None
        for one, other in itertools.pairwise(areas):
            assert one.end + GUARD <= other.start

    def tables(self) -> int:
        return self.kernel.table_frames.held - self.before


class TwoLevel(Mappings):
    paging = "legacy"


TestMappings = Mappings.TestCase
TestTwoLevel = TwoLevel.TestCase
for _case in (TestMappings, TestTwoLevel):
    _case.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
del _case


def test_the_card_answers() -> None:
    kernel = boot(devices=("card",))
    linear = kernel.ioremap.vremap(CARD, 0x200000)
    assert load(kernel, linear).to_bytes(4, "little") == b"CARD"
    store(kernel, linear + 0x100000, 77)
    assert load(kernel, kernel.ioremap.ioremap(CARD + 0x100000, 4)) == 77


def test_2_4_loses_the_page_of_a_last_byte() -> None:
    """MM 6: the last byte's address is rounded; where it is a page's first byte the page is lost."""
    new, old = boot(policies={"ioremap": "2.6"}), boot(policies={"ioremap": "2.4"})
    assert physical(new, new.ioremap.ioremap(CARD, PAGE + 1) + PAGE) == CARD + PAGE
    assert physical(old, old.ioremap.ioremap(CARD, PAGE + 1) + PAGE) is None
    assert new.ioremap.ioremap(CARD, 1)
    assert not old.ioremap.ioremap(CARD, 1)


def test_2_1_has_no_offsets_and_gives_ram_away() -> None:
    kernel = boot(policies={"ioremap": "2.1"})
    assert kernel.ioremap.ioremap(0x5123, 100) == PAGE_OFFSET + 0x5123
    assert not kernel.ioremap.ioremap(CARD + 1, 100)
    assert kernel.ioremap.ioremap(CARD, 100)


def test_ram_is_refused_unless_its_frames_are_reserved() -> None:
    kernel = boot(ram=32 << 20, boot="memexclude=8m-9m")
    assert not kernel.ioremap.ioremap(8 << 20, (1 << 20) + 1)
    assert not kernel.ioremap.vremap(8 << 20, PAGE)
    linear = kernel.ioremap.ioremap(8 << 20, 1 << 20)
    assert physical(kernel, linear + 5) == (8 << 20) + 5
    kernel = boot(switches=frozenset(["no-ram-check"]))
    assert kernel.ioremap.vremap(8 << 20, PAGE)
    assert kernel.ioremap.ioremap(8 << 20, PAGE)


def test_highmem_that_the_allocator_has_is_refused() -> None:
    """2.0 refuses RAM that the kernel manages; what highmem= and mem= leave out is nobody's."""
    kernel = boot(ram=64 << 20, boot="mem=48m highmem=16m")
    assert kernel.layout.direct.size <= 32 << 20
    for call in (kernel.ioremap.vremap, kernel.ioremap.ioremap):
        pfn = kernel.page_alloc.alloc_pages(GFP_KERNEL | HIGHMEM)
        assert pfn >= 32 << 8
        assert not call(pfn * PAGE, PAGE), "in use"
        assert not call((48 << 20) - PAGE, PAGE), "free, and never opened"
        assert not call((48 << 20) - PAGE, 2 * PAGE), "its first page"
        assert call(48 << 20, PAGE), "nobody's"


def test_what_iounmap_refuses() -> None:
    kernel = boot(devices=("card",))
    kernel.ioremap.iounmap(0)
    kernel.ioremap.iounmap(PAGE_OFFSET + 0xA0000)
    area = kernel.vmalloc.vmalloc(PAGE)
    with pytest.raises(BadVfree, match="memory, not a device's"):
        kernel.ioremap.iounmap(area)
    mapped = kernel.ioremap.ioremap(CARD, 3 * PAGE)
    with pytest.raises(BadVfree, match="no mapping begins there"):
        kernel.ioremap.iounmap(mapped + PAGE)
    kernel.ioremap.iounmap(mapped + 7)


def test_vfree_of_a_device_frees_no_frame() -> None:
    kernel = boot(ram=32 << 20, boot="mem=16m")
    linear = kernel.ioremap.vremap(16 << 20, 4 * PAGE)
    free = kernel.pgdat.free_frames
    kernel.vmalloc.vfree(linear)
    assert kernel.pgdat.free_frames == free


def test_not_in_an_interrupt() -> None:
    kernel = boot()
    kernel.this_cpu.in_interrupt = True
    for call in (kernel.ioremap.vremap, kernel.ioremap.ioremap):
        with pytest.raises(WrongContext):
            call(CARD, PAGE)
    with pytest.raises(WrongContext):
        kernel.vmalloc.vmalloc(PAGE)
    with pytest.raises(WrongContext):
        kernel.vmalloc.vfree(0xC5000000)


def test_addresses_run_out() -> None:
    kernel = boot("legacy")
    size = kernel.layout.vmalloc.size
    assert not kernel.ioremap.vremap(CARD, size)
    assert kernel.ioremap.vremap(CARD, size - GUARD)
    assert not kernel.ioremap.vremap(CARD, PAGE)
    assert not kernel.vmalloc.vmalloc(PAGE)


def test_cache_attributes_that_disagree() -> None:
    kernel = boot(devices=("card",))
    kernel.ioremap.ioremap(CARD, 2 * PAGE)
    assert not kernel.log.text
    kernel.ioremap.ioremap(CARD + PAGE, 4, nocache=True)
    assert b"0x80001000 is mapped uncached here and cached at" in kernel.log.text


@pytest.mark.parametrize("devices", [(), ("card",), ("isa",), ("isa@c8000", "card")])
def test_the_isa_bus_is_open_where_no_card_is(devices: tuple[str, ...]) -> None:
    kernel = boot(devices=devices)
    cards = {0xD0000 if each == "isa" else 0xC8000 for each in devices if "isa" in each}
    for at in (0xA0000, 0xC8000, 0xD0000, 0xFFFFC):
        seen = load(kernel, PAGE_OFFSET + at)
        assert seen == (0x20415349 if at in cards else 0xFFFFFFFF)
        store(kernel, PAGE_OFFSET + at, 0)
