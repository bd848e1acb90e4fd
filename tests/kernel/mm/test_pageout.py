"""Reclaim of mapped file pages: what a program reads and what its files hold stay the same (MM 9, MM 10, post 000).

Expectations: a read-only mapping reads as the file does, a shared one's stores are in the file when the page has gone
(mmap(2), MAP_SHARED), mlock(2)'s pages stay, and a block of 2^order frames is made of pages that complete it only.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.image.build import IMAGES
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.fs.ramfs import RamFile, RamFs
from sandbox.kernel.mm.gfp import DMA, GFP_BUFFER, GFP_KERNEL
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from sandbox.kernel.mm.pageout import PageOut
from sandbox.kernel.mm.pte import MAPPED
from sandbox.kernel.mm.vma import VM_LOCKED
from sandbox.kernel.mm.vmscan import Need
from sandbox.kernel.process.fork import dup_mm
from sandbox.kernel.vfs.inode import Inode
from sandbox.runner.run import Session
from sandbox.runner.target import resolve
from sandbox.x86.paging import A, P
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.machines import boot


def make_file(pages: int) -> RamFile:
    """Page n begins with the word n + 1."""
    data = b"".join((number + 1).to_bytes(4, "little").ljust(PAGE, b"\0") for number in range(pages))
    return RamFs().file(data, name="/f")


def map_file(made: Space, inode: Inode, pages: int, flags: int, prot: int = 3, at: int = AREA) -> None:
    made.kernel.mmap.do_mmap(made.task, at, pages * PAGE, prot, flags | MAP_FIXED, inode, 0)


def pageout(made: Space) -> PageOut:
    return made.kernel.page_alloc._shrinkers.shrinkers[-1].__self__  # type: ignore[attr-defined]


def need(made: Space, frames: int = 64, **more: object) -> Need:
    return Need(made.kernel.pgdat.zones, frames, **more)  # type: ignore[arg-type]


def in_file(inode: RamFile, page: int) -> int:
    return int.from_bytes(inode.read_block(page)[:4], "little")


@pytest.fixture
def no_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapped pages go however few there are."""
    monkeypatch.setattr("sandbox.kernel.mm.pageout.MINIMUM_PERCENT", 0)


@pytest.mark.parametrize("flags", [MAP_PRIVATE, MAP_SHARED])
def test_a_file_larger_than_memory(space: MakeSpace, paging: str, flags: int) -> None:
    """8 MB of RAM, 12 MB of a file: all is read, twice, and nothing of the reserve is taken."""
    made = space(paging=paging, ram=8 << 20)
    inode = make_file(3000)
    map_file(made, inode, 3000, flags, prot=1)
    for _ in range(2):
        assert [made.read(AREA + page * PAGE) for page in range(3000)] == list(range(1, 3001))
    assert made.kernel.pgdat.low_free >= made.kernel.page_alloc.min_free - 1


def test_stores_reach_the_file(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging, ram=8 << 20)
    inode = make_file(3000)
    map_file(made, inode, 3000, MAP_SHARED)
    for page in range(3000):
        assert made.write(AREA + page * PAGE, ~page & 0xFFFFFFFF)
    gone = [page for page in range(3000) if not made.entry(AREA + page * PAGE) & P]
    assert len(gone) > 1000
    assert all(in_file(inode, page) == ~page & 0xFFFFFFFF for page in gone)
    assert [made.read(AREA + page * PAGE) for page in range(3000)] == [~page & 0xFFFFFFFF for page in range(3000)]


def test_private_copies_stay(space: MakeSpace) -> None:
    """A private page that was written is no page of the file; the store is kept and the file does not see it."""
    made = space(ram=8 << 20)
    inode = make_file(3000)
    map_file(made, inode, 3000, MAP_PRIVATE)
    for page in range(0, 3000, 7):
        assert made.write(AREA + page * PAGE, 7777)
    assert [made.read(AREA + page * PAGE) for page in range(3000)] == [
        7777 if page % 7 == 0 else page + 1 for page in range(3000)
    ]
    assert in_file(inode, 7) == 8


def test_the_minimum_stays(space: MakeSpace) -> None:
    """2.2: page_cache.min_percent is 2: 81 of the frames of 16 MB, less what the kernel has."""
    made = space(ram=16 << 20)
    map_file(made, make_file(100), 100, MAP_SHARED, prot=1)
    for page in range(100):
        made.read(AREA + page * PAGE)
    while pageout(made).shrink(need(made)):
        pass
    assert len(made.kernel.pagecache) == made.kernel.pgdat.total_frames * 2 // 100


