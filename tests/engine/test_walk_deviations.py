"""What single walks do not show: how the engine's MMU treats tables that change under it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.engine.exits import Trap
from sandbox.x86.paging import PAGE_SIZE, RW, US, A, D, P
from sandbox.x86.walk import ENGINE, MANUAL, Access, Profile, Reason, walk

from .walk_bench import DONE, TAG, Bench
from .walk_cases import CODE_FRAMES, DIRECTORIES, LOW_TABLES, PAE_ROOTS, PAGES, TABLES, Case, Cell

CR0, CR4_PAE = 0x80010031, 0x220
ROOT = LOW_TABLES[0] + PAE_ROOTS[0]
FIRST, SECOND = (LOW_TABLES[0] + page * PAGE_SIZE for page in (DIRECTORIES[0], DIRECTORIES[1]))
OLD_TABLE, NEW_TABLE = (LOW_TABLES[0] + page * PAGE_SIZE for page in (TABLES[0], TABLES[1]))
LINEAR = 0x40000000
FULL = P | RW | US | A | D


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.cpu.close()


def case(linear: int, access: str, entries: list[tuple[int, int]], ring: int = 3) -> Case:
    cell = Cell("pae", PAGE_SIZE, "PTE", Reason.MAPPED, ring, True, False, access)
    return Case(cell, linear, entries, CR0, ROOT, CR4_PAE, 0, 0)


def chain(linear: int, directory: int, table: int, entry: int) -> list[tuple[int, int]]:
    return [
        (ROOT + (linear >> 30) * 8, directory | P),
        (directory + (linear >> 21 & 511) * 8, table | FULL),
        (table + (linear >> 12 & 511) * 8, entry),
    ]


def start(bench: Bench, chosen: Case) -> Trap:
    """Run a case from an empty TLB."""
    bench.set_entries(chosen)
    exit_ = bench.run(chosen)
    assert type(exit_) is Trap
    return exit_


def go_on(bench: Bench, chosen: Case) -> Trap:
    """Run another instruction without flushing anything."""
    context = bench.cpu.context
    context.esi, context.eip = bench.linear(chosen), bench.eip(chosen)
    exit_ = bench.cpu.run(100)
    assert type(exit_) is Trap
    return exit_


def test_pdptes_are_read_at_every_walk(bench: Bench) -> None:
    """Hardware goes on with the PDPTE that was loaded with CR3 (SDM 3A, 4.4.1)."""
    old = case(LINEAR, "read", chain(LINEAR, FIRST, OLD_TABLE, PAGES[0] | FULL))
    assert start(bench, old).vector == DONE
    loaded = [bench.read(ROOT + number * 8, 8) for number in range(4)]
    other = LINEAR + PAGE_SIZE
    new = case(other, "read", chain(other, SECOND, NEW_TABLE, PAGES[1] | FULL))
    bench.set_entries(new)
    at = OLD_TABLE + (other >> 12 & 511) * 8
    bench.quads[bench.frames[at >> 12] + at % PAGE_SIZE >> 3] = PAGES[2] | FULL
    assert go_on(bench, new).vector == DONE

    def expected(profile: Profile) -> int:
        user = Access(user=True)
        found = walk(bench.read, ROOT, other + TAG, user, cr0=CR0, cr4=CR4_PAE, efer=0, profile=profile, pdptes=loaded)
        assert found.physical is not None
        return bench.tag(found.physical)

    assert bench.cpu.context.eax == expected(ENGINE) == bench.tag(PAGES[1] + TAG)
    assert expected(MANUAL) == bench.tag(PAGES[2] + TAG)


def test_more_permission_needs_no_flush(bench: Bench) -> None:
    """A cached read-only entry never makes a spurious fault; on hardware it may (SDM 3A, 4.10.4.3)."""
    chosen = case(LINEAR, "read", chain(LINEAR, FIRST, OLD_TABLE, PAGES[0] | P | US | A))
    assert start(bench, chosen).vector == DONE
    write = case(LINEAR, "write", chosen.entries)
    assert go_on(bench, write).vector == 14
    bench.set_entries(case(LINEAR, "write", [(chosen.entries[2][0], PAGES[0] | P | RW | US | A)]))
    assert go_on(bench, write).vector == DONE


def test_less_permission_is_not_seen_until_a_flush(bench: Bench) -> None:
    chosen = case(LINEAR, "write", chain(LINEAR, FIRST, OLD_TABLE, PAGES[0] | FULL))
    assert start(bench, chosen).vector == DONE
    bench.set_entries(case(LINEAR, "write", [(chosen.entries[2][0], 0)]))
    assert go_on(bench, chosen).vector == DONE
    bench.cpu.flush_tlb()
    assert go_on(bench, chosen).vector == 14


def test_user_and_supervisor_entries_are_cached_apart(bench: Bench) -> None:
    """One linear address can have a stale and a fresh translation, by ring; hardware has one TLB for both."""
    chosen = case(LINEAR, "read", chain(LINEAR, FIRST, OLD_TABLE, PAGES[0] | FULL), ring=0)
    assert start(bench, chosen).vector == DONE
    bench.set_entries(case(LINEAR, "read", [(chosen.entries[2][0], PAGES[1] | FULL)]))
    supervisor = bench.cpu.context
    assert go_on(bench, chosen).vector == DONE
    assert bench.cpu.context.eax == bench.tag(PAGES[0] + TAG)
    user = bench.cpu.context = bench.contexts[3]
    for register in ("cr0", "cr3", "cr4", "efer"):
        setattr(user, register, getattr(supervisor, register))
    assert go_on(bench, chosen).vector == DONE
    assert user.eax == bench.tag(PAGES[1] + TAG)


@pytest.mark.parametrize("number", [0, 1])
def test_code_pages_map_themselves(bench: Bench, number: int) -> None:
    """What the other tests stand on: the code pages are reached whatever a case maps."""
    assert bench.read(CODE_FRAMES[number], 4) & 0xFFFF == 0x068B
