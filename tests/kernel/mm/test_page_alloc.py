"""Requests by level, order and zone on a booted kernel: reserves, reclaim, clearing, DMA, failures (MM 2, post 002)."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.wait import WrongContext
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm import watermarks
from sandbox.kernel.mm.gfp import (
    DMA,
    GFP_ATOMIC,
    GFP_BUFFER,
    GFP_HIGHUSER,
    GFP_IO,
    GFP_KERNEL,
    GFP_NFS,
    HIGHMEM,
    LEVELS,
    describe,
)
from sandbox.kernel.mm.page import BadPage
from sandbox.kernel.mm.page_alloc import dma_crosses
from tests.kernel.mm.conftest import MakeSpace
from tests.kernel.mm.machines import PAGE, boot, load, physical, store

ATOMIC, KERNEL, BUFFER, NFS, IO = GFP_ATOMIC, GFP_KERNEL, GFP_BUFFER, GFP_NFS, GFP_IO


class Requests(RuleBasedStateMachine):
    """Random requests of guest kernel code's kind on 5 MB, so that memory runs short."""

    watermarks = "2.0"

    def __init__(self) -> None:
        super().__init__()
        self.kernel = boot(ram=5 << 20, policies={"watermarks": self.watermarks})
        self.held: dict[int, int] = {}
        self.total = self.kernel.pgdat.free_frames

    @rule(level=st.sampled_from(range(len(LEVELS))), order=st.integers(0, 6), dma=st.booleans(), clear=st.booleans())
    def get(self, level: int, order: int, dma: bool, clear: bool) -> None:
        pages = self.kernel.page_alloc
        before = self.kernel.pgdat.free_frames
        ask = pages.get_free_pages if clear else pages.get_free_pages_unclear
        address = ask(level | (DMA if dma else 0), order)
        if not address:
            assert self.kernel.pgdat.free_frames == before
            return
        assert order < 6
        assert (address - PAGE_OFFSET) % (PAGE << order) == 0
        assert physical(self.kernel, address) == address - PAGE_OFFSET
        if level != GFP_ATOMIC and self.watermarks == "2.0":
            assert before > (5 if level == GFP_NFS else 0)
        if level == GFP_KERNEL and self.watermarks != "2.4":
            assert before > pages.min_free, "an ordinary request leaves the reserve alone"
        if clear:
            assert load(self.kernel, address) == load(self.kernel, address + (PAGE << order) - 4) == 0
        store(self.kernel, address, address)
        store(self.kernel, address + (PAGE << order) - 4, address)
        self.held[address] = order

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.held)))
        order = self.held.pop(address)
        assert load(self.kernel, address) == address, "nobody else wrote to it"
        self.kernel.page_alloc.free_linear(address, order)
        with pytest.raises(BadPage):
            self.kernel.page_alloc.free_linear(address, order)

    @rule(address=st.sampled_from([0, 0x1000, 0xBFFFF000, PAGE_OFFSET, PAGE_OFFSET + 0xA0000, 0xFFFFF000]))
    def free_what_is_nobodys(self, address: int) -> None:
        self.kernel.page_alloc.free_linear(address, 0)

    @invariant()
    def totals(self) -> None:
        held = sum(1 << order for order in self.held.values())
        assert self.kernel.pgdat.free_frames == self.total - held


