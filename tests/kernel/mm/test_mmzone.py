"""Zones and the buddy system: blocks of every order, single frames by two CPUs' lists, ranges that join (MM 2, 16)."""

from __future__ import annotations

import resource

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.kernel.base.inject import Breakage, OutOfMemory
from sandbox.kernel.mm import mmzone
from sandbox.kernel.mm.mmzone import Zone
from sandbox.kernel.mm.page import INDEX, PG_BUDDY, PG_HEAD, PG_HIGHMEM, PG_OPEN, BadPage, MemMap, NoStructPage
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.machine.memory import PhysicalMemory

LOW, HIGH = [(3, 200), (260, 60), (4100, 130)], [(4500, 90)]
FRAMES = 5000
ORDERS = 6


def make(orders: int = ORDERS, cpus: int = 2, switches: tuple[str, ...] = ()) -> PgDat:
    memory = PhysicalMemory(32 << 20)
    return PgDat(MemMap(memory, 0x200000, FRAMES), LOW, HIGH, orders, cpus, Breakage(frozenset(switches)))


class Blocks(RuleBasedStateMachine):
    """``held`` is the model: order by first frame."""

    orders = ORDERS

    def __init__(self) -> None:
        super().__init__()
        self.frames = make(self.orders)
        self.held: dict[int, int] = {}
        self.owned = {pfn for first, count in LOW + HIGH for pfn in range(first, first + count)}

    def take(self, pfn: int, order: int) -> None:
        block = set(range(pfn, pfn + (1 << order)))
        assert pfn % (1 << order) == 0, "aligned to its size"
        assert block <= self.owned
        for other, held in self.held.items():
            assert not block & set(range(other, other + (1 << held))), "no two blocks meet"
        assert self.frames.memmap.count(pfn) == 1
        self.held[pfn] = order

    @rule(order=st.integers(0, ORDERS), zone=st.sampled_from([(0,), (1, 0), (2, 1, 0)]), cpu=st.integers(0, 1))
    def alloc_block(self, order: int, zone: tuple[int, ...], cpu: int) -> None:
        zones = [self.frames.zones[index] for index in zone]
        try:
            pfn = self.frames.rmqueue(order, zones, cpu)
        except OutOfMemory:
            if order < self.orders:
                self.frames.drain()
                assert not any(zone.lists[at] for zone in zones for at in range(order, self.orders))
            return
        assert order < self.orders
        self.take(pfn, order)
        if zone == (0,):
            assert pfn + (1 << order) <= 4096, "a DMA block ends below 16 MB"

    @rule(highmem=st.booleans(), cpu=st.integers(0, 1))
    def alloc_frame(self, highmem: bool, cpu: int) -> None:
        try:
            pfn = self.frames.rmqueue_pcp(highmem, cpu)
        except OutOfMemory:
            return
        assert highmem or pfn < 4500, "highmem only for those who ask"
        self.take(pfn, 0)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cpu=st.integers(0, 1))
    def free(self, data: st.DataObject, cpu: int) -> None:
        pfn = data.draw(st.sampled_from(sorted(self.held)))
        assert self.frames.free_block(pfn, self.held.pop(pfn), cpu)
        with pytest.raises(BadPage):
            self.frames.free_block(pfn, 0, cpu)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), order=st.integers(0, ORDERS - 1))
    def free_with_the_wrong_order(self, data: st.DataObject, order: int) -> None:
        pfn = data.draw(st.sampled_from(sorted(self.held)))
        if order != self.held[pfn]:
            with pytest.raises(BadPage, match="it was allocated with order"):
                self.frames.free_block(pfn, order)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def free_from_the_middle(self, data: st.DataObject) -> None:
        pfn = data.draw(st.sampled_from(sorted(pfn for pfn, order in self.held.items() if order)))
        with pytest.raises(BadPage, match="no user"):
            self.frames.free_block(pfn + 1, 0)
        with pytest.raises(BadPage, match="freed as a single one"):
            self.frames.put_page(pfn)

    @precondition(lambda self: len(self.held) < len(self.owned))
    @rule(data=st.data())
    def isolate(self, data: st.DataObject) -> None:
        pfn = data.draw(st.sampled_from(sorted(self.owned)))
        busy = any(first <= pfn < first + (1 << order) for first, order in self.held.items())
        for zone in self.frames.zones:
            zone.open_all()
        assert self.frames.isolate(pfn) != busy
        if not busy:
            self.frames.zone_of(pfn).free_one_page(pfn, 0)
            self.frames.free_frames += 1

    @precondition(lambda self: 340 not in self.owned)
    @rule()
    def add(self) -> None:
        self.frames.add_range(self.frames.dma, 340, 80)
        self.owned |= set(range(340, 420))

    @rule()
    def drain(self) -> None:
        self.frames.drain()
        words, at = self.frames.memmap.words, self.frames.memmap.at
        for zone in self.frames.zones:
            for order, listed in enumerate(zone.lists[:-1]):
                for pfn in listed:
                    buddy = at(pfn ^ 1 << order)
                    both = words[buddy] == words[at(pfn)] and words[buddy + INDEX] == order
                    assert not both, "no free pair below the top order that has not joined"

    @invariant()
    def totals(self) -> None:
        frames = self.frames
        held = sum(1 << order for order in self.held.values())
        assert frames.free_frames == len(self.owned) - held
        assert frames.free_frames == sum(frames.zone_free(zone) for zone in frames.zones)
        for zone in frames.zones:
            assert zone.listed == sum(len(listed) << order for order, listed in enumerate(zone.lists))

    @invariant()
    def mem_map_says_the_same(self) -> None:
        frames, memmap = self.frames, self.frames.memmap
        blocks = {pfn: order for zone in frames.zones for pfn, order in zone.blocks()}
        for pfn in range(FRAMES):
            flags = memmap.flags(pfn)
            assert bool(flags & PG_BUDDY) == (pfn in blocks)
            if pfn in blocks:
                assert memmap.words[memmap.at(pfn) + INDEX] == blocks[pfn]
            assert bool(flags & PG_HEAD) == bool(self.held.get(pfn))
            assert not flags & PG_OPEN or pfn in self.owned, "reserved frames stay so"


