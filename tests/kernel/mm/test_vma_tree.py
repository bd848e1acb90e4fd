"""VMAs against a model that knows only single pages, and against mmap(2), mprotect(2) and brk(2)."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.vma import (
    MMAP_MIN_ADDR,
    STACK_GUARD_GAP,
    VM_DONTCOPY,
    VM_GROWSDOWN,
    VM_SHARED,
    Vma,
)
from sandbox.kernel.mm.vma_tree import TASK_UNMAPPED_BASE, VmaTree, mmap_base
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_SIZE
from tests.campaign import histories

R, W, X = 1, 2, 4
INODES = (Inode(), Inode())


def spans(tree: VmaTree) -> list[tuple[int, int, int]]:
    return [(vma.start, vma.end, vma.prot) for vma in tree]


class TestSplitAndMerge:
    def test_anonymous_neighbours_become_one(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x12000, R))
        tree.insert(Vma(0x14000, 0x15000, R))
        merged = tree.insert(Vma(0x12000, 0x14000, R))
        assert spans(tree) == [(0x10000, 0x15000, R)]
        assert tree.find(0x12000) is merged

    def test_file_neighbours_need_pages_in_sequence(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x12000, R, 0, INODES[0], 5))
        tree.insert(Vma(0x12000, 0x13000, R, 0, INODES[0], 7))
        assert len(tree) == 1
        tree.insert(Vma(0x13000, 0x14000, R, 0, INODES[0], 9))
        tree.insert(Vma(0x14000, 0x15000, R, 0, INODES[1], 10))
        assert len(tree) == 3

    @pytest.mark.parametrize("other", [Vma(0x11000, 0x12000, R | W), Vma(0x11000, 0x12000, R, VM_SHARED)])
    def test_unlike_neighbours_stay_apart(self, other: Vma) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x11000, R))
        tree.insert(other)
        assert len(tree) == 2

    def test_removing_the_middle_splits_and_moves_pgoff(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x20000, R, 0, INODES[0], 1))
        (removed,) = tree.remove(0x14000, 0x16000)
        assert (removed.start, removed.end, removed.pgoff) == (0x14000, 0x16000, 5)
        below, above = tree
        assert (below.end, above.start, above.pgoff) == (0x14000, 0x16000, 7)
        assert tree.pages == 14

    def test_protect_reports_what_changed_and_merges_back(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x20000, R | W))
        assert tree.protect(0x12000, 0x13000, R) == [(0x12000, 0x13000, R | W)]
        assert len(tree) == 3
        assert tree.protect(0x10000, 0x20000, R | W) == [(0x12000, 0x13000, R)]
        assert spans(tree) == [(0x10000, 0x20000, R | W)]
        assert tree.protect(0x10000, 0x20000, R | W) == []

    def test_protect_unsplit_changes_the_whole(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x20000, R | W))
        assert tree.protect(0x12000, 0x13000, R, split=False) == [(0x10000, 0x20000, R | W)]

    def test_overlap_and_ragged_ranges_are_refused(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x12000, R))
        with pytest.raises(ValueError, match="overlaps"):
            tree.insert(Vma(0x11000, 0x13000, R))
        with pytest.raises(ValueError, match="TASK_SIZE"):
            tree.insert(Vma(TASK_SIZE - 0x1000, TASK_SIZE + 0x1000, R))
        with pytest.raises(ValueError, match="whole pages"):
            Vma(0x10001, 0x12000, R)
        with pytest.raises(ValueError, match="whole pages"):
            tree.remove(0x10000, 0x10001)

    def test_first_gap(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x12000, R))
        tree.insert(Vma(0x12000, 0x13000, W))
        assert tree.first_gap(0x10000, 0x13000) is None
        assert tree.first_gap(0x11000, 0x14000) == 0x13000
        assert tree.first_gap(0xF000, 0x11000) == 0xF000

    def test_fork_copies(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(0x10000, 0x12000, R))
        tree.insert(Vma(0x20000, 0x22000, R, VM_DONTCOPY))
        child = tree.copy()
        child.check()
        child.protect(0x10000, 0x11000, 0)
        assert spans(child) == [(0x10000, 0x11000, 0), (0x11000, 0x12000, R)]
        assert spans(tree) == [(0x10000, 0x12000, R), (0x20000, 0x22000, R)]

    def test_describe(self) -> None:
        assert Vma(0x8048000, 0x8049000, R | X).describe() == "08048000-08049000 r-xp 00000000"
        assert Vma(0xBFFFE000, 0xC0000000, R | W, VM_GROWSDOWN).describe() == "bfffe000-c0000000 rw-p 00000000 [stack]"


class TestUnmappedArea:
    def test_base_leaves_room_for_the_stack(self) -> None:
        assert mmap_base(8 << 20) == 0xB8000000
        assert mmap_base(1 << 30) == 0x80000000
        assert mmap_base(0xFFFFFFFF) == 0x20000000

    def test_top_down_goes_below_what_is_there(self) -> None:
        tree = VmaTree()
        assert tree.get_unmapped_area(0x1001) == 0xB7FFE000
        tree.insert(Vma(0xB7FFE000, 0xB8000000, R))
        tree.insert(Vma(0xB7FF0000, 0xB7FFD000, R))
        assert tree.get_unmapped_area(0x1000) == 0xB7FFD000
        assert tree.get_unmapped_area(0x2000) == 0xB7FEE000

    def test_bottom_up_starts_at_a_third(self) -> None:
        tree = VmaTree(top_down=False)
        assert tree.get_unmapped_area(0x1000) == TASK_UNMAPPED_BASE == 0x40000000
        tree.insert(Vma(0x40000000, 0x40002000, R))
        tree.insert(Vma(0x40003000, 0x40004000, R))
        assert tree.get_unmapped_area(0x1000) == 0x40002000
        assert tree.get_unmapped_area(0x2000) == 0x40004000
        assert tree.get_unmapped_area(0x1000, bottom_up=False) == 0xB7FFF000

    def test_full_below_falls_back_to_bottom_up(self) -> None:
        tree = VmaTree()
        tree.insert(Vma(MMAP_MIN_ADDR, tree.mmap_base, R))
        assert tree.get_unmapped_area(0x1000) == 0xB8000000
        tree.insert(Vma(0xB8000000, TASK_SIZE, R | W))
        assert tree.get_unmapped_area(0x1000) is None

    def test_hint(self) -> None:
        tree = VmaTree()
        assert tree.get_unmapped_area(0x1000, 0x50000001) == 0x50001000
        assert tree.get_unmapped_area(0x1000, 0x1000) == MMAP_MIN_ADDR
        tree.insert(Vma(0x50001000, 0x50002000, R))
        assert tree.get_unmapped_area(0x1000, 0x50001000) == 0xB7FFF000
        assert tree.get_unmapped_area(0x2000, TASK_SIZE - 0x1000) == 0xB7FFE000

    def test_guard_gap_below_a_stack(self) -> None:
        tree = VmaTree()
        stack = tree.insert(Vma(0x60000000, 0x60010000, R | W, VM_GROWSDOWN))
        assert stack.floor == 0x60000000 - STACK_GUARD_GAP
        assert tree.get_unmapped_area(0x1000, stack.floor) != stack.floor
        assert tree.get_unmapped_area(0x1000, stack.floor - 0x1000) == stack.floor - 0x1000

    def test_impossible_lengths(self) -> None:
        assert VmaTree().get_unmapped_area(0) is None
        assert VmaTree().get_unmapped_area(TASK_SIZE + 1) is None


class TestStack:
    def stack(self) -> tuple[VmaTree, Vma]:
        tree = VmaTree()
        return tree, tree.insert(Vma(0xBFFFF000, TASK_SIZE, R | W, VM_GROWSDOWN))

    def test_grows_to_the_page_of_the_fault(self) -> None:
        tree, stack = self.stack()
        assert tree.expand(stack, 0xBFFF8123, 8 << 20)
        assert (stack.start, tree.pages) == (0xBFFF8000, 8)
        tree.check()

    def test_limit_is_inclusive(self) -> None:
        tree, stack = self.stack()
        assert not tree.expand(stack, TASK_SIZE - (8 << 20) - 1, 8 << 20)
        assert tree.expand(stack, TASK_SIZE - (8 << 20), 8 << 20)

    def test_keeps_the_guard_gap(self) -> None:
        tree, stack = self.stack()
        tree.insert(Vma(0xBFE00000, 0xBFE01000, R))
        assert not tree.expand(stack, 0xBFE01000 + STACK_GUARD_GAP - 1, 8 << 20)
        assert tree.expand(stack, 0xBFE01000 + STACK_GUARD_GAP, 8 << 20)

    def test_a_page_without_access_below_is_its_own_guard(self) -> None:
        tree, stack = self.stack()
        tree.insert(Vma(0xBFE00000, 0xBFE01000, 0))
        assert not tree.expand(stack, 0xBFE00FFF, 8 << 20)
        assert tree.expand(stack, 0xBFE01000, 8 << 20)

    def test_other_vmas_do_not_grow(self) -> None:
        tree = VmaTree()
        vma = tree.insert(Vma(0x20000, 0x21000, R))
        assert not tree.expand(vma, 0x1FFFF, 8 << 20)


class TestBrk:
    def tree(self) -> VmaTree:
        tree = VmaTree()
        tree.start_brk = tree.brk = 0x804A123
        return tree

    def test_moves_by_bytes_and_maps_by_pages(self) -> None:
        tree = self.tree()
        assert tree.set_brk(0x804AFFF) == []
        assert (tree.brk, len(tree)) == (0x804AFFF, 0)
        tree.set_brk(0x804C001)
        assert spans(tree) == [(0x804B000, 0x804D000, R | W)]
        (gone,) = tree.set_brk(0x804B001)
        assert (gone.start, gone.end) == (0x804C000, 0x804D000)
        assert tree.brk == 0x804B001

    def test_stays_when_it_cannot_move(self) -> None:
        tree = self.tree()
        tree.set_brk(0x804C000)
        for wrong in (0x804A122, TASK_SIZE + 1, 0):
            assert tree.set_brk(wrong) == []
            assert tree.brk == 0x804C000
        assert tree.brk == 0x804C000

    def test_keeps_a_page_from_the_next_mapping(self) -> None:
        tree = self.tree()
        tree.insert(Vma(0x8050000, 0x8051000, R))
        tree.set_brk(0x8050000)
        assert tree.brk == 0x804A123
        tree.set_brk(0x804F000)
        assert tree.brk == 0x804F000


FIRST, PAGES = 0x40000, 24
pages = st.integers(0, PAGES - 1)
lengths = st.integers(1, 8)
prots = st.sampled_from([0, R, R | W])


class PageModel(RuleBasedStateMachine):
    """Each mapped page, by number: (prot, flags, inode, page of the inode)."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = VmaTree(lowest=FIRST)
        self.model: dict[int, tuple[int, int, Inode | None, int]] = {}

    @staticmethod
    def range(first: int, count: int) -> tuple[int, int, range]:
        last = min(first + count, PAGES)
        return FIRST + first * PAGE_SIZE, FIRST + last * PAGE_SIZE, range(first, last)

    @staticmethod
    def facts(vma: Vma, linear: int) -> tuple[int, int, Inode | None, int]:
        return vma.prot, vma.flags, vma.inode, vma.page_of(linear) if vma.inode is not None else 0

    @rule(
        first=pages,
        count=lengths,
        prot=prots,
        flags=st.sampled_from([0, VM_SHARED]),
        inode=st.sampled_from([None, None, *INODES]),
        shift=st.integers(0, 1),
    )
    def map_fixed(self, first: int, count: int, prot: int, flags: int, inode: Inode | None, shift: int) -> None:
        start, end, numbers = self.range(first, count)
        pgoff = 0 if inode is None else first + shift
        self.tree.remove(start, end)
        held = self.tree.insert(Vma(start, end, prot, flags, inode, pgoff))
        assert held.start <= start and end <= held.end
        for number in numbers:
            page = 0 if inode is None else pgoff + number - first
            self.model[number] = (prot, flags, inode, page)

    @rule(first=pages, count=lengths)
    def unmap(self, first: int, count: int) -> None:
        start, end, numbers = self.range(first, count)
        removed = {}
        for vma in self.tree.remove(start, end):
            for linear in range(vma.start, vma.end, PAGE_SIZE):
                removed[(linear - FIRST) // PAGE_SIZE] = self.facts(vma, linear)
        assert removed == {number: self.model.pop(number) for number in numbers if number in self.model}

    @rule(first=pages, count=lengths, prot=prots)
    def protect(self, first: int, count: int, prot: int) -> None:
        start, end, numbers = self.range(first, count)
        changed = {}
        for low, high, old in self.tree.protect(start, end, prot):
            for linear in range(low, high, PAGE_SIZE):
                changed[(linear - FIRST) // PAGE_SIZE] = old
        expected = {n: self.model[n][0] for n in numbers if n in self.model and self.model[n][0] != prot}
        assert changed == expected
        for number in numbers:
            if number in self.model:
                self.model[number] = (prot, *self.model[number][1:])

    @rule(first=pages, count=lengths)
    def gap(self, first: int, count: int) -> None:
        start, end, numbers = self.range(first, count)
        free = [FIRST + n * PAGE_SIZE for n in numbers if n not in self.model]
        assert self.tree.first_gap(start, end) == (free[0] if free else None)

    @rule(count=lengths)
    def highest(self, count: int) -> None:
        self.tree.mmap_base = FIRST + PAGES * PAGE_SIZE
        fits = [n for n in range(PAGES - count + 1) if not any(n + i in self.model for i in range(count))]
        found = self.tree.get_unmapped_area(count * PAGE_SIZE)
        assert found == (FIRST + fits[-1] * PAGE_SIZE if fits else TASK_UNMAPPED_BASE)

    @rule(first=pages, count=lengths)
    def hint(self, first: int, count: int) -> None:
        linear = FIRST + first * PAGE_SIZE
        free = not any(first + i in self.model for i in range(count))
        assert (self.tree.get_unmapped_area(count * PAGE_SIZE, linear) == linear) == free

    @precondition(lambda self: len(self.tree) > 0)
    @rule()
    def fork(self) -> None:
        self.tree = self.tree.copy()

    @invariant()
    def same_pages(self) -> None:
        self.tree.check()
        for number in range(-1, PAGES + 1):
            linear = FIRST + number * PAGE_SIZE
            for offset in (0, PAGE_SIZE - 1):
                vma = self.tree.find_exact(linear + offset)
                assert (None if vma is None else self.facts(vma, linear)) == self.model.get(number)
            above = self.tree.find(linear)
            later = [n for n in self.model if n >= number]
            assert (above is None) == (not later)
            if above is not None:
                assert above.start <= FIRST + min(later) * PAGE_SIZE < above.end


TestPageModel, TestPageModelCampaign = histories(PageModel, 40, 120, 30)
