"""The permission matrix: each combination of the bits that decide, at both levels, against the walk; and stale entries.

``test_walk_agreement`` draws places, frames and the bits that do not matter; here nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from sandbox.engine.exits import Exit, Trap
from sandbox.x86.paging import NX, PAGE_SIZE, PS, RW, US, A, D, P
from sandbox.x86.registers import Cr0, Cr4, Efer
from sandbox.x86.vectors import Vector
from sandbox.x86.walk import ENGINE, Access, Reason, Walk, walk

from .test_walk_agreement import assert_outcome, predict
from .walk_bench import DONE, SCRATCH, STORED, Bench
from .walk_cases import (
    ACCESSES,
    DIRECTORIES,
    LEGACY_ROOT,
    LOW_TABLES,
    PAE_ROOTS,
    PAGES,
    STORES,
    TABLES,
    Case,
    Cell,
)

RESERVED = 1 << 51
"""Above the 40 bits of a physical address: PAE's entries have it, two-level ones have bit 21 of a 4 MB page."""
LARGE_RESERVED = 1 << 21
LINEAR = 0x40000000
BASE = int(Cr0.PE | Cr0.ET | Cr0.NE | Cr0.PG)
DIRECTORY, TABLE = (LOW_TABLES[0] + page * PAGE_SIZE for page in (DIRECTORIES[0], TABLES[0]))
FORMATS = ("legacy", "legacy-pse", "pae")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.cpu.close()


def subsets(*bits: int) -> list[int]:
    return [sum(each) for each in product(*((0, bit) for bit in bits))]


def case(paging: str, pde: int, pte: int, ring: int, wp: bool, nxe: bool, access: str) -> Case:
    """``pde`` and ``pte`` are the bits beside the address."""
    cell = Cell(paging, PAGE_SIZE, "PTE", Reason.MAPPED, ring, wp, nxe, access)
    cr0 = BASE | (int(Cr0.WP) if wp else 0)
    cr4 = int(Cr4.OSFXSR) | {"legacy": 0, "legacy-pse": int(Cr4.PSE), "pae": int(Cr4.PAE)}[paging]
    frame = PAGES[0] + (PAGE_SIZE if access == "fetch" else 0)
    place = LINEAR + (frame & (1 << 21) - 1)
    large = pde & PS and paging != "legacy"
    leaf = (PAGES[0] if large else TABLE) | pde
    if paging == "pae":
        root = LOW_TABLES[0] + PAE_ROOTS[0]
        entries = [(root + (place >> 30) * 8, DIRECTORY | P), (DIRECTORY + (place >> 21 & 511) * 8, leaf)]
        entries.append((TABLE + (place >> 12 & 511) * 8, frame | pte))
    else:
        root = LOW_TABLES[0] + LEGACY_ROOT
        entries = [(root + (place >> 22) * 4, leaf), (TABLE + (place >> 12 & 1023) * 4, frame | pte)]
    return Case(cell, place, entries, cr0, root, cr4, int(Efer.NXE) if nxe else 0, 0)


def bits(paging: str) -> tuple[list[int], list[int]]:
    """Of a directory's entry and of a table's."""
    if paging == "pae":
        return subsets(P, RW, US, A, PS, NX, RESERVED), subsets(P, RW, US, A, D, NX, RESERVED)
    return subsets(P, RW, US, A, D, PS, *(() if paging == "legacy" else (LARGE_RESERVED,))), subsets(P, RW, US, A, D)


def matrix(paging: str, ring: int) -> Iterator[Case]:
    """Where the directory's entry ends the walk, one entry of the table stands for all."""
    pdes, ptes = bits(paging)
    for pde, wp, nxe, access in product(pdes, (False, True), (False, True), ACCESSES):
        ends = not pde & P or pde & RESERVED or (pde & PS and paging != "legacy") or (pde & NX and not nxe)
        if pde & LARGE_RESERVED and not pde & PS:
            continue  # an address then
        for pte in (0,) if ends else ptes:
            yield case(paging, pde, pte, ring, wp, nxe, access)