class Requests24(Requests):
    watermarks = "2.4"


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=8, stateful_step_count=60, deadline=None)
TestRequests24 = Requests24.TestCase
TestRequests24.settings = settings(max_examples=6, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize(
    ("policy", "frames", "least"),
    [
        ("2.0", 4096, 56),
        ("2.0", 1000, 48),
        ("2.2", 1000, 10),
        ("2.2", 100_000, 256),
        ("2.4", 1000, 20),
        ("2.4", 1 << 20, 255),
    ],
)
def test_the_reserve(policy: str, frames: int, least: int) -> None:
    """MM 2: 2.0 max(n/128, 24) + 24; 2.2 n/128 from 10 to 256; 2.4 from 20 to 255."""
    kernel = boot(policies={"watermarks": policy})
    assert watermarks.reserve(policy, frames) == least
    low, high = (1.5, 2) if policy == "2.0" else (2, 3)
    mine = kernel.page_alloc.min_free
    assert kernel.page_alloc.marks == (mine, int(mine * low), mine * high)


def exhaust(space: MakeSpace, level: int, **config: object) -> int:
    """Frames that are free when a level gives up."""
    kernel = space(ram=16 << 20, **config).kernel
    with pytest.raises(OutOfMemory):
        while True:
            kernel.page_alloc.alloc_pages(level)
    return kernel.pgdat.free_frames


def test_levels_stop_at_their_marks(space: MakeSpace) -> None:
    """2.0: ATOMIC goes to nothing, NFS to 5, IO (and BUFFER) have 12 + reserve/8 off, KERNEL keeps the reserve."""
    kernel = space(ram=16 << 20).kernel
    least = kernel.page_alloc.min_free
    assert least >= 48
    assert exhaust(space, KERNEL) == least
    assert exhaust(space, IO) == least - 12 - least // 8
    assert exhaust(space, NFS) == 5
    assert exhaust(space, ATOMIC) == 0
    assert exhaust(space, KERNEL, switches=frozenset(["no-watermark"])) == 0


def test_buffer_reclaims_or_fails(space: MakeSpace) -> None:
    """Post 002 says that GFP_BUFFER will swap; in 1.0 to 2.0 it is the one that never reclaims (MM 0)."""
    for policy, freed in (("reclaim", True), ("fail", False)):
        made = space(ram=8 << 20, policies={"gfp_buffer": policy})
        kernel = made.kernel
        kernel.pagecache.find_page(made.session._inode, 0)
        cached = len(kernel.pagecache)
        with pytest.raises(OutOfMemory):
            while True:
                kernel.page_alloc.alloc_pages(BUFFER)
        assert (len(kernel.pagecache) < cached) == freed
        assert bool(kernel.page_alloc.pressure.reclaims) == freed


def test_zones_keep_their_marks_in_2_4() -> None:
    kernel = boot(ram=20 << 20, policies={"watermarks": "2.4"})
    frames = kernel.pgdat
    with pytest.raises(OutOfMemory, match="every zone is at its mark"):
        while True:
            kernel.page_alloc.alloc_pages(KERNEL)
    assert frames.zone_free(frames.normal) > 0
    assert frames.zone_free(frames.dma) > 0
    pfn = kernel.page_alloc.alloc_pages(ATOMIC)
    assert pfn


@pytest.mark.parametrize("policy", ["zones", "park"])
def test_dma_lies_low(policy: str) -> None:
    kernel = boot(ram=24 << 20, policies={"dma": policy})
    free = kernel.pgdat.free_frames
    for order in range(6):
        pfn = kernel.page_alloc.alloc_pages(KERNEL | DMA, order)
        assert pfn + (1 << order) <= 4096
        kernel.page_alloc.free_pages(pfn, order)
    assert kernel.pgdat.free_frames == free, "what was parked came back"
    assert bool(kernel.page_alloc.pressure.parked) == (policy == "park")


def test_dma_pages_keep_their_contents() -> None:
    """Post 002 and MM 2: the forms with two underlines do not clear, ``__get_dma_pages`` neither."""
    kernel = boot()
    pages = kernel.page_alloc
    address = pages.get_dma_pages(KERNEL, 1)
    store(kernel, address + PAGE, 0x12345678)
    pages.free_linear(address, 1)
    assert pages.get_dma_pages(KERNEL, 1) == address
    assert load(kernel, address + PAGE) == 0x12345678
    pages.free_linear(address, 1)
    assert pages.get_free_pages(KERNEL | DMA, 1) == address
    assert load(kernel, address + PAGE) == 0


def test_highmem_has_no_address() -> None:
    kernel = boot(ram=32 << 20, boot="highmem=8m")
    assert kernel.page_alloc.alloc_pages(KERNEL | HIGHMEM) >= 6144
    address = kernel.page_alloc.get_free_pages_unclear(KERNEL | HIGHMEM, 0)
    assert address - PAGE_OFFSET < 24 << 20, "a call that returns an address never returns a highmem page"


@pytest.mark.parametrize("marks", ["2.0", "2.2", "2.4"])
def test_free_highmem_is_no_reserve_of_lowmem(marks: str) -> None:
    """64 MB, 40 of them highmem: GFP_KERNEL stops at the mark of lowmem, where there is one mark it counts lowmem only.

    MM 2: 2.0 max(n/128, 24) + 24 and 2.2 n/128, for n frames of lowmem; 2.4 at least 20 for each zone.
    """
    kernel = boot(ram=64 << 20, boot="highmem=40m", policies={"watermarks": marks})
    pages, frames = kernel.page_alloc, kernel.pgdat
    low = frames.dma.total + frames.normal.total
    least = {"2.0": max(low // 128, 24) + 24, "2.2": max(low // 128, 10), "2.4": 40}[marks]
    with pytest.raises(OutOfMemory):
        while True:
            pages.alloc_pages(KERNEL)
    assert frames.low_free == least or (marks == "2.4" and frames.low_free > least)
    assert frames.zone_free(frames.high) == frames.high.total
    with pytest.raises(OutOfMemory):
        pages.alloc_page()
    assert pages.alloc_pages(KERNEL | HIGHMEM) >= 24 << 8, "highmem needs no lowmem"
    assert pages.alloc_page(GFP_HIGHUSER) >= 24 << 8
    got = 0
    with pytest.raises(OutOfMemory):
        while True:
            pages.alloc_pages(ATOMIC)
            got += 1
    assert got >= least
    assert frames.low_free == 0
    assert pages.alloc_pages(ATOMIC | HIGHMEM) >= 24 << 8


@pytest.mark.parametrize("marks", ["2.0", "2.2", "2.4"])
def test_highmem_requests_stop_at_the_mark_of_lowmem(marks: str) -> None:
    """They fall back downwards, as far as everybody may: the last frames are GFP_ATOMIC's (MM 2)."""
    kernel = boot(ram=64 << 20, boot="highmem=40m", policies={"watermarks": marks})
    with pytest.raises(OutOfMemory):
        while True:
            kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    frames = kernel.pgdat
    assert frames.zone_free(frames.high) <= 130, "2.4 keeps a mark of it too"
    assert frames.low_free >= watermarks.reserve(marks, frames.dma.total)
    assert kernel.page_alloc.get_free_pages_unclear(ATOMIC, 0)


def test_faults_keep_each_zones_mark_in_2_4() -> None:
    kernel = boot(ram=24 << 20, policies={"watermarks": "2.4"})
    with pytest.raises(OutOfMemory, match="every zone is at its mark"):
        while True:
            kernel.page_alloc.alloc_page()
    frames = kernel.pgdat
    assert all(frames.zone_free(zone) >= 20 for zone in (frames.dma, frames.normal)), "n/128, at least 20"


def test_orders_are_the_versions() -> None:
    for orders in ("6", "10", "11"):
        kernel = boot(ram=24 << 20, policies={"orders": orders})
        most = int(orders) - 1
        assert kernel.page_alloc.get_free_pages_unclear(KERNEL, most)
        assert not kernel.page_alloc.get_free_pages_unclear(KERNEL, most + 1)


GFP_COMPLAINT = b"gfp called nonatomically from interrupt"


def drained(**policies: str) -> Kernel:
    """A kernel in an interrupt with all frames taken but the reserve, and nothing to reclaim."""
    kernel = boot(policies=policies)
    while kernel.page_alloc.get_free_pages_unclear(KERNEL):
        pass
    assert kernel.pgdat.free_frames >= 20
    kernel.this_cpu.in_interrupt = True
    return kernel


def answers(kernel: Kernel, times: int = 8) -> list[bool]:
    return [bool(kernel.page_alloc.get_free_pages_unclear(KERNEL)) for _ in range(times)]


def test_the_fifth_request_in_an_interrupt_is_not_lowered() -> None:
    """mm/page_alloc.c of 2.0.40: ``if (++count < 5)`` stands in front of the complaint and of the new level."""
    kernel = drained()
    assert answers(kernel) == [True] * 4 + [False] * 4
    assert kernel.log.text.count(GFP_COMPLAINT) == kernel.page_alloc.pressure.downgraded == 4
    assert kernel.page_alloc.get_free_pages_unclear(ATOMIC)
    assert kernel.log.text.count(GFP_COMPLAINT) == 4


def test_the_fifth_request_reclaims_as_it_was_asked() -> None:
    """2.0.40 has no second look at the interrupt in front of try_to_free_page."""
    kernel = boot()
    pages = kernel.page_alloc
    held = []
    while linear := pages.get_free_pages_unclear(KERNEL):
        held.append(linear)
    reserve = kernel.pgdat.free_frames

    def give(wanted: int) -> int:
        some = [held.pop() for _ in range(min(10, len(held)))]
        for each in some:
            pages.free_linear(each)
        return len(some)

    pages._shrinkers.register(give)
    kernel.this_cpu.in_interrupt = True
    assert answers(kernel, 4) == [True] * 4
    assert kernel.pgdat.free_frames == reserve - 4
    before = len(held)
    assert answers(kernel, 1) == [True]
    assert (before - len(held), kernel.pgdat.free_frames) == (10, reserve + 5)


def test_with_frames_to_spare_the_fifth_is_served() -> None:
    kernel = boot()
    kernel.this_cpu.in_interrupt = True
    assert answers(kernel) == [True] * 8
    assert kernel.log.text.count(GFP_COMPLAINT) == 4


@pytest.mark.parametrize(("version", "complaints"), [("2.2", 0), ("2.2-debug", 4)])
def test_later_versions_lower_none(version: str, complaints: int) -> None:
    """2.2.26: under ATOMIC_MEMORY_DEBUGGING ``goto out`` for all; without, nobody looks."""
    kernel = drained(nonatomic=version)
    assert answers(kernel) == [False] * 8
    assert kernel.log.text.count(GFP_COMPLAINT) == complaints
    served = boot(policies={"nonatomic": version})
    served.this_cpu.in_interrupt = True
    assert answers(served) == [version == "2.2"] * 8
    assert served.page_alloc.get_free_pages_unclear(ATOMIC)


def test_waiting_in_an_interrupt_is_a_bug_of_the_driver() -> None:
    """2.4.0: "it will sooner or later tripped up by a schedule()"."""
    kernel = drained(nonatomic="2.4")
    with pytest.raises(WrongContext, match=r"GFP_KERNEL.*in an interrupt"):
        kernel.page_alloc.alloc_pages(KERNEL)
    assert kernel.page_alloc.alloc_pages(ATOMIC)
    assert not kernel.log.text


def test_shares_with_and_without_interrupts() -> None:
    """Post 000: "90% of page allocations are for single pages (outside of an interrupt)"."""
    kernel = boot()
    for order in [0] * 9 + [1]:
        kernel.page_alloc.alloc_pages(KERNEL, order)
    requests = kernel.pgdat.requests
    before = requests.singles, requests.blocks
    assert (requests.interrupt_singles, requests.interrupt_blocks) == (0, 0)
    kernel.this_cpu.in_interrupt = True
    for order in (0, 2, 2, 1):
        kernel.page_alloc.alloc_pages(ATOMIC, order)
    assert kernel.page_alloc.get_free_pages_unclear(ATOMIC, 9) == 0, "what is not served is not counted"
    assert (requests.interrupt_singles, requests.interrupt_blocks) == (1, 3)
    assert requests.outside_share == before[0] / sum(before)
    assert requests.single_share == (before[0] + 1) / (sum(before) + 4)


def test_faults_keep_the_reserve(space: MakeSpace) -> None:
    made = space(ram=8 << 20)
    made.map(4096)
    at = 0x50000000
    while made.write(at, 1):
        at += PAGE
    assert made.kernel.pgdat.free_frames >= made.kernel.page_alloc.min_free - 1
    assert made.kernel.page_alloc.get_free_pages_unclear(ATOMIC, 0)


@pytest.mark.parametrize(
    ("start", "size", "boundary", "crosses"),
    [(0, 0x10000, 0x10000, False), (1, 0x10000, 0x10000, True), (0xFFFF, 1, 0x10000, False), (0xFFFF, 2, 0x10000, True),
     (0x10000, 0x10000, 0x20000, False), (0x1FFFF, 2, 0x20000, True), (0xFFFF, 0, 0x10000, False)],
)  # fmt: skip
def test_isa_boundaries(start: int, size: int, boundary: int, crosses: bool) -> None:
    assert dma_crosses(start, size, boundary) == crosses


def test_the_nth_request_fails() -> None:
    kernel = boot()
    kernel.page_alloc.failing.at = 3
    kernel.page_alloc.alloc_page()
    kernel.page_alloc.alloc_pages(KERNEL, 2)
    with pytest.raises(OutOfMemory, match="request 3 for frames fails, as asked for"):
        kernel.page_alloc.alloc_pages(ATOMIC)
    kernel.page_alloc.alloc_page()
    assert kernel.page_alloc.pressure.injected == 1


def test_words_for_levels() -> None:
    assert describe(KERNEL | DMA) == "GFP_KERNEL | GFP_DMA"
    assert describe(0x33) == "0x33"


@pytest.mark.parametrize("order", [0, 2])
def test_reserved_too_late(order: int) -> None:
    """MM 5: a page that is marked as reserved when it is on the free list already."""
    kernel = boot()
    address = kernel.page_alloc.get_free_pages_unclear(KERNEL, order)
    kernel.page_alloc.free_linear(address, order)
    store(kernel, kernel.model.struct_page(address - PAGE_OFFSET >> 12), 0)
    with pytest.raises(BadPage, match="marked as reserved when it was on the free list already"):
        for _ in range(4096):
            kernel.page_alloc.alloc_pages(KERNEL, order)


@pytest.mark.parametrize("marks", ["2.0", "2.4"])
def test_absurd_orders(marks: str) -> None:
    """Refused at once: nothing is reclaimed, and no number of 2^32 bits is made."""
    kernel = boot(policies={"watermarks": marks})
    for order in (6, 31, 0xFFFFFFFF):
        assert kernel.page_alloc.get_free_pages_unclear(KERNEL, order) == 0
        with pytest.raises(BadPage, match="blocks have 0 to 5"):
            kernel.page_alloc.free_pages(0x800, order)
    assert kernel.page_alloc.pressure.reclaims == 0
