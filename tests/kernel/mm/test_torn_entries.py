"""An entry of two words, looked at between the two stores, as a CPU does that walks there.

What must hold is of the manual and of 2.4's pgtable-3level.h (MM 17): what is found is the entry of before, the one of
afterwards, or none that is present; never a present one that nobody stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from sandbox.kernel.kernel import Kernel
from sandbox.x86.paging import NX, RW, US, A, D, P
from tests.kernel.mm.machines import boot

FLAGS = P | RW | US | A | D
LOW, HIGH, HIGHER = 0x24067, 0x1_2345_6000 | FLAGS, 0x7_8765_4000 | FLAGS
ENTRIES = (LOW, HIGH, HIGHER, HIGH | NX, LOW | NX)
AWAY = (0, 0x1234 << 40, 0x5678_00 << 8 & ~P)
"""Nothing; a slot of swap in the upper word (2.6), or in the lower one (2.4)."""


@dataclass
class Watcher:
    """In place of the schedule: what is in the entry at every point."""

    look: Callable[[], int]
    active: bool = True
    seen: list[tuple[str, int]] = field(default_factory=list)

    def point(self, name: str) -> None:
        self.seen.append((name, self.look()))


@dataclass
class Place:
    kernel: Kernel
    ptep: int
    watcher: Watcher

    def holds(self, entry: int) -> None:
        """Without anybody looking."""
        tables = self.kernel.tables
        self.watcher.active = False
        tables.get_and_clear(self.ptep)
        if entry:
            tables.set_pte(self.ptep, entry)
        self.watcher.active = True
        self.watcher.seen.clear()


def place(*switches: str) -> Place:
    kernel = boot(switches=frozenset(switches))
    tables = kernel.tables
    ptep = tables.pte_alloc(tables.kernel_pgd, kernel.layout.vmalloc.start, user=False)
    watcher = Watcher(lambda: tables.read(ptep))
    tables.races = watcher  # type: ignore[assignment]
    return Place(kernel, ptep, watcher)


def torn(seen: list[tuple[str, int]], *whole: int) -> list[int]:
    """Entries that hardware would use and nobody stored."""
    return [entry for _, entry in seen if entry & P and entry not in whole]


@pytest.mark.parametrize("new", ENTRIES)
@pytest.mark.parametrize("old", [*AWAY, *ENTRIES])
def test_nobody_finds_half_an_entry(old: int, new: int) -> None:
    made = place()
    tables, seen = made.kernel.tables, made.watcher.seen
    for store in (tables.set_pte, lambda ptep, entry: tables.set_pte_if(ptep, old, entry)):
        made.holds(old)
        store(made.ptep, new)
        assert torn(seen, old, new) == [] and tables.read(made.ptep) == new
        assert [name for name, _ in seen] == ([] if old & P else ["set_pte"])


@pytest.mark.parametrize("old", [each for each in (*AWAY, *ENTRIES) if each])
def test_what_is_taken_out_is_gone_at_the_first_store(old: int) -> None:
    made = place()
    made.holds(old)
    assert made.kernel.tables.get_and_clear(made.ptep) == old
    assert made.watcher.seen == [("clear_pte", old >> 32 << 32)], "the lower word, with P, goes first"
    assert made.kernel.tables.read(made.ptep) == 0


def test_who_would_change_it_is_told_to_wait() -> None:
    made = place()
    tables, held = made.kernel.tables, list[bool]()
    made.watcher.look = lambda: held.append(made.ptep in tables.half_stored) or 0
    tables.set_pte(made.ptep, HIGH)
    tables.get_and_clear(made.ptep)
    assert held == [True, True] and not tables.half_stored


@pytest.mark.parametrize(("old", "new"), [(0, HIGH), (LOW, HIGH), (HIGH, HIGHER), (HIGH, 0)])
def test_the_wrong_order_tears_it(old: int, new: int) -> None:
    """The switch: the words are there afterwards as they should be, and were not in between."""
    made = place("pae-low-first")
    made.holds(old)
    tables = made.kernel.tables
    if new:
        assert tables.set_pte_if(made.ptep, old, new)
    else:
        assert tables.get_and_clear(made.ptep) == old
    assert len(torn(made.watcher.seen, old, new)) == 1 and tables.read(made.ptep) == new
