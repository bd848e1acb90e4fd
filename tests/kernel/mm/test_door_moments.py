"""Somebody comes in at one race point of the door: what was read is read again (Linux holds the table's lock)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.kernel.abi.errno import EBUSY, KernelError
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.mmap import MAP_PRIVATE, MAP_SHARED
from sandbox.kernel.mm.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from sandbox.kernel.mm.swapops import LostEntry
from sandbox.kernel.process.fork import dup_mm
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.test_pageout import make_file, map_file


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


@pytest.mark.parametrize("prot", [3, 7])
@pytest.mark.parametrize("point", ["moving", "move", "set_pte"])
def test_mremap_hides_no_page_from_a_truncation(space: MakeSpace, paging: str, point: str, prot: int) -> None:
    """mmap(2), SIGBUS: who is in the middle of a move when the file is cut keeps nothing behind its end."""
    if point == "set_pte" and paging == "legacy":
        pytest.skip("an entry of one word is stored at once")
    made, inode, there = space(paging=paging), make_file(2), AREA + 64 * PAGE
    map_file(made, inode, 2, MAP_SHARED, prot)
    for page in range(2):
        assert made.write(AREA + page * PAGE, 5)
    kernel, entries = made.kernel, made.kernel.entries
    frames = [made.frame(AREA + page * PAGE) for page in range(2)]
    stopped: list[Callable[[], None]] = []

    def cut() -> None:
        if entries.in_hand:  # the truncation waits for the mover, and goes on behind its store
            stopped.append(lambda: kernel.writeback.vmtruncate(inode, 0))
        else:
            kernel.writeback.vmtruncate(inode, 0)

    moment = at(made, point, cut)
    kernel.mremap.do_mremap(made.task, AREA, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, there)
    quiet(made)
    for each in stopped:
        each()
    assert moment.happened
    assert [made.entry(at + page * PAGE) for at in (AREA, there) for page in range(2)] == [0] * 4
    assert [kernel.memmap.count(pfn) for pfn in frames] == [0, 0]


@pytest.mark.parametrize(("flags", "write"), [(MAP_SHARED, True), (MAP_SHARED, False), (MAP_PRIVATE, True)])
def test_a_fault_brings_in_no_page_that_was_cut_off(space: MakeSpace, paging: str, flags: int, write: bool) -> None:
    """Linux asks under the page's lock whether it is still the file's (2.6.23, filemap_fault)."""
    made, inode = space(paging=paging), make_file(1)
    map_file(made, inode, 1, flags)
    kernel = made.kernel
    made.kernel.faults._races = moment = at(made, "install", lambda: kernel.writeback.vmtruncate(inode, 0))  # type: ignore[assignment]
    assert not made.write(AREA, 9) if write else made.read(AREA) == 0
    quiet(made)
    kernel.faults._races = kernel.races
    assert moment.happened and made.entry(AREA) == 0


def test_a_truncation_finds_what_moves_while_it_walks(space: MakeSpace, paging: str) -> None:
    """Linux has i_mmap_lock against that (move_ptes); here the walk is made again until it finds nothing."""
    made, inode, there = space(paging=paging), make_file(2), AREA + 64 * PAGE
    map_file(made, inode, 2, MAP_SHARED)
    for page in range(2):
        assert made.write(AREA + page * PAGE, 5)
    kernel, frames = made.kernel, [made.frame(AREA + page * PAGE) for page in range(2)]
    how = MREMAP_MAYMOVE | MREMAP_FIXED
    moment = at(made, "remove", lambda: kernel.mremap.do_mremap(made.task, AREA + PAGE, PAGE, PAGE, how, there))
    kernel.writeback.vmtruncate(inode, 0)
    quiet(made)
    assert moment.happened and made.entry(there) == 0
    assert [kernel.memmap.count(pfn) for pfn in frames] == [0, 0]


def test_who_looks_for_all_places_waits_for_a_move(space: MakeSpace, paging: str) -> None:
    made, inode = space(paging=paging), make_file(1)
    map_file(made, inode, 1, MAP_SHARED)
    assert made.write(AREA, 5)
    entries, turns = made.kernel.entries, []

    def patience() -> bool:
        turns.append(entries.in_hand)
        entries.in_hand = 0
        return True

    entries.in_hand = 1
    with pytest.raises(LostEntry, match="nobody moves it"):
        made.kernel.writeback.vmtruncate(inode, 0)
    made.kernel.smp.patience, kept = patience, made.kernel.smp.patience
    made.kernel.writeback.truncated(inode)
    made.kernel.smp.patience = kept
    assert turns == [1] and made.entry(AREA) == 0