class LargeBlocks(Blocks):
    orders = 10


class PublishedBlocks(Blocks):
    """Zones are published while they are in use, by blocks of 128 frames; who reads mem_map takes all for opened."""

    orders = 6

    def __init__(self) -> None:
        super().__init__()
        self._sizes = mmzone.OPEN_BLOCK, mmzone.OPEN_AT_ONCE
        mmzone.OPEN_BLOCK, mmzone.OPEN_AT_ONCE = 128, 0
        self.published = 0

    def teardown(self) -> None:
        mmzone.OPEN_BLOCK, mmzone.OPEN_AT_ONCE = self._sizes

    @rule()
    def publish(self) -> None:
        for zone in self.frames.zones:
            zone.publish()
            assert not zone.unopened
        self.published = len(self.owned)

    @invariant()
    def mem_map_says_the_same(self) -> None:
        memmap = self.frames.memmap
        published = [each for zone in self.frames.zones for each in zone.published]
        closed = {pfn for first, count in published for pfn in range(first, first + count)}
        blocks = {pfn: order for zone in self.frames.zones for pfn, order in zone.blocks()}
        assert not closed & blocks.keys()
        blocks |= {pfn: self.orders - 1 for pfn in closed if pfn % (1 << self.orders - 1) == 0}
        for pfn in self.owned:
            flags = memmap.flags(pfn)
            assert flags & PG_OPEN or self.published < len(self.owned)
            assert bool(flags & PG_BUDDY) == (pfn in blocks)
            if pfn in blocks:
                assert memmap.words[memmap.at(pfn) + INDEX] == blocks[pfn]


TestBlocks = Blocks.TestCase
TestBlocks.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
TestLargeBlocks = LargeBlocks.TestCase
TestLargeBlocks.settings = settings(max_examples=8, stateful_step_count=40, deadline=None)
TestPublishedBlocks = PublishedBlocks.TestCase
TestPublishedBlocks.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("orders", [1, 6, 11, 13])
def test_what_is_published_reads_as_if_it_had_been_opened(orders: int) -> None:
    """1.5 GB from an odd frame on: the same bytes of mem_map, and then the same blocks on the lists."""
    ranges = [(3, 70), (5000, 384 << 10)]
    read = []
    for how in ("open_all", "publish"):
        memory = PhysicalMemory(32 << 20)
        memmap = MemMap(memory, 0x200000, 400 << 10)
        zone = Zone("NORMAL", 1, ranges, 0, memmap, orders)
        getattr(zone, how)()
        assert bool(zone.published) == (how == "publish")
        words = memory.read(0x200000, MemMap.bytes_for(memmap.max_pfn))
        zone.open_all()
        assert memory.read(0x200000, len(words)) == words
        read.append((words, set(zone.blocks()), zone.listed))
    assert read[0] == read[1]


