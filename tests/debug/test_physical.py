"""Zones and the map of physical memory, against what the kernel was made to do."""

from __future__ import annotations

import pytest

from sandbox.debug.physical import frame_lines, map_lines, model_lines, zone_lines
from sandbox.kernel.kernel import Kernel
from tests.kernel.mm.conftest import MakeSpace
from tests.kernel.mm.conftest import space as space
from tests.kernel.mm.machines import boot


def cells(kernel: Kernel) -> dict[int, str]:
    """Letter by physical address of the cell's first byte."""
    lines = map_lines(kernel)
    size = int(lines[0].split()[2]) << (20 if " MB " in lines[0] else 10)
    found = {}
    for line in lines[1:]:
        if line[2:11].strip().isalnum() and len(line) > 13 and line[11:13] == "  ":
            for number, letter in enumerate(line[13:]):
                found[int(line[2:11], 16) + number * size] = letter
    return found


def test_every_kind_is_where_it_is(space: MakeSpace) -> None:
    made = space(ram=6 << 20, devices=("card",), boot="memexclude=5m-6m")
    kernel = made.kernel
    made.map(64)
    for page in range(64):
        made.write(0x50000000 + page * 4096, 1)
    piece = kernel.kmalloc.kmalloc(100_000, 3)
    area = kernel.vmalloc.find(kernel.vmalloc.vmalloc(32 * 4096))
    assert area is not None
    map_ = cells(kernel)
    assert map_[0x100000] in "Kk"
    assert map_[5 << 20] == "R"
    assert map_[piece - 0xC0000000 & -4096] == "S"
    assert map_[0x80000000] == "D"
    assert {map_[pfn << 12] for pfn in area.frames} <= set("Vvpu")
    assert map_[made.frame(0x50000000 + 40 * 4096) << 12] in "Uu"
    assert 0xC0000 not in map_
    assert any("nothing" in line for line in map_lines(kernel))


def test_the_size_of_a_gap_is_what_is_not_there() -> None:
    """The card's row is 256 MB from 80000000, and the next RAM is at 4 GB."""
    kernel = boot(ram=4 << 30, devices=("card",))
    lines = map_lines(kernel)
    at = next(number for number, line in enumerate(lines) if "nothing" in line)
    assert lines[at - 1].split()[0] == "080000000"
    assert lines[at].strip() == "… 1.75 GB of nothing"
    assert lines[at + 1].split()[0] == "100000000"


@pytest.mark.parametrize("ram", [4 << 20, 64 << 20, 3 << 30, 16 << 30])
def test_a_person_can_read_it(ram: int) -> None:
    lines = frame_lines(boot(ram=ram))
    assert len(lines) < 50
    assert max(map(len, lines)) <= 120
    unknown = {letter.upper() for letter in cells(boot(ram=ram)).values()} - set(".-KMTSVCUPRD ")
    assert not unknown


def test_zones() -> None:
    kernel = boot(ram=32 << 20)
    pfn = kernel.page_alloc.alloc_pages(3, 5)
    header, dma, normal, reserve = zone_lines(kernel)
    assert "blocks of     1     2     4     8    16    32 frames" in header
    waiting = f"{kernel.pgdat.dma.waiting:,}"
    assert dma.split()[:4] == ["DMA", *[f"{kernel.pgdat.dma.total:,}"] * 2, waiting]
    assert normal.split()[2] == f"{4096 - 32:,}"
    assert pfn >= 4096
    assert f"reserve {kernel.page_alloc.min_free} frames" in reserve


def test_models() -> None:
    lines = model_lines("pae", "512M", (64 << 20, 4 << 30))
    assert lines[-1].split()[:4] == ["4", "GB", "48", "MB"], "32 bytes for each frame below 6 GB"
    assert len(model_lines("legacy", "64M")) == 2 + 5, "two-level paging ends at 2 GB"
