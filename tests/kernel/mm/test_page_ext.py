"""The words that a page has besides its struct page (2.4's next_hash, pprev_hash, buffers; 2.5's pte_chain)."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_KERNEL
from sandbox.kernel.mm.page import STRUCT_PAGE_BYTES, BadPage, NoStructPage
from sandbox.kernel.mm.page_ext import (
    BUFFERS,
    EXT_PIECE,
    NEXT_HASH,
    PAGE_EXT_BYTES,
    PPREV_HASH,
    PTE_CHAIN,
)
from tests.kernel.mm.machines import boot, high, load

MODELS = ("flatmem", "sparsemem", "vmemmap")


@pytest.fixture(params=MODELS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return boot(ram=32 << 20, boot="highmem=8m", policies={"mem_model": request.param})


def test_a_frame_has_none_and_pays_nothing(kernel: Kernel) -> None:
    free = kernel.pgdat.free_frames
    pfn = kernel.page_alloc.alloc_page()
    assert [kernel.page_ext.get(pfn, word) for word in range(4)] == [0, 0, 0, 0]
    kernel.page_ext.set(pfn, BUFFERS, 0)
    assert kernel.page_ext.physical(pfn) is None
    kernel.page_alloc.put_page(pfn)
    assert kernel.pgdat.free_frames == free


def test_words_are_in_guest_memory_where_the_cpu_finds_them(kernel: Kernel) -> None:
    (pfn,), ext = high(kernel), kernel.page_ext
    for word, value in ((NEXT_HASH, 0xC0000020), (PPREV_HASH, 0xC1234560), (BUFFERS, 0xFFFFFFFF), (PTE_CHAIN, 7)):
        ext.set(pfn, word, value)
    at = ext.physical(pfn)
    assert at is not None and at < kernel.layout.direct_frames << 12, "in the direct map, also those of highmem"
    assert [load(kernel, PAGE_OFFSET + at + 4 * word) for word in range(4)] == [0xC0000020, 0xC1234560, 0xFFFFFFFF, 7]
    assert [ext.get(pfn + 1, word) for word in range(4)] == [ext.get(pfn - 1, word) for word in range(4)] == [0] * 4


def test_one_page_for_so_many_frames(kernel: Kernel) -> None:
    ext, first = kernel.page_ext, 0x1000
    before = kernel.pgdat.free_frames
    for pfn in (first, first + 1, first + EXT_PIECE - 1):
        ext.set(pfn, NEXT_HASH, 1)
    assert before - kernel.pgdat.free_frames == 1
    ext.set(first + EXT_PIECE, NEXT_HASH, 1)
    assert before - kernel.pgdat.free_frames == 2


def test_a_chain_of_the_page_cache(kernel: Kernel) -> None:
    """2.4's add_page_to_hash_queue and remove_page_from_hash_queue (mm/filemap.c) on a bucket."""
    ext, pages = kernel.page_ext, high(kernel, 3)
    first = 0
    for pfn in pages:
        ext.set(pfn, NEXT_HASH, first)
        ext.set(pfn, PPREV_HASH, 0xC0FFEE00)
        if first:
            ext.set(kernel.model.pfn_of(first), PPREV_HASH, PAGE_OFFSET + (ext.physical(pfn) or 0) + 4 * NEXT_HASH)
        first = kernel.model.struct_page(pfn)
    middle = pages[1]
    after = ext.get(middle, NEXT_HASH)
    place = ext.get(middle, PPREV_HASH)
    assert load(kernel, place) == kernel.model.struct_page(middle), "pprev_hash is where its own address is kept"
    ext.set(pages[2], NEXT_HASH, after)
    found, at = [], first
    while at:
        found.append(kernel.model.pfn_of(at))
        at = ext.get(found[-1], NEXT_HASH)
    assert found == [pages[2], pages[0]]


@pytest.mark.parametrize("word", [NEXT_HASH, BUFFERS, PTE_CHAIN])
def test_a_page_that_is_freed_must_have_let_go(kernel: Kernel, word: int) -> None:
    """2.4's __free_pages_ok: BUG() for page->buffers and page->mapping."""
    single, block = kernel.page_alloc.alloc_page(), kernel.page_alloc.alloc_pages(GFP_KERNEL, 2)
    kernel.page_ext.set(single, word, 4)
    kernel.page_ext.set(block + 3, word, 4)
    with pytest.raises(BadPage, match="is freed with"):
        kernel.page_alloc.put_page(single)
    with pytest.raises(BadPage, match=f"frame {block + 3:#x} is freed with"):
        kernel.page_alloc.free_pages(block, 2)


def test_what_is_no_frame_has_none(kernel: Kernel) -> None:
    with pytest.raises(NoStructPage):
        kernel.page_ext.set(1 << 22, NEXT_HASH, 1)


def test_the_limits_that_the_page_states() -> None:
    """docs/pages.md: mem_map of 62 GB and its side table fit into 800 MB of lowmem, with 64 bytes a frame not."""
    frames = (508 << 20) // STRUCT_PAGE_BYTES
    assert 62 << 30 <= frames << 12 <= 64 << 30
    assert frames * (STRUCT_PAGE_BYTES + PAGE_EXT_BYTES) < 800 << 20 < frames * 64