@pytest.mark.slow
@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize("paging", FORMATS)
def test_each_combination_of_bits(bench: Bench, paging: str, ring: int) -> None:
    cases = list(matrix(paging, ring))
    for chosen in cases:
        judge(bench, chosen)
    assert len(cases) >= {"legacy": 16, "legacy-pse": 8, "pae": 8}[paging] * 32 * len(ACCESSES) * 4


def judge(bench: Bench, chosen: Case) -> None:
    bench.set_entries(chosen)
    expected = predict(bench, chosen, ENGINE)
    assert_outcome(bench, chosen, expected, bench.run(chosen))
    updates = dict(expected.updates)
    assert bench.entries(chosen) == [updates.get(at, entry) for at, entry in chosen.entries], (chosen, expected)
    bench.clear_entries(chosen)


def stale_pairs() -> Iterator[tuple[int, int, int, str, str]]:
    """Bits of the table's entry that was used, and of the one that is there now; the ring; both accesses."""
    old = [P | US | each for each in subsets(RW, A, D)] + [P | RW]
    new = subsets(P, RW, US, D, NX)
    kinds = ("read", "write", "modify")
    for was, now, ring, first, then in product(old, new, (0, 3), kinds, kinds):
        if (ring == 3 and not was & US) or (first != "read" and not was & RW):
            continue
        yield was, now, ring, first, then


@pytest.mark.slow
def test_a_stale_entry_or_the_new_one_decides(bench: Bench) -> None:
    """SDM 3A, 4.10.2.3 and 4.10.4.3: until the flush the CPU may use either; behind it the new one."""
    used = {"stale": 0, "new": 0}
    for number, (was, now, ring, first, then) in enumerate(stale_pairs()):
        if number % 7:
            continue
        old = case("pae", P | RW | US, was, ring, True, True, first)
        bench.set_entries(old)
        judged = bench.run(old)
        assert isinstance(judged, Trap) and judged.vector == DONE
        forget(bench, predict(bench, old, ENGINE), first)
        new = case("pae", P | RW | US, now, ring, True, True, then)
        edited = (old.entries[-1][0], (PAGES[1] | now))
        new.entries[-1] = edited
        bench.set_entries(Case(new.cell, new.linear, [edited], new.cr0, new.cr3, new.cr4, new.efer, 0))
        fresh = predict(bench, new, ENGINE)
        stale = granted(bench, new, was)
        used[which(bench, new, stale, fresh, go_on(bench, new))] += 1
        bench.clear_entries(new)
    assert used["stale"] > 100 and used["new"] > 100


def forget(bench: Bench, found: Walk, access: str) -> None:
    assert found.physical is not None
    if access in STORES:
        bench.words[bench.slot(found.physical) + SCRATCH // 4] = 0


def go_on(bench: Bench, chosen: Case) -> Exit:
    """Another instruction, and nothing is flushed."""
    context = bench.cpu.context
    context.esi, context.eip = bench.linear(chosen), bench.eip(chosen)
    return bench.cpu.run(100)


def granted(bench: Bench, chosen: Case, was: int) -> Walk:
    """What a translation cached from the old entry answers."""
    at = chosen.entries[-1][0]
    access = Access(chosen.cell.access in STORES, chosen.cell.ring == 3, False, chosen.cell.access == "modify")

    def read(physical: int, size: int) -> int:
        return PAGES[0] | was if physical == at else bench.read(physical, size)

    return walk(read, chosen.cr3, bench.linear(chosen), access, cr0=chosen.cr0, cr4=chosen.cr4, efer=chosen.efer)


def which(bench: Bench, chosen: Case, stale: Walk, fresh: Walk, exit_: Exit) -> str:
    """Whose answer it was; a fault is the new entry's, for a cached one that denies is never the last word here."""
    assert type(exit_) is Trap
    told = (chosen, stale, fresh, exit_)
    if exit_.vector == Vector.PF:
        assert exit_.error_code == fresh.error_code, told
        return "new"
    assert exit_.vector == DONE, told
    for name, found in (("stale", stale), ("new", fresh)):
        if found.physical is None:
            continue
        if chosen.cell.access in STORES:
            at = bench.slot(found.physical) + SCRATCH // 4
            if bench.words[at] == STORED:
                bench.words[at] = 0
                return name
        elif bench.cpu.context.eax == bench.tag(found.physical):
            return name
    raise AssertionError(told)
