"""Page directories and tables of both formats, in guest memory: where an entry is, and the raw stores.

Addresses are linear, tables and pages are named by frame number, entries are the words of the manual (SDM 3A, 4.3
and 4.4).  Only the two doors call what stores here: ``entries.py`` for the user half, ``kernel_entries.py`` for the
kernel's, which know who must be counted, and who must invalidate what afterwards.

Two-level::  pgd (1 frame, 1024 entries of 4 MB)                         -> pte tables (1024 entries)
PAE::        pgd (32 bytes used of a frame, 4 entries of 1 GB) -> pmd (512 entries of 2 MB) -> pte tables (512)

Under PAE the fourth entry of every pgd names one shared kernel pmd; the other three are allocated with the pgd, so
that the four entries, which hardware caches at a CR3 load, never change while loaded (post 004's PAE, MM 17).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sandbox.kernel.base.races import Races
from sandbox.machine.memory import PhysicalMemory
from sandbox.machine.word_views import WordView
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import FRAME_MASK, PAGE_SHIFT, RW, US, A, D, P, PagingFormat

KERNPG_TABLE = P | RW | A | D
USER_TABLE = P | RW | US | A | D


class TableError(SandboxError):
    """A table operation that would break the tables: a present entry overwritten, a table where a page is."""

    exit_status = 3


class NotThere(TableError):
    """An entry or a directory leads out of RAM: nothing of the kernel's writes such a one."""

    def __init__(self, linear: int) -> None:
        super().__init__(
            "kernel structures point to memory that is not there", f"the tables of {linear:#010x} lie outside of RAM"
        )


class PageTables:
    """What both formats share; the subclasses know widths, levels and store order.

    ``kernel_pgd`` is the kernel's own directory (swapper_pg_dir), whose upper half all others have.
    """

    fmt: PagingFormat

    def __init__(self, memory: PhysicalMemory, alloc_table: Callable[[], int], free_table: Callable[[int], None]):
        self.memory = memory
        self.alloc_table = alloc_table
        self.free_table = free_table
        self.nx = 0
        self.kernel_pgd = 0
        self.races = Races(None)
        self.half_stored: set[int] = set()
        """Places whose entry has one new word and one old one: who would change it waits (page_table_lock)."""
        self.entry_mask = self.fmt.frame_mask
        """The bits of an entry that hold the physical address."""
        self.large_page = self.fmt.large_page
        """Bytes."""

    def renew_views(self) -> None:
        """Ask for the views to store through again: who watches stores has come or gone."""
        raise NotImplementedError

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

    def set_pte_if(self, ptep: int, old: int, entry: int) -> bool:
        """Store an entry where ``old`` still is; False where another one came between.

        A CPU may have set the accessed bit meanwhile, for one because the kernel read the page: that is no other entry.
        """
        raise NotImplementedError

    def get_and_clear(self, ptep: int) -> int:
        """Take an entry out at once, so that no bit that a CPU sets meanwhile is lost."""
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

    def user_places(self, pgd: int, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(linear, place, entry) of every non-zero entry in [start, end), tables that do not exist skipped.

        The entry is as it was when its table was reached: who stores something looks again (``set_pte_if``).
        """
        raise NotImplementedError

    def user_ptes(self, pgd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(linear, entry) of the same."""
        return ((linear, entry) for linear, _, entry in self.user_places(pgd, start, end))

    def free_user_tables(self, pgd: int) -> int:
        """Release the tables of the user half and the pgd itself; the pages were released before.

        Returns the number of frames."""
        raise NotImplementedError

    def cr3(self, pgd: int) -> int:
        """The value for CR3."""
        return pgd << PAGE_SHIFT

    def pte_pfn(self, entry: int) -> int:
        """The frame number in a 4 KB entry."""
        return (entry & self.entry_mask) >> PAGE_SHIFT

    def pfn_pte(self, pfn: int, flags: int) -> int:
        """An entry for a frame."""
        return pfn << PAGE_SHIFT | flags


def nonzero(words: WordView, first: int, end: int) -> list[tuple[int, int]]:
    """(index from ``first`` on, entry) of the entries in [first, end) that are not zero.

    Tables are mostly empty: zeros at both ends are passed over at the speed of memory.
    """
    part = words[first:end]
    raw, width = part.tobytes(), part.itemsize
    low = (len(raw) - len(raw.lstrip(b"\0"))) // width
    high = -(-len(raw.rstrip(b"\0")) // width)
    return [(at, entry) for at, entry in enumerate(part[low:high].tolist(), low) if entry]


def check_conflict(present: int, entry: int, linear: int) -> None:
    """Tables of kernel addresses are never replaced: a directory that has another one is damaged (2.6's BUG)."""
    if present & P and (present ^ entry) & FRAME_MASK:
        raise TableError(
            f"the directory entry of {linear:#010x} names table {(present & FRAME_MASK) >> PAGE_SHIFT:#x}, "
            f"the kernel's own names {(entry & FRAME_MASK) >> PAGE_SHIFT:#x}"
        )
