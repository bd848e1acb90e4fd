"""Pages of programs and of files come from highmem first, and from below when it has none (MM 2: only downwards).

The machine has 24 MB, 4 of them highmem, 4 above the 16 MB that a DMA request reaches: three zones, each small enough
to be emptied.  2.4 keeps ``pages_min`` of each zone, at least 20 frames; the others have no mark of highmem.
"""

from __future__ import annotations

from itertools import product

import pytest

from sandbox.image.build import IMAGES
from sandbox.kernel.base.events import PageFault
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER, GFP_KERNEL
from sandbox.kernel.mm.page import PG_HIGHMEM
from sandbox.kernel.mm.pte import is_mapped
from sandbox.kernel.process.fork import dup_mm
from sandbox.runner.run import Session
from sandbox.runner.target import resolve
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.test_msync import PAGES, Disk

MB = 1 << 20
LOW, DMA_LIMIT = 20 * MB // PAGE, 16 * MB // PAGE
VERSIONS = [
    {"watermarks": marks, "dma": dma, "mem_model": model, "orders": orders}
    for (marks, dma, model), orders in zip(
        product(("2.0", "2.2", "2.4"), ("zones", "park"), ("flatmem", "sparsemem", "vmemmap")),
        ("6", "10", "11") * 6,
        strict=True,
    )
]


def small(space: MakeSpace, policies: dict[str, str]) -> Space:
    made = space(ram=24 * MB, direct_map=20 * MB, policies=policies)
    made.map(8)
    assert [zone.total > 0 for zone in made.kernel.pgdat.zones] == [True, True, True]
    return made


def zone_of(kernel: Kernel, pfn: int) -> str:
    """By the frame's number; its structure must say the same."""
    assert bool(kernel.memmap.flags(pfn) & PG_HIGHMEM) == (pfn >= LOW)
    return "HIGHMEM" if pfn >= LOW else "NORMAL" if pfn >= DMA_LIMIT else "DMA"


def pages_of_all_kinds(made: Space, disk: Disk, index: int) -> list[str]:
    """The zones of a new anonymous page, a copy of one, and a page of a file."""
    kernel, linear = made.kernel, AREA + index * PAGE
    assert made.write(linear, 1)
    zones = [zone_of(kernel, made.frame(linear))]
    child = dup_mm(kernel, made.cpu, made.mm)
    before = made.frame(linear)
    assert made.write(linear, 2) and made.frame(linear) != before
    zones.append(zone_of(kernel, made.frame(linear)))
    kernel.mmu.mmput(made.cpu, child)
    return [*zones, zone_of(kernel, kernel.pagecache.find_page(disk, index))]


def drained(kernel: Kernel, zone: str) -> list[int]:
    """Frames taken until the next one comes from below the zone."""
    taken = [kernel.page_alloc.alloc_page(GFP_HIGHUSER)]
    while zone_of(kernel, taken[-1]) == zone:
        taken.append(kernel.page_alloc.alloc_page(GFP_HIGHUSER))
    kernel.page_alloc.put_page(taken.pop())
    return taken


@pytest.mark.parametrize("policies", VERSIONS, ids=lambda each: "-".join(each.values()))
def test_highmem_first_then_downwards(space: MakeSpace, policies: dict[str, str]) -> None:
    made, disk = small(space, policies), Disk()
    kernel = made.kernel
    assert pages_of_all_kinds(made, disk, 0) == ["HIGHMEM"] * 3
    taken = drained(kernel, "HIGHMEM")
    left = kernel.pgdat.zone_free(kernel.pgdat.high)
    assert left == (0 if policies["watermarks"] != "2.4" else 21), "2.4: the mark of 20, and the one that is asked for"
    assert pages_of_all_kinds(made, disk, 1) == ["NORMAL"] * 3
    below = drained(kernel, "NORMAL")
    assert pages_of_all_kinds(made, disk, 2) == ["DMA"] * 3
    for pfn in taken[:64]:
        kernel.page_alloc.put_page(pfn)
    assert pages_of_all_kinds(made, disk, 3) == ["HIGHMEM"] * 3, "what came free is used first"
    for pfn in (*taken[64:], *below):
        kernel.page_alloc.put_page(pfn)
    assert len(disk.blocks) == PAGES


@pytest.mark.parametrize("marks", ["2.0", "2.2", "2.4"])
def test_lowmem_gone_highmem_serves_still(space: MakeSpace, marks: str) -> None:
    """GFP_KERNEL has come to its mark: a program's page needs a table, and no other lowmem."""
    made = small(space, {"watermarks": marks})
    assert made.write(AREA, 1)
    with pytest.raises(OutOfMemory):
        while True:
            made.kernel.page_alloc.alloc_pages(GFP_KERNEL)
    for page in range(1, 8):
        assert made.write(AREA + page * PAGE, 1) and zone_of(made.kernel, made.frame(AREA + page * PAGE)) == "HIGHMEM"


@pytest.mark.parametrize("image", ["cow-fork", "file-private", "bss-tail", "fork-tree", "stack-growth", "pipe-bulk"])
def test_what_programs_have_lies_in_highmem(image: str, paging: str) -> None:
    """Every fault of a run: the frame that it ended with, and every page of the cache."""
    target = resolve(IMAGES / image)
    config = target.config(paging=paging, ram=64 * MB, direct_map=40 * MB)
    with Session(target.name, target.data, target.arguments, config) as session:
        kernel, faults = session.kernel, list[PageFault]()
        kernel.bus.subscribe(faults.append, PageFault)
        assert session.finish().status == 0
        used = set(kernel.pagecache.frames())
    used |= {kernel.tables.pte_pfn(fault.pte) for fault in faults if is_mapped(fault.pte)} - {kernel.zero_page}
    assert len(used) >= 3 and min(used) >= kernel.layout.direct_frames
