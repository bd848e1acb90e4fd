"""Where the search for free addresses begins: 2.6's ``free_area_cache`` (mm/mmap.c, arch_get_unmapped_area), exact.

Linux remembered one address, and the largest hole that it had passed.  Here there is an address for each class of
lengths, 2**(k-1) + 1 to 2**k pages: no hole beyond it, seen from where searches begin, is long enough for any length
of the class.  A search takes up there, so that what it passes it never passes again; an area that goes away moves
the addresses back to the hole that it left.  The answer is the same as that of a search from the start.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.vma import Vma
from sandbox.x86.paging import PAGE_SHIFT


def _class_of(length: int) -> int:
    return ((length >> PAGE_SHIFT) - 1).bit_length()


def _enough(kind: int, room: int) -> bool:
    """A hole of ``room`` bytes would do for some length of a class."""
    return room >> PAGE_SHIFT > (1 << kind) >> 1


class FreeAreas:
    """Searches in one address space, whose areas and their ends are sorted lists; both are the tree's own.

    An area that grows keeps the hole below it at its guard gap, none further down (vm_start_gap, mm/mmap.c of 4.12).

    Whoever makes room (areas that go, guard gaps that go) says so: ``freed`` or ``forget``.
    """

    __slots__ = ("_above", "_below", "_bounds")

    def __init__(self) -> None:
        self._below: dict[int, int] = {}
        """By class: between this address and the base nothing is long enough; the way down goes on here."""
        self._above: dict[int, int] = {}
        """By class, the same for the way up."""
        self._bounds: tuple[int, ...] = ()

    def forget(self) -> None:
        """Searches begin at the start again."""
        self._below.clear()
        self._above.clear()

    def freed(self, vmas: Sequence[Vma], ends: list[int], start: int) -> None:
        """Areas at ``start`` have gone from the lists."""
        index = bisect_right(ends, start)
        bottom = ends[index - 1] if index else 0
        top = vmas[index].floor if index < len(vmas) else TASK_SIZE
        for kind, at in self._below.items():
            if top > at and _enough(kind, top - bottom):
                self._below[kind] = top
        for kind, at in self._above.items():
            if bottom < at and _enough(kind, top - bottom):
                self._above[kind] = bottom

    def highest(self, vmas: Sequence[Vma], ends: list[int], length: int, lowest: int, base: int) -> int | None:
        """The highest free address for ``length`` bytes that end at ``base`` or below."""
        self._bound(lowest, base)
        kind = _class_of(length)
        ceiling, begin = min(base, self._below.get(kind, base)), 0
        index = bisect_right(ends, ceiling)
        if index < len(vmas):
            ceiling = min(ceiling, vmas[index].floor)
        while True:
            room = ceiling - max(lowest, ends[index - 1] if index else 0)
            if not begin and _enough(kind, room):
                begin = ceiling
            if room >= length or not index:
                break
            index -= 1
            ceiling = vmas[index].floor
        self._below[kind] = begin
        return ceiling - length if room >= length else None

    def lowest(self, vmas: Sequence[Vma], ends: list[int], length: int, base: int) -> int | None:
        """The lowest free address for ``length`` bytes that begin at ``base`` or above."""
        kind = _class_of(length)
        start, begin = max(base, self._above.get(kind, base)), TASK_SIZE
        index = bisect_right(ends, start)
        while True:
            room = (vmas[index].floor if index < len(vmas) else TASK_SIZE) - start
            if begin == TASK_SIZE and _enough(kind, room):
                begin = start
            if room >= length or index == len(vmas):
                break
            start = max(start, ends[index])
            index += 1
        self._above[kind] = begin
        return start if room >= length else None

    def _bound(self, *bounds: int) -> None:
        """What was found between other bounds is worth nothing."""
        if bounds != self._bounds:
            self.forget()
            self._bounds = bounds
