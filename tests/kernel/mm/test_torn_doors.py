"""Every change that the two doors make, looked at between its stores: the entries of programs, and the kernel's own.

The frames lie below and above 4 GB, so that the upper words of two entries differ.  What must hold is MM 17's: nobody
finds a present entry that nobody stored.  Under ``pae-low-first`` each of them is torn, which shows that the look sees.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.mm.gfp import DMA, GFP_HIGHUSER, GFP_KERNEL
from sandbox.kernel.mm.kernel_entries import KernelEntries
from sandbox.kernel.process.fork import dup_mm
from sandbox.x86.paging import NX, RW, US, A, D, P
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.machines import store
from tests.kernel.mm.test_torn_entries import Watcher, torn

USER, KERNEL = P | US | A | D, P | RW | A | D
FOUR_GB_FRAME = 1 << 20


class Looked:
    """A machine of 6 GB; ``around`` makes a change and gives what was found at every point of it."""

    def __init__(self, space: MakeSpace, switches: frozenset[str]) -> None:
        self.made: Space = space(ram=6 << 30, cpus=2, races=(), switches=switches)
        self.kernel, self.mm, self.cpu = self.made.kernel, self.made.mm, self.made.cpu
        self.made.map(2)
        self.door = KernelEntries(self.kernel.tables)
        self.door.tlb = self.kernel.tlb
        self.low = self.kernel.page_alloc.alloc_page(GFP_KERNEL)
        self.high = self.kernel.page_alloc.alloc_page(GFP_HIGHUSER)
        assert self.low < FOUR_GB_FRAME <= self.high
        self.ptep = self.kernel.tables.pte_alloc(self.mm.pgd, AREA)
        self.next = self.kernel.tables.pte_alloc(self.mm.pgd, AREA + PAGE)

    def entry(self, pfn: int, flags: int = USER) -> int:
        return self.kernel.tables.pfn_pte(pfn, flags)

    def starts_with(self, entry: int) -> int:
        self.kernel.tables._quads[self.ptep] = entry  # type: ignore[attr-defined]
        return entry

    def around(self, change: Callable[[], object], ptep: int) -> list[int]:
        """Present entries at a place that were there neither before nor afterwards."""
        kernel, tables = self.kernel, self.kernel.tables
        watcher = Watcher(lambda: tables.read(ptep))
        races = tables.races, kernel.entries.races
        tables.races = kernel.entries.races = self.door.races = watcher  # type: ignore[assignment]
        before = tables.read(ptep)
        change()
        tables.races, kernel.entries.races = races
        return torn(watcher.seen, before, tables.read(ptep))


def install(at: Looked) -> list[int]:
    return at.around(lambda: at.kernel.entries.install(at.mm, at.ptep, at.entry(at.high)), at.ptep)


def replace(at: Looked) -> list[int]:
    old, new = at.starts_with(at.entry(at.low)), at.entry(at.high)
    return at.around(lambda: at.kernel.entries.replace(at.cpu, at.mm, AREA, at.ptep, old, new), at.ptep)


def change(at: Looked) -> list[int]:
    old, new = at.starts_with(at.entry(at.high) | NX), at.entry(at.high, USER | RW)
    return at.around(lambda: at.kernel.entries.change(at.cpu, at.mm, AREA, at.ptep, old, new), at.ptep)


def share(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high))
    child = dup_mm(at.kernel, at.cpu, at.mm)
    ptep = at.kernel.tables.pte_alloc(child.pgd, AREA)
    at.kernel.tables.get_and_clear(ptep)
    return at.around(lambda: at.kernel.entries.share(child, AREA, at.entry(at.high)), ptep)


def remove(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high))
    gather = at.kernel.entries.gather(at.cpu, at.mm)
    return at.around(lambda: gather.remove(AREA, at.ptep), at.ptep)


def protect(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high, USER | RW))
    gather = at.kernel.entries.gather(at.cpu, at.mm)
    return at.around(lambda: gather.protect(AREA, at.ptep, lambda entry: entry & ~RW | NX), at.ptep)


def move_from(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high))
    gather = at.kernel.entries.gather(at.cpu, at.mm)
    return at.around(lambda: gather.move(AREA, at.ptep, at.next), at.ptep)


def move_to(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high))
    gather = at.kernel.entries.gather(at.cpu, at.mm)
    return at.around(lambda: gather.move(AREA, at.ptep, at.next), at.next)


def suspend(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high))
    return at.around(lambda: at.kernel.entries.suspend(at.cpu, at.mm, AREA, at.ptep), at.ptep)


def resume(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high))
    entry = at.kernel.entries.suspend(at.cpu, at.mm, AREA, at.ptep)
    return at.around(lambda: at.kernel.entries.resume(at.ptep, entry, at.high), at.ptep)


def kernel_place(at: Looked) -> tuple[int, int]:
    """An address of the vmalloc region that nobody uses, and its place."""
    linear = at.kernel.layout.vmalloc.end - 16 * PAGE
    return linear, at.door.place(linear)


def map_page(at: Looked) -> list[int]:
    linear, ptep = kernel_place(at)
    return at.around(lambda: at.door.map_page(linear, at.entry(at.high, KERNEL)), ptep)


def map_at(at: Looked) -> list[int]:
    _, ptep = kernel_place(at)
    return at.around(lambda: at.door.map_at(ptep, at.entry(at.high, KERNEL)), ptep)


def taken(clear: Callable[[Looked, int, int], object]) -> Callable[[Looked], list[int]]:
    """A page above 4 GB is taken away from the kernel's half."""

    def look(at: Looked) -> list[int]:
        linear, ptep = kernel_place(at)
        at.door.map_at(ptep, at.entry(at.high, KERNEL))
        return at.around(lambda: clear(at, linear, ptep), ptep)

    return look


