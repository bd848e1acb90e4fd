"""Two-level paging: places and stores in its format."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.pgtable import (
    KERNPG_TABLE,
    USER_TABLE,
    NotThere,
    PageTables,
    TableError,
    check_conflict,
    nonzero,
)
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import LEGACY, PAGE_SHIFT, PS, A, D, P

_TABLE = LEGACY.table_shift
"""A frame number, shifted so far, is the index of its first 32-bit entry."""
_PDE_SHIFT, _ENTRIES = LEGACY.directory.shift, LEGACY.directory.entries
_PTE_SHIFT, _PTE_INDEX = LEGACY.table.shift, LEGACY.table.mask


class LegacyTables(PageTables):
    """Two-level paging, 32-bit entries."""

    fmt = LEGACY

    def __init__(self, memory: PhysicalMemory, alloc_table: Callable[[], int], free_table: Callable[[int], None]):
        super().__init__(memory, alloc_table, free_table)
        self.renew_views()
        self._loads = memory.words
        """The same entries, for reading: a view to store through may have an observer on it."""

    def renew_views(self) -> None:
        self._words = self.memory.mutable_words(Reason.TABLE)

    def new_pgd(self, kernel_pgd: int | None) -> int:
        pgd = self.alloc_table()
        if kernel_pgd is not None:
            words, first = self._words, PAGE_OFFSET >> _PDE_SHIFT
            source, target = kernel_pgd << _TABLE, pgd << _TABLE
            words[target + first : target + _ENTRIES] = words[source + first : source + _ENTRIES]
        return pgd

    def lookup_pte(self, pgd: int, linear: int) -> int:
        words = self._loads
        try:
            directory = words[(pgd << _TABLE) + (linear >> _PDE_SHIFT)]
            if not directory & P:
                return 0
            if directory & PS:
                return directory
            return words[(directory >> PAGE_SHIFT << _TABLE) + (linear >> _PTE_SHIFT & _PTE_INDEX)]
        except IndexError:
            raise NotThere(linear) from None

    def pte_alloc(self, pgd: int, linear: int, user: bool = True) -> int:
        words = self._loads
        at = (pgd << _TABLE) + (linear >> _PDE_SHIFT)
        try:
            directory = words[at]
        except IndexError:
            raise NotThere(linear) from None
        if not directory & P:
            directory = self._new_table(at, user)
        elif directory & PS:
            raise TableError(f"{linear:#010x} is inside a large page")
        return (directory >> PAGE_SHIFT << _TABLE) + (linear >> _PTE_SHIFT & _PTE_INDEX)

    def _new_table(self, at: int, user: bool) -> int:
        """A table for an empty directory entry, unless another flow made one while this one waited for a frame."""
        made = self.alloc_table()
        if self._words[at] & P:
            self.free_table(made)
        else:
            self._words[at] = made << PAGE_SHIFT | (USER_TABLE if user else KERNPG_TABLE)
        return self._words[at]

    def read(self, ptep: int) -> int:
        try:
            return self._loads[ptep]
        except IndexError:
            raise NotThere(0) from None

    def set_pte(self, ptep: int, entry: int) -> None:
        self._words[ptep] = entry

    def set_pte_if(self, ptep: int, old: int, entry: int) -> bool:
        now = self._loads[ptep]
        if now != old and (now ^ old) & ~(A | D):
            return False
        self._words[ptep] = entry
        return True

    def get_and_clear(self, ptep: int) -> int:
        entry = self._loads[ptep]
        self._words[ptep] = 0
        return entry

    def set_ptes(self, ptep: int, entries: Sequence[int]) -> None:
        self._words[ptep : ptep + len(entries)] = memoryview(array("I", entries))

    def set_large(self, pgd: int, linear: int, entry: int) -> None:
        at = (pgd << _TABLE) + (linear >> _PDE_SHIFT)
        if self._words[at] & P:
            raise TableError(f"the directory entry of {linear:#010x} is in use")
        self._words[at] = entry | PS

    def sync_directory(self, pgd: int, reference: int, linear: int) -> bool:
        at = linear >> _PDE_SHIFT
        entry, present = self._words[(reference << _TABLE) + at], self._words[(pgd << _TABLE) + at]
        if not entry & P or present == entry:
            return False
        check_conflict(present, entry, linear)
        self._words[(pgd << _TABLE) + at] = entry
        return True

    def clear_directory(self, pgd: int, linear: int) -> None:
        self._words[(pgd << _TABLE) + (linear >> _PDE_SHIFT)] = 0

    def user_places(self, pgd: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        words, base = self._words, pgd << _TABLE
        first, last = start >> _PDE_SHIFT, end - 1 >> _PDE_SHIFT
        for at, directory in nonzero(words, base + first, base + last + 1):
            if directory & P:
                part = first + at << _PDE_SHIFT
                low, high = max(start, part), min(end, part + (1 << _PDE_SHIFT))
                table = (directory >> PAGE_SHIFT << _TABLE) + (low >> _PTE_SHIFT & _PTE_INDEX)
                for offset, entry in nonzero(words, table, table + (high - low >> _PTE_SHIFT)):
                    yield low + (offset << _PTE_SHIFT), table + offset, entry

    def free_user_tables(self, pgd: int) -> int:
        words, freed = self._words, 1
        base = pgd << _TABLE
        for _, entry in nonzero(words, base, base + (PAGE_OFFSET >> _PDE_SHIFT)):
            if entry & P:
                self.free_table(entry >> PAGE_SHIFT)
                freed += 1
        self.free_table(pgd)
        return freed
