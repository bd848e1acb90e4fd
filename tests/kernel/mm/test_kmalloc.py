"""kmalloc under every version's rules: pieces, headers in guest memory, areas, and wrong frees caught (MM 3)."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.gfp import DMA, GFP_ATOMIC, GFP_KERNEL
from sandbox.kernel.mm.kmalloc import BUCKETS, DESCRIPTOR, FREE, HEADER, SLAB_SIZES, USED, USED_DMA
from sandbox.kernel.mm.page import PG_SLAB, BadPage
from sandbox.kernel.module.hypercall import GuestKernelBug
from tests.kernel.mm.machines import PAGE, boot, load, store

KERNEL, ATOMIC = GFP_KERNEL, GFP_ATOMIC
LARGEST = 131048


class Pieces(RuleBasedStateMachine):
    """Random pieces on 20 MB; ``live`` is the model: (size, DMA) by address."""

    version = "1.3"

    def __init__(self) -> None:
        super().__init__()
        self.kernel = boot(ram=20 << 20, policies={"kmalloc": self.version})
        self.live: dict[int, tuple[int, bool]] = {}
        self.free = self.kernel.pgdat.free_frames

    @rule(size=st.one_of(st.integers(0, 300), st.integers(0, LARGEST + 100)), dma=st.booleans())
    def kmalloc(self, size: int, dma: bool) -> None:
        kernel = self.kernel
        address = kernel.kmalloc.kmalloc(size, KERNEL | (DMA if dma else 0))
        if not address:
            assert size > kernel.kmalloc.largest
            return
        assert size <= kernel.kmalloc.largest
        end = address + size
        for other, (length, _) in self.live.items():
            assert end <= other or other + length <= address, "no two pieces meet"
        if dma:
            assert end - PAGE_OFFSET <= 16 << 20
        self.live[address] = size, dma
        if size >= 4:
            store(kernel, address, address ^ 0x5A5A5A5A)
        if self.version != "2.1":
            assert load(kernel, address - 8) == (USED_DMA if dma else USED)
            assert load(kernel, address - 4) == size

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def kfree(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.live)))
        size, _ = self.live.pop(address)
        if size >= 4:
            assert load(self.kernel, address) == address ^ 0x5A5A5A5A
        self.kernel.kmalloc.kfree(address)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), offset=st.sampled_from([4, 8, 16, 24]))
    def free_inside(self, data: st.DataObject, offset: int) -> None:
        address = data.draw(st.sampled_from(sorted(self.live)))
        if self.live[address][0] > offset + 8 and address + offset not in self.live:
            with pytest.raises(GuestKernelBug):
                self.kernel.kmalloc.kfree(address + offset)

    @rule(address=st.sampled_from([0x1000, PAGE_OFFSET, PAGE_OFFSET + 0x100000, 0xBFFFFFF0, 0xFFFFFFF0]))
    def free_what_is_nobodys(self, address: int) -> None:
        with pytest.raises(GuestKernelBug, match="non-kmalloced"):
            self.kernel.kmalloc.kfree(address)

    @rule()
    def free_nothing(self) -> None:
        self.kernel.kmalloc.kfree(0)

    @invariant()
    def areas_are_right(self) -> None:
        kernel = self.kernel
        assert kernel.kmalloc.live == len(self.live)
        assert kernel.kmalloc.pages == self.free - kernel.pgdat.free_frames, "pages match live areas"
        listed = [start for bucket in kernel.kmalloc.buckets for areas in bucket.areas for start in areas]
        assert len(listed) == len(set(listed))
        for start, area in kernel.kmalloc.areas.items():
            bucket = kernel.kmalloc.buckets[area.bucket]
            pfn = start - PAGE_OFFSET >> 12
            assert kernel.memmap.flags(pfn) & PG_SLAB
            assert kernel.memmap.count(pfn) == 1
            if area.free is None:
                free = self.free_list(start, bucket.pieces)
                assert len(free) == load(kernel, start + 12)
                assert all((each - start - DESCRIPTOR) % bucket.size == 0 for each in free)
                assert (start in listed) == bool(free), "a full area is on no list"
            else:
                assert (start in listed) == bool(area.free)

    def free_list(self, start: int, most: int) -> list[int]:
        """The chain in guest memory."""
        found = []
        at = load(self.kernel, start + 4)
        while at:
            assert load(self.kernel, at) == FREE
            found.append(at)
            assert len(found) <= most
            at = load(self.kernel, at + 4)
        return found


class Pieces10(Pieces):
    version = "1.0"


class Pieces12(Pieces):
    version = "1.2"


class Slab(Pieces):
    version = "2.1"


TestPieces = Pieces.TestCase
TestPieces10 = Pieces10.TestCase
TestPieces12 = Pieces12.TestCase
TestSlab = Slab.TestCase
for _case in (TestPieces, TestPieces10, TestPieces12, TestSlab):
    _case.settings = settings(max_examples=6, stateful_step_count=40, deadline=None)
del _case


@pytest.mark.parametrize("version", ["1.3", "1.0", "1.2", "2.0", "2.1"])
def test_the_largest(version: str) -> None:
    """131048 bytes: 128 KB less the header and a bit; 4072 in 1.0; 131072 with the slab (MM 3)."""
    kernel = boot(policies={"kmalloc": version})
    largest = {"1.0": 4072, "2.1": 131072}.get(version, LARGEST)
    assert kernel.kmalloc.largest == largest
    address = kernel.kmalloc.kmalloc(largest, KERNEL)
    assert address
    kernel.kmalloc.kfree(address)
    assert not kernel.kmalloc.kmalloc(largest + 1, KERNEL)
    assert b"kmalloc of too large a block" in kernel.log.text


@pytest.mark.parametrize("version", ["1.3", "1.0", "2.0"])
def test_kmalloc_counts_for_itself(version: str) -> None:
    """mm/kmalloc.c of 1.0.9 and 2.0.40 has a ``count`` of its own in front of __get_free_pages's."""
    kernel = boot(policies={"kmalloc": version})
    assert kernel.kmalloc.kmalloc(4000, ATOMIC)
    assert not kernel.log.text
    kernel.this_cpu.in_interrupt = True
    for _ in range(4):
        assert kernel.kmalloc.kmalloc(4000, KERNEL)
    complaint = b"kmalloc called nonatomically from interrupt: GFP_KERNEL\n"
    assert bytes(kernel.log.text) == 4 * complaint
    for _ in range(6):
        assert kernel.kmalloc.kmalloc(4000, KERNEL)
    assert bytes(kernel.log.text) == 4 * complaint + 4 * complaint.replace(b"kmalloc", b"gfp")


