"""Machines of every size: the regions never overlap, each zone has the RAM that it was told, or a line says why not.

The model is the PC's map (RAM to 640 KB, from 1 MB to 2 GB, the rest from 4 GB on), MM 2's zones (DMA below 16 MB,
NORMAL below the end of the direct map, HIGHMEM above) and post 001's order of regions.  Sizes are drawn by hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox.kernel.base.config import SCALED
from sandbox.kernel.base.layout import KVA_BYTES, REGION, Layout, plan
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mmzone import Zone
from sandbox.x86.errors import ConfigurationError
from tests.kernel.mm.machines import boot

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4096
Ranges = list[tuple[int, int]]
"""[start, end) in bytes."""


@dataclass
class Wish:
    """What a machine is asked for."""

    paging: str
    ram: int
    direct: int
    highmem: str
    model: str
    boot: str = ""

    @property
    def config(self) -> dict[str, object]:
        policies = {"mem_model": self.model}
        words = {"direct_map": self.direct, "highmem": self.highmem, "boot": self.boot, "policies": policies}
        return {"paging": self.paging, "ram": self.ram, **words}


wishes = st.builds(
    Wish,
    st.sampled_from(["pae", "legacy"]),
    st.one_of(
        st.integers(16 * MB // PAGE, 256 * MB // PAGE).map(lambda pages: pages * PAGE),
        st.integers(64, 2100).map(lambda size: size * MB),
        st.integers(2, 62).map(lambda size: size * GB),
    ),
    st.one_of(st.just(SCALED), st.integers(2, 224).map(lambda regions: regions * REGION)),
    st.sampled_from(["", "off", "4G", "64G"]),
    st.sampled_from(["flatmem", "sparsemem", "vmemmap"]),
    st.sampled_from(["", "", "kva=64k", "pkmap=2", "highmem=0", "mem=40m"]),
)


def told(wish: Wish, direct: int) -> tuple[Ranges, Ranges]:
    """RAM of lowmem and of highmem that the kernel should have."""
    ram: Ranges = [(0, 640 * KB), (MB, min(wish.ram, 2 * GB))]
    if wish.ram > 2 * GB:
        ram.append((4 * GB, wish.ram + 2 * GB))
    last = 40 * MB if wish.boot == "mem=40m" else 1 << 40
    end = last if wish.highmem != "4G" and wish.paging == "pae" else min(last, 4 * GB)
    if wish.highmem == "off" or wish.boot == "highmem=0":
        end = min(end, direct)
    return cut(ram, 0, min(direct, end)), cut(ram, direct, end)


def cut(ranges: Ranges, start: int, end: int) -> Ranges:
    met = [(max(start, first), min(end, last)) for first, last in ranges]
    return [each for each in met if each[0] < each[1]]


def inside(zone: Zone) -> Ranges:
    """Joined where they touch."""
    joined: Ranges = []
    for first, count in sorted(zone.ranges):
        start, end = first * PAGE, (first + count) * PAGE
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


def check_regions(layout: Layout) -> None:
    starts = [0xC0000000, *(each.start for each in layout.regions[1:])]
    assert [each.start for each in layout.regions] == starts == sorted(starts)
    assert all(before.end <= after.start for before, after in pairwise(layout.regions))
    assert all(each.size > 0 and each.start % REGION == 0 for each in layout.regions)
    names = [each.name for each in layout.regions if each.name != "virtual mem_map"]
    assert names == ["direct map", "kva pool", "vmalloc", "pkmap", "kernel stacks", "fixmap"]
    assert layout.kva.size <= KVA_BYTES and layout.vmalloc.size >= 32 * MB and layout.regions[-1].end < 1 << 32


def check_zones(kernel: Kernel, wish: Wish) -> None:
    low, high = told(wish, kernel.layout.direct.size)
    pgdat = kernel.pgdat
    assert inside(pgdat.high) == high
    dma, normal = inside(pgdat.dma), inside(pgdat.normal)
    assert cut(dma, 0, 16 * MB) == dma and cut(normal, 16 * MB, 1 << 32) == normal
    assert all(cut(low, *each) == [each] for each in dma + normal), "only RAM"
    given = sum(end - start for start, end in dma + normal)
    kept = sum(end - start for _, start, end in kernel.reserved)
    assert sum(end - start for start, end in low) - given - kept in range(64 * KB), "the rest is reserved by name"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(wishes)
@example(Wish("pae", 64 * MB, SCALED, "", "flatmem"))
@example(Wish("legacy", 64 * MB, SCALED, "off", "vmemmap"))
@example(Wish("pae", 16 * MB, 8 * MB, "", "vmemmap"))
@example(Wish("pae", 62 * GB, 896 * MB, "64G", "flatmem"))
@example(Wish("pae", 62 * GB, 896 * MB, "", "vmemmap"))
@example(Wish("legacy", 62 * GB, 896 * MB, "4G", "sparsemem"))
@example(Wish("pae", 6 * GB, 8 * MB, "", "flatmem"))
def test_a_machine_is_as_told_or_a_line_says_why(wish: Wish) -> None:
    try:
        kernel = boot(**wish.config)  # type: ignore[arg-type]
    except ConfigurationError as error:
        assert error.exit_status == 2 and error.summary and "\n" not in error.summary
        return
    check_regions(kernel.layout)
    check_zones(kernel, wish)


@pytest.mark.parametrize("direct", range(20, 64, 4))
def test_every_zone_on_64_mb(paging: str, direct: int) -> None:
    """Any direct map between 16 MB and RAM leaves all three zones, each of the size that arithmetic gives."""
    kernel = boot(paging, ram=64 * MB, direct_map=direct * MB)
    assert [zone.total > 0 for zone in kernel.pgdat.zones] == [True, True, True]
    assert kernel.pgdat.high.total == (64 - direct) * 256 and kernel.pgdat.normal.total <= (direct - 16) * 256
    check_regions(kernel.layout)


@given(low=st.integers(1, 2 * GB // PAGE), direct=st.integers(2, 224), vmemmap=st.integers(0, 128))
@settings(deadline=None, derandomize=True)
def test_plans(low: int, direct: int, vmemmap: int) -> None:
    """Without a machine: all sizes of RAM below 4 GB, of direct maps and of virtual mem_maps."""
    try:
        layout = plan(low * PAGE, direct * REGION, vmemmap * REGION)
    except ConfigurationError as error:
        assert "gigabyte is too small" in error.summary
        assert direct * REGION + vmemmap * REGION + REGION > (1008 - 16 - 32) * MB, "there would have been room"
        return
    check_regions(layout)
    assert layout.direct.size == min(-(-low * PAGE // REGION) * REGION, direct * REGION)
