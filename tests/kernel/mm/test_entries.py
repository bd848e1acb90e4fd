"""The door: what each change keeps together, on real tables and a real second CPU."""

from __future__ import annotations

import pytest

from sandbox.kernel.mm.entries import Scope
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.pte import Kind, decode
from sandbox.kernel.mm.swapops import LostEntry
from sandbox.kernel.process.fork import dup_mm
from sandbox.x86.paging import RW, US, A, D, P
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space


def place(made: Space, linear: int) -> int:
    return made.kernel.tables.pte_alloc(made.mm.pgd, linear)


def fresh(made: Space) -> tuple[int, int]:
    """A frame with one reference, and a writable entry for it."""
    pfn = made.kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    return pfn, made.kernel.tables.pfn_pte(pfn, P | RW | US | A | D)


def test_install_does_not_overwrite(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map(1)
    made.write(AREA, 7)
    before, rss = made.frame(AREA), made.mm.rss
    pfn, entry = fresh(made)
    assert not made.kernel.entries.install(made.mm, place(made, AREA), entry)
    assert (made.frame(AREA), made.mm.rss, made.kernel.memmap.count(pfn)) == (before, rss, 1)


def test_replace_lets_go_behind_the_flush(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map(1)
    made.write(AREA, 7)
    old, rss = made.frame(AREA), made.mm.rss
    pfn, entry = fresh(made)
    counts = []
    flush = made.kernel.tlb.flush_tlb_page
    made.kernel.entries.tlb.flush_tlb_page = lambda *given: (  # type: ignore[method-assign]
        counts.append(made.kernel.memmap.count(old)),
        flush(*given),
    )[1]
    ptep = place(made, AREA)
    assert made.kernel.entries.replace(made.cpu, made.mm, AREA, ptep, made.kernel.tables.read(ptep), entry)
    assert counts == [1], "at the flush the old frame is still held"
    assert (made.kernel.memmap.count(old), made.frame(AREA), made.mm.rss) == (0, pfn, rss)


def test_the_copy_itself_makes_no_other_entry(space: MakeSpace, paging: str) -> None:
    """do_wp_page reads the page through the program's own entry, and the CPU sets the accessed bit there."""
    made = space(paging=paging)
    made.map(1)
    made.write(AREA, 7)
    child = dup_mm(made.kernel, made.cpu, made.mm)
    ptep = place(made, AREA)
    made.kernel.tables.set_pte(ptep, made.kernel.tables.read(ptep) & ~A)
    made.kernel.tlb.flush_tlb_page(made.cpu, made.mm, AREA)
    made.faults.clear()
    assert made.write(AREA, 8)
    assert made.resolutions == ["cow-copy"]
    made.kernel.mmu.mmput(made.cpu, child)


@pytest.mark.parametrize("how", ["replace", "change"])
def test_what_was_decided_by_an_old_entry_is_not_done(space: MakeSpace, how: str) -> None:
    made = space()
    made.map(1)
    made.write(AREA, 7)
    ptep = place(made, AREA)
    stale = made.kernel.tables.read(ptep) ^ RW
    pfn, entry = fresh(made)
    assert not getattr(made.kernel.entries, how)(made.cpu, made.mm, AREA, ptep, stale, entry)
    assert made.frame(AREA) != pfn


def test_a_gather_holds_frames_until_it_is_finished(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map(3)
    frames = []
    for number in range(3):
        made.write(AREA + number * PAGE, number)
        frames.append(made.frame(AREA + number * PAGE))
    rss = made.mm.rss
    gather = made.kernel.entries.gather(made.cpu, made.mm)
    for number in range(3):
        gather.remove(AREA + number * PAGE, place(made, AREA + number * PAGE))
    gather.flush()
    assert [made.kernel.memmap.count(pfn) for pfn in frames] == [1, 1, 1]
    gather.finish()
    assert [made.kernel.memmap.count(pfn) for pfn in frames] == [0, 0, 0]
    assert made.mm.rss == rss - 3


def test_the_scope_of_a_flush(space: MakeSpace) -> None:
    made = space()
    made.map(2)
    counters = made.kernel.tlb.counters
    for scope, expected in ((Scope.PAGES, (1, 0)), (Scope.SPACE, (0, 1)), (Scope.NOTHING, (0, 0))):
        made.write(AREA, 1)
        pages, spaces = counters.pages, counters.spaces
        gather = made.kernel.entries.gather(made.cpu, made.mm, scope)
        gather.protect(AREA, place(made, AREA), lambda entry: entry & ~RW)
        gather.finish()
        assert (counters.pages - pages, counters.spaces - spaces) == expected, scope


def test_who_meets_a_page_that_is_moved_waits(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    kernel = made.kernel
    made.map(1)
    made.write(AREA, 0x1234)
    old, ptep = made.frame(AREA), place(made, AREA)
    entry = kernel.entries.suspend(made.cpu, made.mm, AREA, ptep)
    assert decode(kernel.tables.read(ptep)).kind is Kind.MIGRATING
    with pytest.raises(LostEntry, match="nobody moves it"):
        kernel.entries.settled(ptep)
    new = kernel.page_alloc.alloc_page(GFP_HIGHUSER)

    def mover() -> bool:
        kernel.highmem.copy_highpage(made.cpu, new, old)
        kernel.entries.resume(ptep, entry, new)
        return True

    kernel.smp.patience = mover
    assert made.read(AREA) == 0x1234, "the fault waited, and found the page in its new frame"
    assert made.frame(AREA) == new


def test_a_new_space_shares_and_counts(space: MakeSpace, paging: str) -> None:
    made = space(paging=paging)
    made.map(2)
    made.write(AREA, 7)
    made.read(AREA + PAGE)
    kernel = made.kernel
    child = kernel.mmu.mm_alloc()
    zero = kernel.tables.lookup_pte(made.mm.pgd, AREA + PAGE)
    kernel.entries.share(child, AREA, kernel.tables.lookup_pte(made.mm.pgd, AREA))
    kernel.entries.share(child, AREA + PAGE, zero)
    assert (child.rss, kernel.memmap.count(made.frame(AREA))) == (1, 2), "the zero page is nobody's"
    kernel.mmu.mmput(made.cpu, child)
    assert kernel.memmap.count(made.frame(AREA)) == 1
