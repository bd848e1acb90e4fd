"""Both table formats, read back by the manual's walk, which shares no code with them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.pgtable import NotThere, PageTables, TableError
from sandbox.kernel.mm.pgtable_2level import LegacyTables
from sandbox.kernel.mm.pgtable_3level import PaeTables
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import NX, RW, US, A, D, P
from sandbox.x86.walk import Access, walk
from sandbox.x86.walk import Reason as Verdict

CR0, CR4_LEGACY, CR4_PAE, EFER = 0x80010033, 0x10, 0x30, 1 << 11
FIRST = 0x200


@dataclass
class Bench:
    """Tables over bare memory, with an allocator that can be told to fail."""

    memory: PhysicalMemory
    tables: PageTables
    kernel: int = 0
    pgd: int = 0
    taken: set[int] = field(default_factory=set)
    left: int = 1000
    next: int = FIRST

    def alloc(self) -> int:
        if not self.left:
            raise OutOfMemory("no frame")
        self.left -= 1
        self.next += 1
        self.taken.add(self.next)
        self.memory.host_fill(self.next << 12, 4096, 0, Reason.TABLE)
        return self.next

    def free(self, pfn: int) -> None:
        self.taken.remove(pfn)

    def walk(self, linear: int, write: bool = False, user: bool = True, fetch: bool = False):
        pae = isinstance(self.tables, PaeTables)
        return walk(
            self.memory.read_entry,
            self.tables.cr3(self.pgd),
            linear,
            Access(write, user, fetch),
            cr0=CR0,
            cr4=CR4_PAE if pae else CR4_LEGACY,
            efer=EFER if pae else 0,
        )


@pytest.fixture
def bench(paging: str) -> Bench:
    memory = PhysicalMemory(64 << 20)
    made = Bench(memory, None)  # type: ignore[arg-type]
    kind: Callable[..., PageTables] = PaeTables if paging == "pae" else LegacyTables
    made.tables = kind(memory, lambda: made.alloc(), lambda pfn: made.free(pfn))
    if paging == "pae":
        made.tables.nx = NX
    made.kernel = made.tables.new_pgd(None)
    made.pgd = made.tables.new_pgd(made.kernel)
    return made


def test_entries_translate(bench: Bench) -> None:
    chosen = random.Random(1)
    mapped = {}
    for _ in range(200):
        page, pfn = chosen.randrange(16, 0xC0000) << 12, chosen.randrange(0x1000, 0x4000)
        bench.tables.map_page(bench.pgd, page, bench.tables.pfn_pte(pfn, P | RW | US | A | D))
        mapped[page] = pfn
    for page, pfn in mapped.items():
        offset = chosen.randrange(4096)
        assert bench.walk(page + offset, write=True).physical == (pfn << 12) + offset
        assert bench.tables.pte_pfn(bench.tables.lookup_pte(bench.pgd, page + offset)) == pfn
    seen = list(bench.tables.user_ptes(bench.pgd, 0, PAGE_OFFSET))
    assert [page for page, _ in seen] == sorted(mapped)
    assert {page: bench.tables.pte_pfn(entry) for page, entry in seen} == mapped


def test_protection_is_the_leafs(bench: Bench) -> None:
    """The directory levels of user tables allow everything, so that the leaf alone decides (SDM 3A, 4.6)."""
    tables, page = bench.tables, 0x8048000
    tables.map_page(bench.pgd, page, tables.pfn_pte(0x300, P | US))
    assert bench.walk(page).reason is Verdict.MAPPED
    assert bench.walk(page, write=True).reason is Verdict.READ_ONLY
    tables.map_page(bench.pgd, page, tables.pfn_pte(0x300, P | RW))
    assert bench.walk(page).reason is Verdict.SUPERVISOR
    assert bench.walk(page, write=True, user=False).physical == 0x300000
    if tables.nx:
        tables.map_page(bench.pgd, page, tables.pfn_pte(0x300, P | US | NX))
        assert bench.walk(page, fetch=True).reason is Verdict.NO_EXECUTE
    tables.map_page(bench.pgd, page, 0)
    assert bench.walk(page).reason is Verdict.NOT_PRESENT


def test_kernel_half_is_shared(bench: Bench) -> None:
    """A kernel mapping made after an address space was, in a table that existed before, is seen there."""
    tables, linear = bench.tables, 0xFF800000
    tables.pte_alloc(bench.kernel, linear, user=False)
    other = tables.new_pgd(bench.kernel)
    tables.map_page(bench.kernel, linear, tables.pfn_pte(0x345, P | RW), user=False)
    bench.pgd = other
    assert bench.walk(linear, user=False).physical == 0x345000
    assert bench.walk(linear, user=True).reason is Verdict.SUPERVISOR


def test_large_pages(bench: Bench) -> None:
    tables, linear = bench.tables, PAGE_OFFSET + 3 * bench.tables.large_page
    physical = 2 * tables.large_page
    tables.set_large(bench.kernel, linear, physical | P | RW)
    bench.pgd = bench.kernel
    found = bench.walk(linear + 0x123456, user=False)
    assert (found.physical, found.page_size) == (physical + 0x123456, tables.large_page)
    assert tables.lookup_pte(bench.kernel, linear + 0x123456) & ~0xFFF == physical
    with pytest.raises(TableError):
        tables.set_large(bench.kernel, linear, physical | P)
    with pytest.raises(TableError):
        tables.map_page(bench.kernel, linear + 4096, P)
    tables.clear_directory(bench.kernel, linear)
    assert bench.walk(linear, user=False).reason is Verdict.NOT_PRESENT


def test_large_page_refuses_a_table(bench: Bench) -> None:
    bench.tables.pte_alloc(bench.kernel, PAGE_OFFSET, user=False)
    with pytest.raises(TableError):
        bench.tables.set_large(bench.kernel, PAGE_OFFSET, P | RW)


def test_holes_read_as_nothing(bench: Bench) -> None:
    assert bench.tables.lookup_pte(bench.pgd, 0x12345000) == 0
    assert list(bench.tables.user_ptes(bench.pgd, 0, PAGE_OFFSET)) == []


def test_ranges_end_exactly(bench: Bench) -> None:
    tables = bench.tables
    for page in range(0x3FE000, 0x402000, 0x1000):
        tables.map_page(bench.pgd, page, tables.pfn_pte(page >> 12, P | US))
    inside = [page for page, _ in tables.user_ptes(bench.pgd, 0x3FF000, 0x401000)]
    assert inside == [0x3FF000, 0x400000]


def test_last_user_page(bench: Bench) -> None:
    bench.tables.map_page(bench.pgd, PAGE_OFFSET - 4096, bench.tables.pfn_pte(0x777, P | US | RW))
    assert bench.walk(PAGE_OFFSET - 1).physical == 0x777FFF
    assert len(list(bench.tables.user_ptes(bench.pgd, PAGE_OFFSET - 8192, PAGE_OFFSET))) == 1


def test_free_returns_every_table(bench: Bench) -> None:
    before = set(bench.taken)
    pgd = bench.tables.new_pgd(bench.kernel)
    for page in (0x8048000, 0x40000000, 0x80000000, PAGE_OFFSET - 4096):
        bench.tables.map_page(pgd, page, bench.tables.pfn_pte(0x300, P | US))
    made = len(bench.taken - before)
    assert bench.tables.free_user_tables(pgd) == made
    assert bench.taken == before


def test_no_memory_leaves_nothing_behind(bench: Bench) -> None:
    """Whichever allocation fails, a new address space gives back what it had."""
    before = set(bench.taken)
    for allowed in range(4):
        bench.left = allowed
        try:
            pgd = bench.tables.new_pgd(bench.kernel)
        except OutOfMemory:
            assert bench.taken == before, allowed
        else:
            bench.tables.free_user_tables(pgd)
            assert bench.taken == before


def test_pae_stores_the_high_word_first() -> None:
    """MM 17: P lives in the low word, so a new entry's high word is stored before it."""
    memory = PhysicalMemory(64 << 20)
    bench = Bench(memory, None)  # type: ignore[arg-type]
    tables = PaeTables(memory, lambda: bench.alloc(), lambda pfn: bench.free(pfn))
    pgd = tables.new_pgd(None)
    tables.pte_alloc(pgd, 0x1000000, user=True)
    stores: list[tuple[str, int, int]] = []

    class Recorder:
        def __init__(self, name: str, view: object) -> None:
            self.name, self.view = name, view

        def __getitem__(self, at: int) -> int:
            return self.view[at]  # type: ignore[index]

        def __setitem__(self, at: int, value: int) -> None:
            stores.append((self.name, at, value))
            self.view[at] = value  # type: ignore[index]

    tables._words, tables._quads = Recorder("word", tables._words), Recorder("quad", tables._quads)
    entry = tables.pfn_pte(0x123456, P | RW | US) | NX
    tables.map_page(pgd, 0x1000000, entry)
    (_, high_at, high), (_, low_at, low) = stores
    assert (high_at, high, low) == (low_at + 1, entry >> 32, entry & 0xFFFFFFFF)
    stores.clear()
    tables.map_page(pgd, 0x1000000, 0)
    kind, _, value = stores[0]
    assert (kind, value) == ("quad", 0) or (kind, value, stores[0][1]) == ("word", 0, low_at)


