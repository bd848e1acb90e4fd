"""The one door for table writes: page directories and tables of both formats, in guest memory.

Addresses are linear, tables and pages are named by frame number, entries are the words of the manual (SDM 3A, 4.3
and 4.4).  This module stores entries; who must invalidate what afterwards is ``tlb.py``'s business, and every public
change of a present entry goes through there.

Two-level::  pgd (1 frame, 1024 entries of 4 MB)                         -> pte tables (1024 entries)
PAE::        pgd (32 bytes used of a frame, 4 entries of 1 GB) -> pmd (512 entries of 2 MB) -> pte tables (512)

Under PAE the fourth entry of every pgd names one shared kernel pmd; the other three are allocated with the pgd, so
that the four entries, which hardware caches at a CR3 load, never change while loaded (post 004's PAE, MM 17).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.errors import SandboxError

P, RW, US, PWT, PCD, A, D, PSE, G = 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100
NX = 1 << 63
PROTNONE = 0x80
"""In a not-present entry: the page is there, nobody may touch it (2.2 and later)."""
MAPPED = P | PROTNONE
"""An entry with one of these names a frame that it holds a reference on."""

KERNPG_TABLE = P | RW | A | D
USER_TABLE = P | RW | US | A | D


class TableError(SandboxError):
    """A table operation that would break the tables: a present entry overwritten, a table where a page is."""

    exit_status = 3


class PageTables:
    """What both formats share; the subclasses know widths, levels and store order."""

    name: str
    entry_bytes: int
    large_page: int
    entry_mask: int
    """The bits of an entry that hold the physical address."""

    def __init__(self, memory: PhysicalMemory, alloc_table: Callable[[], int], free_table: Callable[[int], None]):
        self.memory = memory
        self.alloc_table = alloc_table
        self.free_table = free_table
        self.nx = 0

    def new_pgd(self, kernel_pgd: int | None) -> int:
        """A frame with an empty user half and the kernel half of ``kernel_pgd`` (none at boot)."""
        raise NotImplementedError

    def lookup_pte(self, pgd: int, linear: int) -> int:
        """The 4 KB entry that maps a linear address, 0 where no table is, a large page's entry where one is."""
        raise NotImplementedError

    def pte_alloc(self, pgd: int, linear: int, user: bool = True) -> int:
        """The place of the 4 KB entry of a linear address, its table allocated if there was none.

        A place is good for ``read`` and ``set_pte`` as long as the table lives.  Raises OutOfMemory, and TableError
        inside a large page.
        """
        raise NotImplementedError

    def read(self, ptep: int) -> int:
        """The entry at a place."""
        raise NotImplementedError

    def set_pte(self, ptep: int, entry: int) -> None:
        """Store an entry at a place, in the order of words that hardware needs."""
        raise NotImplementedError

    def set_ptes(self, ptep: int, entries: Sequence[int]) -> None:
        """Store entries from a place on, inside one table that nobody uses yet."""
        raise NotImplementedError

    def map_page(self, pgd: int, linear: int, entry: int, user: bool = True) -> None:
        """Store a 4 KB entry, allocating the tables on the way.  Raises OutOfMemory and TableError."""
        self.set_pte(self.pte_alloc(pgd, linear, user), entry)

    def set_large(self, pgd: int, linear: int, entry: int) -> None:
        """Store a large-page entry (4 MB or 2 MB) at an empty directory slot."""
        raise NotImplementedError

    def sync_directory(self, pgd: int, reference: int, linear: int) -> bool:
        """Copy the kernel directory's entry over a linear address; False when there is nothing to copy.

        Raises TableError when the directory has another table there.
        """
        raise NotImplementedError

    def clear_directory(self, pgd: int, linear: int) -> None:
        """Empty the directory slot over a linear address; the table stays its owner's."""
        raise NotImplementedError

    def user_ptes(self, pgd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(linear, entry) of every non-zero entry in [start, end), tables that do not exist skipped."""
        raise NotImplementedError

    def free_user_tables(self, pgd: int) -> int:
        """Release the tables of the user half and the pgd itself; the pages were released before.

        Returns the number of frames."""
        raise NotImplementedError

    def cr3(self, pgd: int) -> int:
        """The value for CR3."""
        return pgd << 12

    def pte_pfn(self, entry: int) -> int:
        """The frame number in a 4 KB entry."""
        return (entry & self.entry_mask) >> 12

    def pfn_pte(self, pfn: int, flags: int) -> int:
        """An entry for a frame."""
        return pfn << 12 | flags


def _check_conflict(present: int, entry: int, linear: int) -> None:
    """Tables of kernel addresses are never replaced: a directory that has another one is damaged (2.6's BUG)."""
    if present & P and (present ^ entry) & 0xFFFFFF000:
        raise TableError(
            f"the directory entry of {linear:#010x} names table {present >> 12 & 0xFFFFFF:#x}, the kernel's own names "
            f"{entry >> 12 & 0xFFFFFF:#x}"
        )


class LegacyTables(PageTables):
    """Two-level paging, 32-bit entries."""

    name = "legacy"
    entry_bytes = 4
    large_page = 4 << 20
    entry_mask = 0xFFFFF000

    def __init__(self, memory: PhysicalMemory, alloc_table: Callable[[], int], free_table: Callable[[int], None]):
        super().__init__(memory, alloc_table, free_table)
        self._words = memory.mutable_words(Reason.TABLE)

    def new_pgd(self, kernel_pgd: int | None) -> int:
        pgd = self.alloc_table()
        if kernel_pgd is not None:
            words, first = self._words, PAGE_OFFSET >> 22
            source, target = kernel_pgd << 10, pgd << 10
            words[target + first : target + 1024] = words[source + first : source + 1024]
        return pgd

    def lookup_pte(self, pgd: int, linear: int) -> int:
        words = self._words
        directory = words[(pgd << 10) + (linear >> 22)]
        if not directory & P:
            return 0
        if directory & PSE:
            return directory
        return words[(directory >> 12 << 10) + (linear >> 12 & 1023)]

    def pte_alloc(self, pgd: int, linear: int, user: bool = True) -> int:
        words = self._words
        at = (pgd << 10) + (linear >> 22)
        directory = words[at]
        if not directory & P:
            directory = self.alloc_table() << 12 | (USER_TABLE if user else KERNPG_TABLE)
            words[at] = directory
        elif directory & PSE:
            raise TableError(f"{linear:#010x} is inside a large page")
        return (directory >> 12 << 10) + (linear >> 12 & 1023)

    def read(self, ptep: int) -> int:
        return self._words[ptep]

    def set_pte(self, ptep: int, entry: int) -> None:
        self._words[ptep] = entry

    def set_ptes(self, ptep: int, entries: Sequence[int]) -> None:
        self._words[ptep : ptep + len(entries)] = memoryview(array("I", entries))

    def set_large(self, pgd: int, linear: int, entry: int) -> None:
        at = (pgd << 10) + (linear >> 22)
        if self._words[at] & P:
            raise TableError(f"the directory entry of {linear:#010x} is in use")
        self._words[at] = entry | PSE

    def sync_directory(self, pgd: int, reference: int, linear: int) -> bool:
        slot = linear >> 22
        entry, present = self._words[(reference << 10) + slot], self._words[(pgd << 10) + slot]
        if not entry & P or present == entry:
            return False
        _check_conflict(present, entry, linear)
        self._words[(pgd << 10) + slot] = entry
        return True

    def clear_directory(self, pgd: int, linear: int) -> None:
        self._words[(pgd << 10) + (linear >> 22)] = 0

    def user_ptes(self, pgd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        words = self._words
        first, last = start >> 22, end - 1 >> 22
        for slot, directory in enumerate(words[(pgd << 10) + first : (pgd << 10) + last + 1].tolist(), first):
            if directory & P:
                low, high = max(start, slot << 22), min(end, slot + 1 << 22)
                table = (directory >> 12 << 10) + (low >> 12 & 1023)
                for offset, entry in enumerate(words[table : table + (high - low >> 12)].tolist()):
                    if entry:
                        yield low + (offset << 12), entry

    def free_user_tables(self, pgd: int) -> int:
        words, freed = self._words, 1
        base = pgd << 10
        for slot in range(PAGE_OFFSET >> 22):
            if words[base + slot] & P:
                self.free_table(words[base + slot] >> 12)
                freed += 1
        self.free_table(pgd)
        return freed


class PaeTables(PageTables):
    """PAE: three levels, 64-bit entries, NX when EFER.NXE is on.

    Hardware reads the two words of an entry one after the other when software stores them one after the other, so
    a 64-bit entry is stored high word first over a non-present one, and low word first when it is cleared (MM 17).
    """

    name = "pae"
    entry_bytes = 8
    large_page = 2 << 20
    entry_mask = 0xFFFFFF000

    def __init__(self, memory: PhysicalMemory, alloc_table: Callable[[], int], free_table: Callable[[int], None]):
        super().__init__(memory, alloc_table, free_table)
        self._quads = memory.mutable_quads(Reason.TABLE)
        self._words = memory.mutable_words(Reason.TABLE)
        self.kernel_pmd = 0
        self.own_kernel_pmd = False
        """Every directory but the kernel's gets a kernel pmd of its own."""

    def new_pgd(self, kernel_pgd: int | None) -> int:
        quads = self._quads
        pgd = self.alloc_table()
        if kernel_pgd is None:
            self.kernel_pmd = self.alloc_table()
        else:
            try:
                for gigabyte in range(3 + self.own_kernel_pmd):
                    quads[(pgd << 9) + gigabyte] = self.alloc_table() << 12 | P
            except BaseException:
                self.free_user_tables(pgd)
                raise
            if self.own_kernel_pmd:
                own, shared = (quads[(pgd << 9) + 3] & 0xFFFFFF000) >> 3, self.kernel_pmd << 9
                quads[own : own + 512] = quads[shared : shared + 512]
                return pgd
        quads[(pgd << 9) + 3] = self.kernel_pmd << 12 | P
        return pgd

    def _slot(self, pgd: int, linear: int) -> int:
        """Quad index of the pmd entry over a linear address."""
        quads = self._quads
        at = (pgd << 9) + (linear >> 30)
        entry = quads[at]
        if not entry & P:
            entry = self.alloc_table() << 12 | P
            quads[at] = entry
        return ((entry & 0xFFFFFF000) >> 3) + (linear >> 21 & 511)

    def lookup_pte(self, pgd: int, linear: int) -> int:
        quads = self._quads
        top = quads[(pgd << 9) + (linear >> 30)]
        if not top & P:
            return 0
        directory = quads[((top & 0xFFFFFF000) >> 3) + (linear >> 21 & 511)]
        if not directory & P:
            return 0
        if directory & PSE:
            return directory
        return quads[((directory & 0xFFFFFF000) >> 3) + (linear >> 12 & 511)]

    def pte_alloc(self, pgd: int, linear: int, user: bool = True) -> int:
        quads = self._quads
        slot = self._slot(pgd, linear)
        directory = quads[slot]
        if not directory & P:
            directory = self.alloc_table() << 12 | (USER_TABLE if user else KERNPG_TABLE)
            quads[slot] = directory
        elif directory & PSE:
            raise TableError(f"{linear:#010x} is inside a large page")
        return ((directory & 0xFFFFFF000) >> 3) + (linear >> 12 & 511)

    def read(self, ptep: int) -> int:
        return self._quads[ptep]

    def set_pte(self, ptep: int, entry: int) -> None:
        if self._quads[ptep] & P:
            self._quads[ptep] = entry
        else:
            words = self._words
            words[2 * ptep + 1] = entry >> 32
            words[2 * ptep] = entry & 0xFFFFFFFF

    def set_ptes(self, ptep: int, entries: Sequence[int]) -> None:
        self._quads[ptep : ptep + len(entries)] = memoryview(array("Q", entries))

    def set_large(self, pgd: int, linear: int, entry: int) -> None:
        slot = self._slot(pgd, linear)
        if self._quads[slot] & P:
            raise TableError(f"the directory entry of {linear:#010x} is in use")
        self._quads[slot] = entry | PSE

    def sync_directory(self, pgd: int, reference: int, linear: int) -> bool:
        if not self.own_kernel_pmd or pgd == reference:
            return False
        ours, theirs = self._slot(pgd, linear), self._slot(reference, linear)
        entry = self._quads[theirs]
        if not entry & P or self._quads[ours] == entry:
            return False
        _check_conflict(self._quads[ours], entry, linear)
        self._quads[ours] = entry
        return True

    def clear_directory(self, pgd: int, linear: int) -> None:
        self._quads[self._slot(pgd, linear)] = 0

    def user_ptes(self, pgd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        quads = self._quads
        for gigabyte in range(start >> 30, (end - 1 >> 30) + 1):
            top = quads[(pgd << 9) + gigabyte]
            if top & P:
                low, high = max(start, gigabyte << 30), min(end, gigabyte + 1 << 30)
                yield from self._below(((top & 0xFFFFFF000) >> 3), gigabyte << 30, low, high)

    def _below(self, pmd: int, base: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The entries under one directory (by quad index), which maps from ``base`` on, in [start, end)."""
        quads = self._quads
        first, last = start - base >> 21, end - 1 - base >> 21
        for slot, directory in enumerate(quads[pmd + first : pmd + last + 1].tolist(), first):
            if directory & P:
                low, high = max(start, base + (slot << 21)), min(end, base + (slot + 1 << 21))
                table = ((directory & 0xFFFFFF000) >> 3) + (low >> 12 & 511)
                for offset, entry in enumerate(quads[table : table + (high - low >> 12)].tolist()):
                    if entry:
                        yield low + (offset << 12), entry

    def free_user_tables(self, pgd: int) -> int:
        quads, freed = self._quads, 1
        for gigabyte in range(3):
            top = quads[(pgd << 9) + gigabyte]
            if not top & P:
                continue
            base = (top & 0xFFFFFF000) >> 3
            for entry in quads[base : base + 512].tolist():
                if entry & P:
                    self.free_table((entry & 0xFFFFFF000) >> 12)
                    freed += 1
            self.free_table((top & 0xFFFFFF000) >> 12)
            freed += 1
        own = (quads[(pgd << 9) + 3] & 0xFFFFFF000) >> 12
        if own and own != self.kernel_pmd:
            self.free_table(own)
            freed += 1
        self.free_table(pgd)
        return freed
