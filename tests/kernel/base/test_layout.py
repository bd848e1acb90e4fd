"""Regions of the fourth gigabyte: in order, aligned, apart, for every size of machine."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sandbox.kernel.base.layout import PAGE_OFFSET, PKMAP_BASE, plan

MB = 1 << 20


@pytest.mark.parametrize("direct", [800 * MB, 896 * MB])
@pytest.mark.parametrize("ram", [4 * MB, 5 * MB, 16 * MB, 64 * MB, 799 * MB, 801 * MB, 1024 * MB, 2048 * MB])
def test_regions_never_meet(ram: int, direct: int) -> None:
    layout = plan(ram, direct)
    regions = layout.regions
    assert regions[0].start == PAGE_OFFSET
    for before, after in pairwise(regions):
        assert before.start < before.end <= after.start, (before, after)
    assert regions[-1].end <= 1 << 32
    for region in regions[:4]:
        assert region.start % (4 * MB) == region.end % (4 * MB) == 0
    assert layout.vmalloc.start - layout.kva.end == 8 * MB
    assert PKMAP_BASE - layout.vmalloc.end == 8 * MB
    assert layout.vmalloc.size >= 32 * MB
    assert layout.direct.size == min(-(-ram // (4 * MB)) * 4 * MB, direct)


def test_post_001_on_a_large_machine() -> None:
    """800 MB direct, 100 MB of dynamic mappings, the rest for vmalloc (Tweedie, January 1999)."""
    layout = plan(2048 * MB, 800 * MB)
    assert (layout.direct.size, layout.kva.size) == (800 * MB, 100 * MB)
    assert layout.direct_frames == 800 * 256


def test_region_of() -> None:
    layout = plan(64 * MB, 800 * MB)
    assert layout.region_of(PAGE_OFFSET) is layout.direct
    assert layout.region_of(layout.vmalloc.start - 1) is None
    assert layout.region_of(0x8048000) is None
    assert layout.region_of(layout.fixmap.start) is layout.fixmap
