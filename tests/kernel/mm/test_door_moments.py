"""Somebody comes in at one race point of the door: what was read is read again (Linux holds the table's lock)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.kernel.abi.errno import EBUSY, KernelError
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.process.fork import dup_mm
from tests.kernel.mm.conftest import AREA, MakeSpace, Space


class Moment:
    """Races of which one moment happens: the first passage of a point does ``act``."""

    active = True

    def __init__(self, name: str, act: Callable[[], object]) -> None:
        self.name, self.act, self.happened = name, act, False

    def point(self, name: str) -> None:
        if name == self.name and not self.happened:
            self.happened = True
            self.act()


def at(made: Space, name: str, act: Callable[[], object]) -> Moment:
    moment = Moment(name, act)
    made.kernel.entries.races = made.kernel.tables.races = moment  # type: ignore[assignment]
    return moment


def quiet(made: Space) -> None:
    made.kernel.entries.races = made.kernel.tables.races = made.kernel.races


def move(made: Space) -> None:
    """The page at AREA goes to another frame, as isahole and compaction move it."""
    kernel, old = made.kernel, made.frame(AREA)
    entries, ptep = kernel.entries, kernel.tables.pte_alloc(made.mm.pgd, AREA)
    new = kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    entry = entries.suspend(made.cpu, made.mm, AREA, ptep)
    kernel.highmem.copy_highpage(made.cpu, new, old)
    entries.resume(ptep, entry, new)
    kernel.page_alloc.put_page(old)


def test_fork_shares_what_is_there_when_it_shares(space: MakeSpace, paging: str) -> None:
    """The page moves between the store that takes the parent's right to write and the child's entry."""
    made = space(paging=paging)
    made.map(1)
    made.write(AREA, 7)
    old, free = made.frame(AREA), made.kernel.pgdat.free_frames
    moment = at(made, "protect", lambda: move(made))
    child = dup_mm(made.kernel, made.cpu, made.mm)
    quiet(made)
    tables = made.kernel.tables
    assert moment.happened and made.frame(AREA) != old
    assert tables.pte_pfn(tables.lookup_pte(child.pgd, AREA)) == made.frame(AREA), "not the frame that it was"
    assert made.count(AREA) == 2
    made.kernel.mmu.mmput(made.cpu, child)
    assert (made.count(AREA), made.kernel.pgdat.free_frames) == (1, free)


def test_a_shared_page_is_counted_before_its_entry_is_half_stored(space: MakeSpace) -> None:
    made = space(paging="pae")
    made.map(1)
    made.write(AREA, 7)
    counts: list[int] = []
    tables, child = made.kernel.tables, made.kernel.mmu.mm_alloc()
    tables.pte_alloc(child.pgd, AREA)
    at(made, "set_pte", lambda: counts.append(made.count(AREA)))
    made.kernel.entries.share(child, AREA, tables.lookup_pte(made.mm.pgd, AREA))
    quiet(made)
    assert counts == [2]
    made.kernel.mmu.mmput(made.cpu, child)


def test_a_page_that_somebody_pins_meanwhile_stays(space: MakeSpace, paging: str) -> None:
    """2.6's migrate_page_move_mapping counts again when every entry is out of the way."""
    made = space(paging=paging)
    made.map(1)
    made.write(AREA, 7)
    kernel, pfn = made.kernel, made.frame(AREA)
    ptep, free = kernel.tables.pte_alloc(made.mm.pgd, AREA), kernel.pgdat.free_frames
    moment = at(made, "suspend", lambda: kernel.memmap.get_page(pfn))
    with pytest.raises(KernelError) as caught:
        kernel.isahole._move(pfn, [(made.mm, AREA, ptep)], range(pfn, pfn + 1))
    quiet(made)
    assert moment.happened and caught.value.errno == EBUSY
    assert (made.frame(AREA), made.read(AREA), kernel.pgdat.free_frames) == (pfn, 7, free)
    kernel.page_alloc.put_page(pfn)
    assert made.count(AREA) == 1