def test_pages_in_use_get_a_second_chance(space: MakeSpace) -> None:
    made = space(ram=16 << 20)
    map_file(made, make_file(6), 6, MAP_SHARED, prot=1)
    for page in range(6):
        made.read(AREA + page * PAGE)
    out = pageout(made)
    out._scan(need(made), 0, False)
    assert not any(made.entry(AREA + page * PAGE) & A for page in range(6)), "all are old now"
    assert made.read(AREA) == 1
    assert made.entry(AREA) & A, "the translation was flushed, so that the CPU tells of the next use"
    assert out._scan(need(made), 5, False) >= 5
    assert [bool(made.entry(AREA + page * PAGE) & P) for page in range(6)] == [True] + 5 * [False]


@pytest.mark.usefixtures("no_minimum")
def test_locked_and_held_pages_stay(space: MakeSpace) -> None:
    made = space(ram=16 << 20)
    inode = make_file(3)
    map_file(made, inode, 3, MAP_SHARED)
    for page in range(3):
        made.write(AREA + page * PAGE, 5)
    made.mm.vmas.set_flags(AREA, AREA + PAGE, VM_LOCKED)
    made.kernel.memmap.get_page(made.frame(AREA + PAGE))
    pageout(made).shrink(need(made))
    assert [bool(made.entry(AREA + page * PAGE) & P) for page in range(3)] == [True, True, False]


@pytest.mark.usefixtures("no_minimum")
def test_what_the_file_does_not_take_stays_in_memory(space: MakeSpace) -> None:
    """ENOSPC for a hole of a file: the page is neither lost nor given away, and can be written later."""
    made = space(ram=16 << 20)
    fs = RamFs()
    inode = fs.file(name="/f")
    inode.truncate(2 * PAGE)
    map_file(made, inode, 2, MAP_SHARED)
    made.write(AREA, 99)
    fs.limit, kept = fs.used, fs.limit
    pageout(made).shrink(need(made))
    assert made.entry(AREA) & P
    assert (made.read(AREA), in_file(inode, 0)) == (99, 0)
    fs.limit = kept
    pageout(made).shrink(need(made))
    assert (made.entry(AREA), in_file(inode, 0)) == (0, 99)


@pytest.mark.usefixtures("no_minimum")
def test_gfp_buffer_writes_nothing(space: MakeSpace) -> None:
    """2.2: GFP_BUFFER has no __GFP_IO: clean pages only."""
    made = space(ram=16 << 20)
    map_file(made, make_file(2), 2, MAP_SHARED)
    made.write(AREA, 99)
    made.read(AREA + PAGE)
    made.kernel.page_alloc.try_to_free_pages(made.kernel.pgdat.zones, GFP_BUFFER, 0)
    assert made.entry(AREA) & P
    # The clean page's entry is writable, never written: it may go.
    assert not made.entry(AREA + PAGE) & P


@pytest.mark.usefixtures("no_minimum")
@pytest.mark.parametrize("cpus", [1, 2])
def test_both_mappings_of_a_page_go(space: MakeSpace, cpus: int) -> None:
    made = space(ram=16 << 20, cpus=cpus)
    inode = make_file(1)
    map_file(made, inode, 1, MAP_SHARED)
    map_file(made, inode, 1, MAP_SHARED, at=AREA + 16 * PAGE)
    made.write(AREA + 16 * PAGE, 42)
    assert made.read(AREA) == 42
    pageout(made).shrink(need(made))
    assert made.entry(AREA) == made.entry(AREA + 16 * PAGE) == 0
    assert in_file(inode, 0) == 42
    assert made.read(AREA) == 42


def test_a_page_in_use_that_goes_is_flushed(space: MakeSpace) -> None:
    """For a block all pages go, old or not: the next access must fault."""
    made = space(ram=16 << 20)
    inode = make_file(1)
    map_file(made, inode, 1, MAP_SHARED)
    made.write(AREA, 42)
    out = pageout(made)
    page = next(page for page in out._candidates(need(made)) if page[2] == made.frame(AREA))
    assert made.resolutions == ["file-read"]
    assert out._release_all([page], True) == 1
    assert made.read(AREA) == 42
    assert made.resolutions == ["file-read"]