def test_publishing_does_not_grow_with_the_zone() -> None:
    """62 GB: nearly all waits, and the host has copied next to nothing."""
    memory = PhysicalMemory(1 << 30)
    zone = Zone("HIGHMEM", 2, [(1 << 18, 15 << 20)], PG_HIGHMEM, MemMap(memory, 0x200000, 16 << 20), ORDERS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    zone.publish()
    assert zone.waiting == zone.total
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10
    assert zone.rmqueue(0) == 1 << 18


def test_reserved_frames_are_ignored() -> None:
    frames = make()
    assert not frames.free_block(1, 0)
    assert not frames.free_block(FRAMES + 5, 0)
    assert not frames.put_page(FRAMES + 5)
    assert frames.free_frames == frames.total_frames


def test_lists_fall_back_downwards_only() -> None:
    frames = make()
    high = {frames.rmqueue_pcp(True) for _ in range(90)}
    assert high == set(range(4500, 4590))
    assert 4100 <= frames.rmqueue_pcp(True) < 4230, "then NORMAL"
    with pytest.raises(OutOfMemory):
        while True:
            assert frames.rmqueue_pcp() < 4500


def test_another_cpus_list_is_emptied_before_memory_has_run_out() -> None:
    frames = make(cpus=2)
    taken = [frames.rmqueue_pcp(cpu=0) for _ in range(390)]
    for pfn in taken[:20]:
        frames.put_page(pfn, cpu=1)
    assert sum(len(hot) for zone in frames.zones for hot in frames.pcp_frames(zone)) == 20
    assert {frames.rmqueue_pcp(cpu=0) for _ in range(20)} == set(taken[:20])


def test_shares_are_counted() -> None:
    frames = make()
    for _ in range(9):
        frames.put_page(frames.rmqueue_pcp())
    frames.rmqueue(2, [frames.normal])
    assert frames.requests.single_share == 0.9
    assert frames.requests.hit_rate == 8 / 9


@pytest.mark.parametrize("asks", ["rmqueue_pcp", "rmqueue"])
def test_hits_where_the_first_zone_is_empty(asks: str) -> None:
    """A machine of 16 MB has no NORMAL zone: requests are met from DMA's list all the same (post 000: nine in ten)."""
    memory = PhysicalMemory(32 << 20)
    frames = PgDat(MemMap(memory, 0x200000, FRAMES), [(1024, 1024)], [])
    for _ in range(320):
        if asks == "rmqueue":
            frames.rmqueue(0, [frames.normal, frames.dma])
        else:
            frames.rmqueue_pcp()
    assert (frames.requests.singles, frames.requests.refills) == (320, 10), "a batch is 32 frames"
    assert frames.requests.hit_rate == 310 / 320
    assert [zone.locks for zone in frames.zones] == [10, 0, 0]


def test_what_is_refused_is_neither_hit_nor_miss() -> None:
    frames = make(cpus=1)
    got = 0
    with pytest.raises(OutOfMemory):
        while True:
            frames.rmqueue(0, [frames.normal, frames.dma])
            got += 1
    before = frames.requests.hit_rate
    for _ in range(5):
        for order in (0, 3):
            with pytest.raises(OutOfMemory):
                frames.rmqueue(order, [frames.normal, frames.dma])
    assert frames.requests.singles == got
    assert frames.requests.hit_rate == before > 0.9
    assert frames.requests.single_share == 1


def test_a_drain_takes_the_lock_once() -> None:
    """2.6's free_pages_bulk: one lock for a batch, not one for a frame."""
    frames = make(cpus=1)
    taken = [frames.rmqueue_pcp() for _ in range(97)]
    locks = frames.normal.locks
    for pfn in taken:
        frames.put_page(pfn)
    assert frames.normal.locks == locks + 1, "the list is longer than 96: a batch goes back"
    frames.drain()
    assert frames.normal.locks == locks + 2


def test_without_joining_blocks_stay_small() -> None:
    frames = make(cpus=1, switches=("no-buddy-join", "no-hot-list"))
    with pytest.raises(OutOfMemory):
        while True:
            frames.rmqueue_pcp(True)
    for pfn in range(4500, 4590):
        frames.put_page(pfn)
    assert len(frames.high.lists[0]) == 90


def test_a_hole_has_no_structures() -> None:
    """post 003: without the check, the buddy of a block at the edge of a hole would be looked up."""
    memory = PhysicalMemory(32 << 20)
    pieces: list[int | None] = [0x200000, None]
    for checks in (True, False):
        zone = Zone("Z", 1, [(0, 128)], 0, MemMap(memory, list(pieces), 256), 11)
        zone.checks_holes = checks
        first = zone.rmqueue(7)
        assert first == 0
        if checks:
            zone.free_one_page(0, 7)
            assert list(zone.blocks()) == [(0, 7)]
        else:
            with pytest.raises(NoStructPage):
                zone.free_one_page(0, 7)


def test_a_lying_structure_is_found() -> None:
    zone = make(cpus=1).dma
    pfn = next(pfn for pfn in iter(lambda: zone.rmqueue(0), None) if pfn ^ 1 in zone.lists[0])
    other = pfn ^ 1
    words, at = zone.memmap.words, zone.memmap.at(other)
    assert words[at] & PG_BUDDY
    del zone.lists[0][other]
    with pytest.raises(BadPage, match="no free list has it"):
        zone.free_one_page(pfn, 0)
