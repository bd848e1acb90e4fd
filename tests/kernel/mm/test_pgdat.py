"""The frame allocator against a model: totals, owners, double frees, zones, deferred opening."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.mm import mmzone as zone
from sandbox.kernel.mm.page import PG_HIGHMEM, PG_TABLE, BadPage, MemMap
from sandbox.kernel.mm.pgdat import PgDat
from sandbox.machine.memory import PhysicalMemory

LOW, HIGH = [(1, 15), (600, 20)], [(1000, 30)]
OWNED = {*range(1, 16), *range(600, 620)}
HIGH_OWNED = set(range(1000, 1030))


def allocator(low: list[tuple[int, int]] = LOW, high: list[tuple[int, int]] = HIGH) -> PgDat:
    memory = PhysicalMemory(8 << 20)
    return PgDat(MemMap(memory, 0x200000, 2048), low, high)


class Machine(RuleBasedStateMachine):
    """Random requests; ``held`` is the model: references by frame."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = allocator()
        self.held: dict[int, int] = {}

    @rule(highmem=st.booleans())
    def alloc(self, highmem: bool) -> None:
        free = (OWNED | (HIGH_OWNED if highmem else set())) - self.held.keys()
        if not free:
            with pytest.raises(OutOfMemory):
                self.allocator.rmqueue_pcp(highmem)
            return
        pfn = self.allocator.rmqueue_pcp(highmem)
        assert pfn in free
        if highmem and HIGH_OWNED - self.held.keys():
            assert pfn in HIGH_OWNED
        assert self.allocator.memmap.count(pfn) == 1
        self.held[pfn] = 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        pfn = data.draw(st.sampled_from(sorted(self.held)))
        self.allocator.memmap.get_page(pfn)
        self.held[pfn] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def put(self, data: st.DataObject) -> None:
        pfn = data.draw(st.sampled_from(sorted(self.held)))
        self.held[pfn] -= 1
        assert self.allocator.put_page(pfn) == (self.held[pfn] == 0)
        if not self.held[pfn]:
            del self.held[pfn]
            with pytest.raises(BadPage):
                self.allocator.put_page(pfn)

    @rule(pfn=st.sampled_from([0, 16, 599, 620, 2000]))
    def put_reserved(self, pfn: int) -> None:
        assert not self.allocator.put_page(pfn)

    @invariant()
    def totals(self) -> None:
        every = self.allocator
        assert every.total_frames == len(OWNED) + len(HIGH_OWNED)
        assert every.free_frames + len(self.held) == every.total_frames
        free = list(every.free_list())
        assert len(free) == len(set(free))
        assert not self.held.keys() & set(free)
        assert all(every.memmap.count(pfn) == count for pfn, count in self.held.items())


TestFrames = Machine.TestCase
TestFrames.settings = settings(max_examples=40, stateful_step_count=60, deadline=None, derandomize=True)


def test_frames_are_opened_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone, "OPEN_BLOCK", 8)
    every = allocator([(600, 20)], [])
    assert every.memmap.reserved(600)
    assert every.rmqueue_pcp() == 600
    assert [every.memmap.reserved(pfn) for pfn in (607, 608)] == [False, True]
    assert every.free_frames == 19
    assert sorted(every.rmqueue_pcp() for _ in range(19)) == list(range(601, 620))


def test_last_freed_first_used() -> None:
    every = allocator()
    first, second = every.rmqueue_pcp(), every.rmqueue_pcp()
    every.put_page(first)
    every.put_page(second)
    assert every.rmqueue_pcp() == second


def test_a_list_is_filled_with_a_block_of_32() -> None:
    """32 frames, a block of 2.0's largest order (MM 2: NR_MEM_LISTS 6), are taken with the zone's lock once."""
    every = allocator([(1024, 512)], [])
    taken = [every.rmqueue_pcp() for _ in range(33)]
    assert every.requests.refills == every.normal.locks + every.dma.locks == 2
    assert len(every.pcp_frames(every.dma)[0]) == 31
    assert len({pfn // 32 for pfn in taken[:32]}) == 1


def test_a_block_is_made_of_frames_that_lists_held() -> None:
    """Frames on a CPU's list are free: a request for a block gets them joined before it fails."""
    every = allocator([(1024, 32)], [])
    for pfn in [every.rmqueue_pcp() for _ in range(32)]:
        every.put_page(pfn)
    assert every.dma.listed == 0, "all are on the list"
    assert every.rmqueue(5, [every.dma]) == 1024


def test_freeing_forgets_flags_but_not_the_zone() -> None:
    every = allocator()
    pfn = every.rmqueue_pcp(highmem=True)
    every.memmap.set_flags(pfn, every.memmap.flags(pfn) | PG_TABLE)
    every.put_page(pfn)
    assert every.memmap.flags(pfn) & PG_HIGHMEM
    assert not every.memmap.flags(pfn) & PG_TABLE
    assert pfn in every.free_list()
    assert every.zone_of(pfn) is every.high


def test_a_free_frame_with_a_count_is_noticed() -> None:
    every = allocator()
    pfn = every.rmqueue_pcp()
    every.put_page(pfn)
    every.memmap.get_page(pfn)
    with pytest.raises(BadPage):
        every.rmqueue_pcp()


def test_out_of_memory_says_how_much_there_is() -> None:
    every = allocator([(1, 1)], [])
    every.rmqueue_pcp()
    with pytest.raises(OutOfMemory) as caught:
        every.rmqueue_pcp(highmem=True)
    assert "0 of 1" in caught.value.detail