def test_slab_says_so_whenever_it_grows() -> None:
    """mm/slab.c of 2.2.26, kmem_cache_grow: no count; pieces of an area that is there are given without a word."""
    kernel = boot(policies={"kmalloc": "2.1", "nonatomic": "2.2"})
    kernel.this_cpu.in_interrupt = True
    for _ in range(3 * 128):
        assert kernel.kmalloc.kmalloc(32, KERNEL)
    assert bytes(kernel.log.text) == 3 * b"kmem_grow: Called nonatomically from int - size-32\n"


def test_the_buckets_are_the_posts() -> None:
    """MM 3: sizes with the header, and pieces of an area; each fits into its order with the descriptor."""
    assert [size for size, _, _ in BUCKETS] == [
        32, 64, 128, 252, 508, 1020, 2040, 4080, 8176, 16368, 32752, 65520, 131056
    ]  # fmt: skip
    assert [pieces for _, pieces, _ in BUCKETS][:8] == [127, 63, 31, 16, 8, 4, 2, 1]
    for size, pieces, order in BUCKETS:
        assert DESCRIPTOR + size * pieces <= PAGE << order
    assert SLAB_SIZES[0] == 32
    assert SLAB_SIZES[-1] == 131072


def test_twice() -> None:
    kernel = boot()
    address, _ = kernel.kmalloc.kmalloc(40, KERNEL), kernel.kmalloc.kmalloc(40, KERNEL)
    kernel.kmalloc.kfree(address)
    with pytest.raises(GuestKernelBug, match="freed twice"):
        kernel.kmalloc.kfree(address)