def test_pae_reaches_beyond_4_gb() -> None:
    memory = PhysicalMemory(64 << 20)
    bench = Bench(memory, None)  # type: ignore[arg-type]
    bench.tables = PaeTables(memory, lambda: bench.alloc(), lambda pfn: bench.free(pfn))
    bench.pgd = bench.tables.new_pgd(None)
    bench.tables.map_page(bench.pgd, 0x5000, bench.tables.pfn_pte(0xABCDEF, P | US))
    assert bench.walk(0x5ABC).physical == 0xABCDEFABC


def test_tables_outside_of_ram_are_told_as_damage(bench: Bench) -> None:
    """What only guest kernel code gone wild can have written: an error of its own, not an index out of range."""
    tables, linear = bench.tables, 0x40000000
    place = tables.pte_alloc(bench.pgd, linear)
    directory = (place << 2 if isinstance(tables, LegacyTables) else place << 3) >> 12
    words, wild = bench.memory.mutable_words(Reason.TABLE), 0x7FFFF000 | P
    found = [at for at in range(FIRST << 10, bench.next + 1 << 10) if words[at] >> 12 == directory and words[at] & P]
    assert len(found) == 1
    words[found[0]] = wild
    for call in (lambda: tables.lookup_pte(bench.pgd, linear), lambda: tables.read(wild)):
        with pytest.raises(NotThere, match="point to memory that is not there"):
            call()