def test_fork_while_tables_take_pages(space: MakeSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child's tables are allocated when nothing is free: no entry of either names a frame that was given away."""
    made = space(ram=8 << 20)
    kernel, inode = made.kernel, make_file(3000)
    map_file(made, inode, 3000, MAP_SHARED)
    for page in range(3000):
        made.write(AREA + page * PAGE, page + 5)
    while kernel.pgdat.low_free > kernel.page_alloc.min_free:
        kernel.page_alloc.alloc_page()
    monkeypatch.setattr("sandbox.kernel.mm.page_alloc.SHRINK_BATCH", 1)
    child = dup_mm(kernel, made.cpu, made.mm)
    named: dict[int, int] = {}
    for mm in (made.mm, child):
        for _, entry in kernel.tables.user_ptes(mm.pgd, AREA, AREA + 3000 * PAGE):
            named[kernel.tables.pte_pfn(entry)] = named.get(kernel.tables.pte_pfn(entry), 0) + 1
    assert named
    assert all(kernel.memmap.count(pfn) == count + 1 for pfn, count in named.items())
    assert set(named) <= set(kernel.pagecache.frames())
    kernel.mmu.mmput(made.cpu, child)


def test_mremap_while_tables_take_pages(space: MakeSpace) -> None:
    made = space(ram=8 << 20)
    inode = make_file(3000)
    map_file(made, inode, 3000, MAP_SHARED)
    for page in range(3000):
        made.write(AREA + page * PAGE, page + 5)
    while made.kernel.pgdat.low_free > made.kernel.page_alloc.min_free:
        made.kernel.page_alloc.alloc_page()
    moved = made.kernel.mremap.do_mremap(made.task, AREA, 3000 * PAGE, 3000 * PAGE, 3, AREA + (64 << 20))
    assert [made.read(moved + page * PAGE) for page in range(3000)] == [page + 5 for page in range(3000)]


PROGRAM = resolve(IMAGES / "cow-fork").data
COUNT = 40
SHARED, AGAIN, PRIVATE = AREA, AREA + (4 << 20), AREA + (8 << 20)
pages = st.integers(0, COUNT - 1)


def open_session(text: str, **config: object) -> Session:
    return Session("t", PROGRAM, [], KernelConfig(**config))  # type: ignore[arg-type]


class Reclaimed(RuleBasedStateMachine):
    """A file mapped shared twice and privately, a second process, and reclaim at any time.

    ``file`` and ``private`` are the model: the first word of each page as the two kinds of mapping must show it.
    """

    paging = "pae"

    def __init__(self) -> None:
        super().__init__()
        self.made = Space(open_session, paging=self.paging, ram=16 << 20)
        self.inode = make_file(COUNT)
        for at, flags in ((SHARED, MAP_SHARED), (AGAIN, MAP_SHARED), (PRIVATE, MAP_PRIVATE)):
            map_file(self.made, self.inode, COUNT, flags, at=at)
        self.file = {page: page + 1 for page in range(COUNT)}
        self.private: dict[int, int] = {}
        self.children: list[Mm] = []

    def teardown(self) -> None:
        self.made.session.close()

    @rule(page=pages, word=st.integers(1, 0xFFFFFFFF), at=st.sampled_from([SHARED, AGAIN]))
    def store(self, page: int, word: int, at: int) -> None:
        assert self.made.write(at + page * PAGE, word)
        self.file[page] = word

    @rule(page=pages, word=st.integers(1, 0xFFFFFFFF))
    def store_privately(self, page: int, word: int) -> None:
        assert self.made.write(PRIVATE + page * PAGE, word)
        self.private[page] = word

    @rule(page=pages)
    def look(self, page: int) -> None:
        for at in (SHARED, AGAIN):
            assert self.made.read(at + page * PAGE) == self.file[page]
        assert self.made.read(PRIVATE + page * PAGE) == self.private.get(page, self.file[page])

    @rule(frames=st.integers(1, 50), young=st.booleans())
    def reclaim(self, frames: int, young: bool) -> None:
        pageout(self.made)._scan(need(self.made, frames), frames, young)

    @rule(prot=st.sampled_from([0, 1, 3]), page=pages)
    def protect(self, prot: int, page: int) -> None:
        self.made.kernel.mmap.do_mprotect(self.made.task, AGAIN + page * PAGE, PAGE, prot)
        pageout(self.made)._scan(need(self.made, 5), 5, True)
        self.made.kernel.mmap.do_mprotect(self.made.task, AGAIN + page * PAGE, PAGE, 3)

    @precondition(lambda self: len(self.children) < 3)
    @rule()
    def fork(self) -> None:
        self.children.append(dup_mm(self.made.kernel, self.made.cpu, self.made.mm))

    @precondition(lambda self: self.children)
    @rule()
    def end(self) -> None:
        self.made.kernel.mmu.mmput(self.made.cpu, self.children.pop())

    @invariant()
    def every_reference_is_an_entry(self) -> None:
        kernel = self.made.kernel
        named: Counter[int] = Counter()
        for mm in kernel.mmlist:
            for _, entry in kernel.tables.user_ptes(mm.pgd, 0, PAGE_OFFSET):
                if entry & MAPPED:
                    named[kernel.tables.pte_pfn(entry)] += 1
        cached = set(kernel.pagecache.frames())
        for pfn in cached | set(named):
            if not kernel.memmap.reserved(pfn):
                assert kernel.memmap.count(pfn) == named[pfn] + (pfn in cached)

    @invariant()
    def what_is_not_cached_is_in_the_file(self) -> None:
        for page, word in self.file.items():
            if self.made.kernel.pagecache.cached(self.inode, page) is None:
                assert in_file(self.inode, page) == word


class ReclaimedTwoLevel(Reclaimed):
    paging = "legacy"


TestReclaimed = Reclaimed.TestCase
TestReclaimedTwoLevel = ReclaimedTwoLevel.TestCase
for _case in (TestReclaimed, TestReclaimedTwoLevel):
    _case.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
del _case


# -- what a request needs --------------------------------------------------------------------------------------------


def cached(made: Space, pages: int) -> RamFile:
    """A file of which so many pages are in the cache and not mapped."""
    inode = make_file(pages)
    for page in range(pages):
        made.kernel.pagecache.find_page(inode, page)
    return inode


@pytest.mark.parametrize("marks", ["2.0", "2.4"])
def test_dma_takes_nothing_from_other_zones(space: MakeSpace, marks: str) -> None:
    """2.0's shrink_mmap passes over pages without PG_DMA when DMA is asked for."""
    made = space(ram=32 << 20, policies={"watermarks": marks})
    kernel = made.kernel
    inode = cached(made, 300)
    before = len(kernel.pagecache)
    with pytest.raises(OutOfMemory):
        while True:
            kernel.page_alloc.alloc_pages(GFP_KERNEL | DMA)
    assert len(kernel.pagecache) == before
    assert kernel.pgdat.zone_free(kernel.pgdat.normal) > 1000
    assert kernel.pagecache.cached(inode, 299) is not None


def test_dma_takes_cached_dma_pages() -> None:
    """All of a machine of 16 MB is DMA: there the same request is met by reclaim."""
    kernel = boot(ram=16 << 20)
    inode = make_file(1000)
    for page in range(1000):
        kernel.pagecache.find_page(inode, page)
    got = 0
    with pytest.raises(OutOfMemory):
        while True:
            kernel.page_alloc.alloc_pages(GFP_KERNEL | DMA)
            got += 1
    assert len(kernel.pagecache) == 0
    assert got > 3000


def test_an_order_takes_only_what_completes_a_block() -> None:
    """Free memory in single frames, cached pages among them: a request for four in a row takes three pages."""
    kernel = boot(ram=16 << 20, switches=frozenset(["no-watermark"]))
    pages, cache = kernel.page_alloc, kernel.pagecache
    held = set()
    with pytest.raises(OutOfMemory):
        while True:
            held.add(pages.alloc_pages(GFP_KERNEL))
    block = next(pfn for pfn in sorted(held) if pfn % 4 == 0 and {pfn, pfn + 1, pfn + 2, pfn + 3} <= held)
    inside, outside = make_file(3), make_file(50)
    for pfn in (block + 1, block + 2, block + 3):
        pages.free_pages(pfn)
    for page in range(3):
        assert block < cache.find_page(inside, page) < block + 4
    for pfn in [pfn for pfn in sorted(held) if pfn % 8 == 1 and not block <= pfn < block + 4][:100]:
        pages.free_pages(pfn)
    for page in range(50):
        cache.find_page(outside, page)
    pages.free_pages(block)
    with pytest.raises(OutOfMemory):
        pages.alloc_pages(GFP_KERNEL, 3)
    assert len(cache) == 53, "no eight in a row can be had: nothing was given up"
    assert pages.alloc_pages(GFP_KERNEL, 2) == block
    assert [cache.cached(inside, page) for page in range(3)] == [None] * 3
    assert len(cache) == 50