def test_twice_with_the_area_gone() -> None:
    kernel = boot()
    address = kernel.kmalloc.kmalloc(40, KERNEL)
    kernel.kmalloc.kfree(address)
    with pytest.raises(GuestKernelBug, match="has given back, freed twice"):
        kernel.kmalloc.kfree(address)


def test_a_header_that_was_overwritten() -> None:
    kernel = boot()
    address, other = kernel.kmalloc.kmalloc(40, KERNEL), kernel.kmalloc.kmalloc(40, KERNEL)
    store(kernel, address - HEADER, 0xDEADBEEF)
    with pytest.raises(GuestKernelBug, match="header was overwritten, flag word 0xdeadbeef"):
        kernel.kmalloc.kfree(address)
    kernel.kmalloc.kfree(other)
    store(kernel, other - HEADER, 0x12345678)
    with pytest.raises(GuestKernelBug, match="the free list leads to"):
        kernel.kmalloc.kmalloc(40, KERNEL)


def test_a_pointer_into_a_piece_with_what_looks_like_a_header() -> None:
    """The flag word in front says USED, because the caller stored it there: the place in the area tells."""
    kernel = boot()
    address = kernel.kmalloc.kmalloc(40, KERNEL)
    store(kernel, address + 16 - HEADER, USED)
    with pytest.raises(GuestKernelBug, match="inside a piece of 64 bytes, not at its start"):
        kernel.kmalloc.kfree(address + 16)


def test_pages_of_kmalloc_are_not_freed_as_pages() -> None:
    kernel = boot()
    address = kernel.kmalloc.kmalloc(5000, KERNEL)
    with pytest.raises(BadPage, match="kmalloc area"):
        kernel.page_alloc.free_linear(address & -PAGE, 1)


def test_dma_memory_leaks_into_general_use_in_1_2() -> None:
    """MM 3: 1.2 puts an area for DMA that was full on the list for all when a piece of it comes back."""
    for version, leaks in (("1.2", True), ("1.3", False)):
        kernel = boot(ram=32 << 20, policies={"kmalloc": version})
        pieces = [kernel.kmalloc.kmalloc(1000, KERNEL | DMA) for _ in range(4)]
        kernel.kmalloc.kfree(pieces[0])
        found = kernel.kmalloc.kmalloc(1000, KERNEL)
        assert (found == pieces[0]) == leaks
        assert (found - PAGE_OFFSET < 16 << 20) == leaks


def test_spare_areas_are_read_by_bucket_in_2_0() -> None:
    """MM 3: kept by page order and taken by bucket: 8 KB come to serve pieces of 64 bytes and are freed as 4 KB."""
    kernel = boot(policies={"kmalloc": "2.0"})
    large = kernel.kmalloc.kmalloc(8000, KERNEL)
    kernel.kmalloc.kfree(large)
    assert kernel.kmalloc.spare_pages == 2
    small = kernel.kmalloc.kmalloc(50, KERNEL)
    assert small & -PAGE == large & -PAGE
    assert kernel.kmalloc.spare_pages == 0
    again = kernel.kmalloc.kmalloc(4000, KERNEL)
    kernel.kmalloc.kfree(again)
    kernel.kmalloc.kfree(small)
    assert kernel.kmalloc.lost == 1, "the second page of the 8 KB is nobody's now"


def test_nothing_is_left_when_memory_runs_out() -> None:
    kernel = boot(ram=5 << 20)
    free = kernel.pgdat.free_frames
    pieces = []
    while address := kernel.kmalloc.kmalloc(3000, KERNEL):
        pieces.append(address)
    assert kernel.pgdat.free_frames == kernel.page_alloc.min_free
    assert kernel.kmalloc.kmalloc(3000, ATOMIC)
    for address in pieces:
        kernel.kmalloc.kfree(address)
    assert kernel.pgdat.free_frames == free - 1


def test_report() -> None:
    kernel = boot()
    kernel.kmalloc.kmalloc(100, KERNEL)
    assert kernel.kmalloc.report().strip() == "128 bytes: 1 areas of 1 pages, 1 requests"
