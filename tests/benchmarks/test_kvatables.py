"""What 4 KB tables cost the kva pool: the numbers follow from page sizes and table formats (SDM 3A 4.3, 4.4)."""

from __future__ import annotations

import pytest

from benchmarks.kvatables import LARGE_ENTRIES, SMALL_ENTRIES, ModelTlb, measure
from sandbox.engine import stubs

PAGES, PASSES = 1024, 2


@pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
def test_the_pool_costs_tables_entries_and_misses(paging: str) -> None:
    """4 MB of pages: one large page of 4 MB or two of 2 MB; as many tables; each walk reads a PTE more.

    Sixty-four entries and LRU: of 1024 pages in a row none is found again, of one or two large ones each always.
    """
    cost = measure(paging, PAGES, PASSES)
    direct, pool = cost["direct"], cost["pool"]
    large = 1024 if paging == "legacy" else 512
    assert (direct.tables, pool.tables) == (0, PAGES // large)
    assert pool.entries / pool.walks == direct.entries / direct.walks + 1
    assert PAGES // large <= direct.misses <= PAGES // large + 1, "frames need not begin at a large page"
    assert pool.misses == PAGES * PASSES


def test_the_model_keeps_what_was_used_last() -> None:
    model = ModelTlb()
    for page in (*range(SMALL_ENTRIES), 0, SMALL_ENTRIES, 0):
        model.use(page << 12, 4096)
    assert model.misses == SMALL_ENTRIES + 1
    model.use(1 << 12, 4096)
    assert model.misses == SMALL_ENTRIES + 2, "it made room for the last but one"
    for page in range(LARGE_ENTRIES):
        model.use(page << 22, 1 << 22)
    assert model.misses == SMALL_ENTRIES + 2 + LARGE_ENTRIES
