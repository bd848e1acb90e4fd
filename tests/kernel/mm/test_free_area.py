"""Searches that go on where earlier ones stopped, against one that tries every address."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.free_area import FreeAreas
from sandbox.kernel.mm.vma import PROT_READ, PROT_WRITE, STACK_GUARD_GAP, VM_GROWSDOWN, Vma
from sandbox.kernel.mm.vma_tree import TASK_UNMAPPED_BASE, VmaTree
from sandbox.x86.paging import PAGE_SIZE

GAP = STACK_GUARD_GAP // PAGE_SIZE
PAGES = GAP + 120
BASE = TASK_UNMAPPED_BASE
LENGTHS = (1, 1, 1, 2, 2, 3, 4, 5, 7, 8, 9, 16, 17, 40)


def taken(tree: VmaTree) -> set[int]:
    """Pages that no new area may have: those of areas, and below one that grows those up to its neighbour's end."""
    found: set[int] = set()
    end = 0
    for vma in tree:
        start = max(vma.start - STACK_GUARD_GAP, end) if vma.flags & VM_GROWSDOWN else vma.start
        end = vma.end
        found.update(range((start - BASE) // PAGE_SIZE, (end - BASE) // PAGE_SIZE))
    return found


def naive(tree: VmaTree, count: int, down: bool) -> int | None:
    """mmap(2) of ``count`` pages in the window: the highest, or lowest, place where all of them are free."""
    no, last = taken(tree), (tree.mmap_base - BASE) // PAGE_SIZE
    places = range(last - count, -1, -1) if down else itertools.count()
    fits = (first for first in places if no.isdisjoint(range(first, first + count)))
    first = next(fits, None)
    return BASE + first * PAGE_SIZE if first is not None else None


@pytest.mark.parametrize("seed", range(12))
def test_every_answer_is_that_of_a_search_from_the_start(seed: int) -> None:
    random, tree = Random(seed), VmaTree(lowest=BASE)
    tree.mmap_base = BASE + PAGES * PAGE_SIZE
    for number in range(600):
        count, down = random.choice(LENGTHS), random.random() < 0.7
        wanted = naive(tree, count, down)
        found = tree.get_unmapped_area(count * PAGE_SIZE, bottom_up=not down)
        assert found == (naive(tree, count, False) if wanted is None else wanted), f"step {number}"
        act = random.random()
        if act < 0.5 and found is not None:
            flags = VM_GROWSDOWN if random.random() < 0.03 else 0
            tree.insert(Vma(found, found + count * PAGE_SIZE, random.choice((PROT_READ, PROT_WRITE)), flags))
        elif act < 0.9:
            start = BASE + random.randrange(PAGES) * PAGE_SIZE
            tree.remove(start, start + random.choice(LENGTHS) * PAGE_SIZE)
        elif act < 0.93:
            start = BASE + random.randrange(PAGES) * PAGE_SIZE
            tree.set_flags(start, start + 8 * PAGE_SIZE, 0, VM_GROWSDOWN)
        elif act < 0.96:
            tree.mmap_base = BASE + random.randrange(PAGES // 2, PAGES) * PAGE_SIZE
        elif act < 0.97:
            tree = tree.copy()
        tree.check()


class Counted(list[Any]):
    """A list that counts its elements' reads."""

    reads = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("down", [True, False])
def test_areas_that_were_passed_are_not_passed_again(down: bool) -> None:
    """5,000 areas with holes of a page: a search for two looks at them once, not once a search."""
    vmas = Counted(Vma(at, at + PAGE_SIZE, 1) for at in range(BASE, BASE + 10_000 * PAGE_SIZE, 2 * PAGE_SIZE))
    ends, areas = [vma.end for vma in vmas], FreeAreas()

    def search(pages: int) -> int | None:
        vmas.reads = 0
        if down:
            return areas.highest(vmas, ends, pages * PAGE_SIZE, BASE - 64 * PAGE_SIZE, ends[-1])
        return areas.lowest(vmas, ends, pages * PAGE_SIZE, BASE)

    wanted = BASE - 2 * PAGE_SIZE if down else ends[-1]
    assert search(2) == wanted and vmas.reads >= 5000
    assert search(2) == wanted and vmas.reads <= 2
    gone = vmas.pop(2500)
    del ends[2500]
    areas.freed(vmas, ends, gone.start)
    assert search(2) == (gone.start if down else gone.start - PAGE_SIZE) and vmas.reads <= 4
    assert search(3) == gone.start - PAGE_SIZE


def test_nothing_free_is_known_at_once() -> None:
    tree = VmaTree()
    tree.insert(Vma(tree.lowest, TASK_SIZE, PROT_READ))
    assert [tree.get_unmapped_area(PAGE_SIZE) for _ in range(2)] == [None, None]
    tree.remove(0x50000000, 0x50001000)
    assert [tree.get_unmapped_area(size) for size in (PAGE_SIZE, 2 * PAGE_SIZE)] == [0x50000000, None]
