"""Flush duties: what is stale when one is missed, on a real second CPU, and that the kernel's own are enough."""

from __future__ import annotations

import pytest

from sandbox.kernel.mm.tlb import RANGE_CEILING
from sandbox.kernel.process.fork import dup_mm
from tests.kernel.mm.conftest import AREA as START
from tests.kernel.mm.conftest import PAGE, MakeSpace, Space

PAGES = 0x56
AREA = START + (PAGES - 1) * PAGE
"""The page is the last of an area: the engine's TLB keeps it where no page of the kernel's throws it out."""


def two(space: MakeSpace, **config: object) -> Space:
    """Two CPUs in one address space, both with a translation of the page that allows stores."""
    made = space(cpus=2, **config)
    made.kernel.mmu.switch_mm(made.kernel.cpus[1], made.mm)
    made.map(PAGES)
    assert made.write(AREA, 1)
    assert made.write(AREA, 2, made.kernel.cpus[1])
    assert made.read(AREA) == 2
    assert made.mm.cpu_mask == 3
    return made


def test_protection_reaches_both_cpus(space: MakeSpace, paging: str) -> None:
    made = two(space, paging=paging)
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 1)
    assert not made.write(AREA, 3)
    assert not made.write(AREA, 3, made.kernel.cpus[1])
    assert made.read(AREA) == 2
    assert made.kernel.cpus[1].ipis == 1


def test_without_shootdown_the_other_cpu_is_stale(space: MakeSpace, paging: str) -> None:
    made = two(space, paging=paging, switches=frozenset({"no-shootdown"}))
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 1)
    assert not made.write(AREA, 3)
    assert made.write(AREA, 4, made.kernel.cpus[1]), "the stale entry still allows the store"
    assert made.read(AREA) == 4


def test_without_flush_there_are_stale_entries(space: MakeSpace, paging: str) -> None:
    """On at least one CPU: an entry may have been evicted by chance, as on hardware."""
    made = two(space, paging=paging, switches=frozenset({"no-flush"}))
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 1)
    assert made.write(AREA, 3) | made.write(AREA, 4, made.kernel.cpus[1])


def test_unmapped_is_gone_on_both(space: MakeSpace, paging: str) -> None:
    made = two(space, paging=paging)
    made.kernel.mmap.do_munmap(made.task, AREA, PAGE)
    for cpu in made.kernel.cpus:
        assert not made.write(AREA, 9, cpu)
        assert made.read(AREA, cpu) == 0


def test_unmapped_without_shootdown_writes_a_free_frame(space: MakeSpace) -> None:
    """What the shootdown protects from: a store through a stale entry lands in somebody else's frame."""
    made = two(space, switches=frozenset({"no-shootdown"}))
    frame = made.frame(AREA)
    made.kernel.mmap.do_munmap(made.task, AREA, PAGE)
    assert made.kernel.memmap.count(frame) == 0
    assert made.write(AREA, 0xBAD, made.kernel.cpus[1])
    assert made.kernel.memory.read_word(frame << 12) == 0xBAD


def test_fork_protects_on_both(space: MakeSpace, paging: str) -> None:
    made = two(space, paging=paging)
    child = dup_mm(made.kernel, made.cpu, made.mm)
    assert made.write(AREA, 5, made.kernel.cpus[1])
    assert int.from_bytes(made.kernel.peek.peek(child, AREA, 4), "little") == 2
    assert made.read(AREA) == 5, "the CPU that did not copy sees the new frame too"


def test_fork_without_shootdown_leaks_into_the_child(space: MakeSpace) -> None:
    made = two(space, switches=frozenset({"no-shootdown"}))
    child = dup_mm(made.kernel, made.cpu, made.mm)
    assert made.write(AREA, 5, made.kernel.cpus[1])
    assert int.from_bytes(made.kernel.peek.peek(child, AREA, 4), "little") == 5


def test_cow_copy_reaches_the_other_cpus_reads(space: MakeSpace, paging: str) -> None:
    made = two(space, paging=paging)
    dup_mm(made.kernel, made.cpu, made.mm)
    assert made.read(AREA, made.kernel.cpus[1]) == 2
    assert made.write(AREA, 6)
    assert made.read(AREA, made.kernel.cpus[1]) == 6


def test_a_cpu_in_another_space_gets_no_interrupt(space: MakeSpace) -> None:
    made = space(cpus=2)
    made.map(PAGES)
    made.write(AREA, 1)
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 1)
    assert made.kernel.cpus[1].ipis == 0
    assert made.kernel.tlb.counters.interrupts == 0


def test_a_cpu_that_left_holds_nothing(space: MakeSpace, paging: str) -> None:
    """Leaving an address space is a CR3 load, which drops its translations: none may be needed on return."""
    made = two(space, paging=paging)
    other = made.kernel.cpus[1]
    made.kernel.mmu.switch_mm(other, None)
    assert made.mm.cpu_mask == 1
    made.kernel.mmap.do_mprotect(made.task, AREA, PAGE, 1)
    assert other.ipis == 0
    made.kernel.mmu.switch_mm(other, made.mm)
    assert not made.write(AREA, 9, other)


@pytest.mark.parametrize(("pages", "single"), [(RANGE_CEILING, True), (RANGE_CEILING + 1, False)])
def test_long_ranges_flush_the_space(space: MakeSpace, pages: int, single: bool) -> None:
    made = space()
    made.map(pages)
    for number in range(pages):
        made.write(START + number * PAGE, 1)
    before = made.kernel.tlb.counters.pages
    made.kernel.mmap.do_mprotect(made.task, START, pages * PAGE, 1)
    counters = made.kernel.tlb.counters
    assert (counters.pages - before, counters.spaces) == ((pages, 0) if single else (0, 1))
    assert not any(made.write(START + number * PAGE, 1) for number in range(pages))


def test_no_flush_for_new_pages(space: MakeSpace) -> None:
    """Not present to present needs none: hardware caches no absent entry (SDM 3A, 4.10.2.3)."""
    made = space()
    made.map(4)
    before = made.kernel.tlb.counters.pages
    for number in range(4):
        made.write(START + number * PAGE, 1)
    assert made.kernel.tlb.counters.pages == before


def test_flush_kernel_drops_global_entries_everywhere(space: MakeSpace, paging: str) -> None:
    made = space(cpus=2, paging=paging)
    kernel = made.kernel
    linear = kernel.layout.fixmap.start
    frames = [kernel.page_alloc.alloc_page(), kernel.page_alloc.alloc_page()]
    for number, pfn in enumerate(frames, 1):
        made.cpu.store(0xC0000000 + (pfn << 12), number.to_bytes(128, "little"))
    flags = 0x1 | 0x2 | 0x20 | 0x40 | 0x100
    kernel.tables.map_page(kernel.tables.kernel_pgd, linear, kernel.tables.pfn_pte(frames[0], flags), user=False)
    assert [made.read(linear, cpu) for cpu in kernel.cpus] == [1, 1]
    kernel.tables.map_page(kernel.tables.kernel_pgd, linear, kernel.tables.pfn_pte(frames[1], flags), user=False)
    kernel.tlb.flush_tlb_all(made.cpu)
    assert [made.read(linear, cpu) for cpu in kernel.cpus] == [2, 2]
