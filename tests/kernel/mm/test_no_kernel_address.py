"""A page that cannot be reached: its kernel address needs a table or a slot, and there is none.

Whoever had taken a frame for it, or an address for the page beside it, gives that back before the error goes on
(``handle_mm_fault`` raises OutOfMemory; do_wp_page of 2.4 releases the new page where the copy is not made).
"""

from __future__ import annotations

import pytest

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.kmap_atomic import KM_SLOTS, WindowsUsedUp
from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_PRIVATE
from sandbox.kernel.mm.page_mapper import PageMapper
from sandbox.kernel.process.fork import dup_mm
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.machines import high
from tests.kernel.mm.test_msync import Disk


class Without:
    """No address for any frame."""

    def map(self, cpu: KernelCpu, pfn: int) -> int:
        raise OutOfMemory("no table")

    def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
        raise AssertionError("what was not mapped is given back")


def refused(made: Space) -> None:
    """The write does not come to its page, and each frame has as many references as before."""
    kernel = made.kernel
    vma = made.mm.vmas.find_exact(AREA)
    assert vma is not None
    kernel.tables.pte_alloc(made.mm.pgd, AREA)
    entry, free = made.entry(AREA), kernel.pgdat.free_frames
    counts = [kernel.memmap.count(pfn) for pfn in range(kernel.layout.direct_frames, kernel.memmap.max_pfn)]
    kernel.highmem._mappers = (kernel.highmem._strays[0], Without())
    with pytest.raises(OutOfMemory, match="no table"):
        kernel.faults.handle_mm_fault(made.cpu, made.mm, vma, AREA, write=True)
    kernel.highmem._mappers = kernel.highmem._strays
    assert made.entry(AREA) == entry and kernel.pgdat.free_frames == free
    assert counts == [kernel.memmap.count(pfn) for pfn in range(kernel.layout.direct_frames, kernel.memmap.max_pfn)]
    assert not any(kernel.highmem.depth)
    assert made.write(AREA, 7) and made.read(AREA) == 7, "the next one does"


@pytest.fixture
def made(space: MakeSpace, paging: str) -> Space:
    return space(paging=paging, ram=32 << 20, direct_map=24 << 20)


def test_demand_zero(made: Space) -> None:
    made.map(1)
    refused(made)


def test_a_write_to_the_page_of_zeros(made: Space) -> None:
    made.map(1)
    assert made.read(AREA) == 0
    refused(made)


@pytest.mark.parametrize("loaded", [True, False], ids=["own mapping", "both mapped"])
def test_cow(made: Space, loaded: bool) -> None:
    """Also where another address space is loaded, so that the source has a window of its own."""
    made.map(1)
    assert made.write(AREA, 1)
    child = dup_mm(made.kernel, made.cpu, made.mm)
    if not loaded:
        made.cpu.active_mm = child
    refused_from = made.frame(AREA)
    if loaded:
        refused(made)
    else:
        with_other_loaded(made)
    assert made.kernel.memmap.count(refused_from) >= 1


def with_other_loaded(made: Space) -> None:
    kernel, vma = made.kernel, made.mm.vmas.find_exact(AREA)
    assert vma is not None
    free = kernel.pgdat.free_frames
    kernel.highmem._mappers = (kernel.highmem._strays[0], Without())
    with pytest.raises(OutOfMemory, match="no table"):
        kernel.faults.handle_mm_fault(made.cpu, made.mm, vma, AREA, write=True)
    assert kernel.pgdat.free_frames == free and not any(kernel.highmem.depth)


def test_a_private_page_of_a_file(made: Space) -> None:
    disk = Disk()
    made.kernel.mmap.do_mmap(made.task, AREA, PAGE, 3, MAP_PRIVATE | MAP_FIXED, disk, 0)
    made.kernel.pagecache.find_page(disk, 0)
    refused(made)


def test_a_copy_gives_the_sources_address_back(made: Space) -> None:
    kernel = made.kernel
    first, second = (kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(2))
    seen: list[tuple[int, int]] = []
    strays = kernel.highmem._strays

    class Counting:
        def map(self, cpu: KernelCpu, pfn: int) -> int:
            seen.append((pfn, 1))
            return strays[0].map(cpu, pfn)

        def unmap(self, cpu: KernelCpu, pfn: int, linear: int) -> None:
            seen.append((pfn, -1))
            strays[0].unmap(cpu, pfn, linear)

    pair: tuple[PageMapper, PageMapper] = (Counting(), Without())
    kernel.highmem._mappers = pair
    with pytest.raises(OutOfMemory):
        kernel.highmem.copy_highpage(made.cpu, first, second)
    assert seen == [(second, 1), (second, -1)]
    kernel.highmem.mapper, kernel.highmem.source_mapper = pair
    with pytest.raises(OutOfMemory):
        kernel.uaccess.copy_frame(made.task, first, 0, second, 0, 64)
    assert seen[2:] == [(first, 1), (first, -1)]


@pytest.mark.parametrize("shared", [False, True], ids=["demand-zero", "cow"])
@pytest.mark.parametrize("pool", ["kva", "kmap"])
def test_a_pool_of_two_slots_and_one_cpus_windows_full(space: MakeSpace, paging: str, pool: str, shared: bool) -> None:
    """Both slots are held and every window of CPU 0 is open: a fault there is refused, on CPU 1 it is answered."""
    made = space(paging=paging, ram=24 << 20, boot="highmem=12m kva=8k pkmap=2", cpus=2, policies={"high_pages": pool})
    kernel, (first, second) = made.kernel, (made.cpu, made.kernel.cpus[1])
    made.map(1)
    if shared:
        assert made.write(AREA, 5)
        dup_mm(kernel, first, made.mm)
    kernel.tables.pte_alloc(made.mm.pgd, AREA)
    held = high(kernel, 2)
    mapper: PageMapper = getattr(kernel, pool)
    linear = [mapper.map(first, pfn) for pfn in held]
    windows = [kernel.highmem.kmap_atomic(first, held[0]) for _ in range(KM_SLOTS)]
    free, entry, vma = kernel.pgdat.free_frames, made.entry(AREA), made.mm.vmas.find_exact(AREA)
    assert vma is not None
    for failing, error in ((0, WindowsUsedUp), (1, OutOfMemory)):
        kernel.page_alloc.failing.arm(failing)
        with pytest.raises(error):
            kernel.faults.handle_mm_fault(first, made.mm, vma, AREA, write=True)
        kernel.page_alloc.failing.arm(0)
        assert (kernel.pgdat.free_frames, made.entry(AREA), kernel.highmem.depth) == (free, entry, [KM_SLOTS, 0])
    kernel.smp.this_cpu = second
    kernel.mmu.switch_mm(second, made.mm)
    kernel.faults.handle_mm_fault(second, made.mm, vma, AREA, write=True)
    kernel.smp.this_cpu = first
    assert made.entry(AREA) != entry and kernel.pgdat.free_frames == free - 1
    for window in reversed(windows):
        kernel.highmem.kunmap_atomic(first, window)
    for pfn, at in zip(held, linear, strict=True):
        mapper.unmap(first, pfn, at)
    assert made.read(AREA) == (5 if shared else 0)