def set_window(at: Looked) -> list[int]:
    linear, ptep = kernel_place(at)
    return at.around(lambda: at.door.set_window(at.cpu, linear, at.entry(at.high, KERNEL)), ptep)


def window_changed(at: Looked) -> list[int]:
    linear, ptep = kernel_place(at)
    at.door.map_at(ptep, at.entry(at.low, KERNEL))
    return at.around(lambda: at.door.set_window(at.cpu, linear, at.entry(at.high, KERNEL)), ptep)


def task_window(at: Looked) -> list[int]:
    entry = at.entry(at.high, KERNEL)
    return at.around(lambda: at.door.set_task_window(at.mm.pgd, AREA, entry), at.ptep)


def task_window_cleared(at: Looked) -> list[int]:
    at.starts_with(at.entry(at.high, KERNEL))
    return at.around(lambda: at.door.clear_task_window(at.mm.pgd, AREA, at.cpu), at.ptep)


def _clear_window(at: Looked, linear: int, ptep: int) -> None:
    cpu: KernelCpu = at.cpu
    at.door.clear_window(linear, cpu)


CHANGES: dict[str, Callable[[Looked], list[int]]] = {
    "install": install,
    "replace": replace,
    "change": change,
    "share": share,
    "remove": remove,
    "protect": protect,
    "move: from": move_from,
    "move: to": move_to,
    "suspend": suspend,
    "resume": resume,
    "map_page": map_page,
    "map_at": map_at,
    "clear_at": taken(lambda at, linear, ptep: at.door.clear_at(ptep)),
    "clear_pkmap": taken(lambda at, linear, ptep: at.door.clear_pkmap(ptep)),
    "unmap": taken(lambda at, linear, ptep: at.door.unmap(linear)),
    "clear_window": taken(_clear_window),
    "set_window": set_window,
    "set_window: another page": window_changed,
    "set_task_window": task_window,
    "clear_task_window": task_window_cleared,
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_is_seen_torn_and_each_is_under_the_switch(space: MakeSpace, name: str) -> None:
    for switches, found in ((frozenset[str](), 0), (frozenset({"pae-low-first"}), 1)):
        assert len(CHANGES[name](Looked(space, switches))) == found, switches


class Walked(Looked):
    """The look is a load of another CPU's: its MMU walks between the two stores, with an empty TLB.

    ``third`` is the frame 4 GB below ``high``, and has a word of its own, as each of the others.
    """

    HIGH, LOW, THIRD = 0x600D0001, 0x600D0002, 0xBAD00003

    def __init__(self, space: MakeSpace, switches: frozenset[str]) -> None:
        super().__init__(space, switches)
        pages, pgdat = self.kernel.page_alloc, self.kernel.pgdat
        self.third = pages.alloc_pages(GFP_KERNEL | DMA)
        while not pgdat.isolate(self.third + FOUR_GB_FRAME):
            self.third = pages.alloc_pages(GFP_KERNEL | DMA)
        self.high = self.third + FOUR_GB_FRAME
        for pfn, word in ((self.high, self.HIGH), (self.low, self.LOW), (self.third, self.THIRD)):
            linear = self.kernel.highmem.kmap_atomic(self.cpu, pfn)
            store(self.kernel, linear, word)
            self.kernel.highmem.kunmap_atomic(self.cpu, linear)

    def around(self, change: Callable[[], object], ptep: int) -> list[int]:
        """Words that the other CPU loaded and that are in neither of the two pages; 0 is a fault."""
        words: list[int] = []
        beside, linear = self.kernel.cpus[1], kernel_place(self)[0]

        def look() -> int:
            beside.call(beside.routines.flush_tlb_all)
            words.append(beside.call(self.kernel.routines.get_user_4, edi=linear))
            return 0

        watcher, tables = Watcher(look), self.kernel.tables
        races, tables.races = tables.races, watcher  # type: ignore[assignment]
        change()
        tables.races = races
        return [word for word in words if word not in (0, self.HIGH, self.LOW)]


KERNELS = (
    "map_page", "map_at", "clear_at", "clear_pkmap", "unmap", "clear_window", "set_window", "set_window: another page",
)  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_the_other_cpus_mmu_finds_no_third_page(space: MakeSpace, name: str) -> None:
    assert CHANGES[name](Walked(space, frozenset())) == []
    assert CHANGES[name](Walked(space, frozenset({"pae-low-first"}))) == [Walked.THIRD]
