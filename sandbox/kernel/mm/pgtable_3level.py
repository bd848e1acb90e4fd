"""PAE: places and stores in its format, in the order of words that hardware needs."""

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
from sandbox.x86.paging import FRAME_MASK, PAE, PAGE_SHIFT, PS, A, D, P

_TOP = PAE.levels[0]
_QUADS = PAE.table_shift
"""A frame number, shifted so far, is the index of its first 64-bit entry; an address, shifted right by 3."""
_TOP_SHIFT, _PMD_SHIFT, _LAST_SHIFT = _TOP.shift, PAE.directory.shift, PAE.table.shift
_PMD_INDEX, _LAST_INDEX, _PMD_ENTRIES = PAE.directory.mask, PAE.table.mask, PAE.table_entries
_KERNEL_TOP = PAGE_OFFSET >> _TOP_SHIFT
"""The entry of the top level that all directories share."""
_WORD, _OTHER = 0xFFFFFFFF, ~(A | D)


class PaeTables(PageTables):
    """PAE: three levels, 64-bit entries, NX when EFER.NXE is on.

    A CPU that walks between two stores of one entry sees one new word and one old one.  Such an entry must not be
    present, or it names a frame that nobody meant: over a non-present entry the high word is stored first; one that
    is taken out loses its low word first; over a present one both go in a single store (MM 17).
    """

    fmt = PAE

    def __init__(self, memory: PhysicalMemory, alloc_table: Callable[[], int], free_table: Callable[[int], None]):
        super().__init__(memory, alloc_table, free_table)
        self.renew_views()
        self._loads = memory.quads
        """The same entries as ``_quads``, for reading: a view to store through may have an observer on it."""
        self.kernel_pmd = 0
        self.own_kernel_pmd = False
        """Every directory but the kernel's gets a kernel pmd of its own."""

    def renew_views(self) -> None:
        self._quads = self.memory.mutable_quads(Reason.TABLE)
        self._words = self.memory.mutable_words(Reason.TABLE)

    def new_pgd(self, kernel_pgd: int | None) -> int:
        quads = self._quads
        pgd = self.alloc_table()
        if kernel_pgd is None:
            self.kernel_pmd = self.alloc_table()
        else:
            try:
                for gigabyte in range(_KERNEL_TOP + self.own_kernel_pmd):
                    quads[(pgd << _QUADS) + gigabyte] = self.alloc_table() << PAGE_SHIFT | P
            except BaseException:
                self.free_user_tables(pgd)
                raise
            if self.own_kernel_pmd:
                own, shared = (quads[(pgd << _QUADS) + _KERNEL_TOP] & FRAME_MASK) >> 3, self.kernel_pmd << _QUADS
                quads[own : own + _PMD_ENTRIES] = quads[shared : shared + _PMD_ENTRIES]
                return pgd
        quads[(pgd << _QUADS) + _KERNEL_TOP] = self.kernel_pmd << PAGE_SHIFT | P
        return pgd

    def _pmd_offset(self, pgd: int, linear: int) -> int:
        """Quad index of the pmd entry over a linear address."""
        quads = self._loads
        at = (pgd << _QUADS) + (linear >> _TOP_SHIFT)
        entry = quads[at]
        if not entry & P:
            entry = self._new_table(at, P)
        return ((entry & FRAME_MASK) >> 3) + (linear >> _PMD_SHIFT & _PMD_INDEX)

    def _new_table(self, at: int, flags: int) -> int:
        """A table for an empty directory entry, unless another flow made one while this one waited for a frame."""
        made = self.alloc_table()
        if self._quads[at] & P:
            self.free_table(made)
        else:
            self._quads[at] = made << PAGE_SHIFT | flags
        return self._quads[at]

    def lookup_pte(self, pgd: int, linear: int) -> int:
        quads = self._loads
        try:
            top = quads[(pgd << _QUADS) + (linear >> _TOP_SHIFT)]
            if not top & P:
                return 0
            directory = quads[((top & FRAME_MASK) >> 3) + (linear >> _PMD_SHIFT & _PMD_INDEX)]
            if not directory & P:
                return 0
            if directory & PS:
                return directory
            return quads[((directory & FRAME_MASK) >> 3) + (linear >> _LAST_SHIFT & _LAST_INDEX)]
        except IndexError:
            raise NotThere(linear) from None

    def pte_alloc(self, pgd: int, linear: int, user: bool = True) -> int:
        quads = self._loads
        try:
            top = quads[(pgd << _QUADS) + (linear >> _TOP_SHIFT)]
            if top & P:  # as _pmd_offset has it, without the call
                at = ((top & FRAME_MASK) >> 3) + (linear >> _PMD_SHIFT & _PMD_INDEX)
            else:
                at = self._pmd_offset(pgd, linear)
            directory = quads[at]
        except IndexError:
            raise NotThere(linear) from None
        if not directory & P:
            directory = self._new_table(at, USER_TABLE if user else KERNPG_TABLE)
        elif directory & PS:
            raise TableError(f"{linear:#010x} is inside a large page")
        return ((directory & FRAME_MASK) >> 3) + (linear >> _LAST_SHIFT & _LAST_INDEX)

    def read(self, ptep: int) -> int:
        try:
            return self._loads[ptep]
        except IndexError:
            raise NotThere(0) from None

    def set_pte(self, ptep: int, entry: int) -> None:
        if self._loads[ptep] & P:
            self._quads[ptep] = entry
        else:
            words = self._words
            words[2 * ptep + 1] = entry >> 32
            if self.races.active:
                self._stand_between(ptep, "set_pte")
            words[2 * ptep] = entry & _WORD

    def _stand_between(self, ptep: int, name: str) -> None:
        """One word of two is stored: others may come by now."""
        self.half_stored.add(ptep)
        self.races.point(name)
        self.half_stored.discard(ptep)

    def set_pte_if(self, ptep: int, old: int, entry: int) -> bool:
        now = self._loads[ptep]
        if now != old and (now ^ old) & _OTHER:
            return False
        if now & P:
            self._quads[ptep] = entry
        else:
            self.set_pte(ptep, entry)
        return True

    def get_and_clear(self, ptep: int) -> int:
        entry = self._loads[ptep]
        if self.races.active:
            self._words[2 * ptep] = 0
            self._stand_between(ptep, "clear_pte")
            self._words[2 * ptep + 1] = 0
        else:
            self._quads[ptep] = 0
        return entry

    def set_ptes(self, ptep: int, entries: Sequence[int]) -> None:
        self._quads[ptep : ptep + len(entries)] = memoryview(array("Q", entries))

    def set_large(self, pgd: int, linear: int, entry: int) -> None:
        at = self._pmd_offset(pgd, linear)
        if self._quads[at] & P:
            raise TableError(f"the directory entry of {linear:#010x} is in use")
        self._quads[at] = entry | PS

    def sync_directory(self, pgd: int, reference: int, linear: int) -> bool:
        if not self.own_kernel_pmd or pgd == reference:
            return False
        try:
            ours, theirs = self._pmd_offset(pgd, linear), self._pmd_offset(reference, linear)
            present, entry = self._quads[ours], self._quads[theirs]
        except IndexError:
            raise NotThere(linear) from None
        if not entry & P or present == entry:
            return False
        check_conflict(present, entry, linear)
        self._quads[ours] = entry
        return True

    def clear_directory(self, pgd: int, linear: int) -> None:
        self._quads[self._pmd_offset(pgd, linear)] = 0

    def user_places(self, pgd: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        quads = self._quads
        for gigabyte in range(start >> _TOP_SHIFT, (end - 1 >> _TOP_SHIFT) + 1):
            top = quads[(pgd << _QUADS) + gigabyte]
            if top & P:
                base = gigabyte << _TOP_SHIFT
                low, high = max(start, base), min(end, base + (1 << _TOP_SHIFT))
                yield from self._below((top & FRAME_MASK) >> 3, base, low, high)

    def _below(self, pmd: int, base: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The entries under one directory (by quad index), which maps from ``base`` on, in [start, end)."""
        quads = self._quads
        first, last = start - base >> _PMD_SHIFT, end - 1 - base >> _PMD_SHIFT
        for at, directory in nonzero(quads, pmd + first, pmd + last + 1):
            if directory & P:
                part = base + (first + at << _PMD_SHIFT)
                low, high = max(start, part), min(end, part + (1 << _PMD_SHIFT))
                table = ((directory & FRAME_MASK) >> 3) + (low >> _LAST_SHIFT & _LAST_INDEX)
                for offset, entry in nonzero(quads, table, table + (high - low >> _LAST_SHIFT)):
                    yield low + (offset << _LAST_SHIFT), table + offset, entry

    def free_user_tables(self, pgd: int) -> int:
        quads, freed = self._quads, 1
        for gigabyte in range(_KERNEL_TOP):
            top = quads[(pgd << _QUADS) + gigabyte]
            if not top & P:
                continue
            base = (top & FRAME_MASK) >> 3
            for _, entry in nonzero(quads, base, base + _PMD_ENTRIES):
                if entry & P:
                    self.free_table((entry & FRAME_MASK) >> PAGE_SHIFT)
                    freed += 1
            self.free_table((top & FRAME_MASK) >> PAGE_SHIFT)
            freed += 1
        own = (quads[(pgd << _QUADS) + _KERNEL_TOP] & FRAME_MASK) >> PAGE_SHIFT
        if own and own != self.kernel_pmd:
            self.free_table(own)
            freed += 1
        self.free_table(pgd)
        return freed


class LowFirstTables(PaeTables):
    """The switch ``pae-low-first``: each update is two stores, in the order that lets a torn entry be present."""

    def set_pte(self, ptep: int, entry: int) -> None:
        first = 2 * ptep if entry & P else 2 * ptep + 1
        if self._loads[ptep] & P:
            self._tear(ptep, first, entry, "change_pte")
        else:
            self._tear(ptep, first, entry, "set_pte")

    def set_pte_if(self, ptep: int, old: int, entry: int) -> bool:
        now = self._loads[ptep]
        if now != old and (now ^ old) & _OTHER:
            return False
        self.set_pte(ptep, entry)
        return True

    def get_and_clear(self, ptep: int) -> int:
        entry = self._loads[ptep]
        self._tear(ptep, 2 * ptep + 1, 0, "clear_pte")
        return entry

    def _tear(self, ptep: int, first: int, entry: int, name: str) -> None:
        """Store the word at ``first``, let others come by, store the other one."""
        halves = {2 * ptep: entry & _WORD, 2 * ptep + 1: entry >> 32}
        self._words[first] = halves[first]
        if self.races.active:
            self._stand_between(ptep, name)
        self._words[first ^ 1] = halves[first ^ 1]
