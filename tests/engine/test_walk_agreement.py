"""The pure walk and the engine's MMU agree: verdict, error code, physical address, accessed and dirty bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from sandbox.engine.exits import BusError, Exit, Trap
from sandbox.x86.paging import PDPTE_RESERVED, PS
from sandbox.x86.vectors import Vector
from sandbox.x86.walk import ENGINE, MANUAL, Access, Profile, Reason, Walk, walk
from tests.campaign import part

from .walk_bench import DONE, SCRATCH, STORED, Bench
from .walk_cases import (
    KB,
    MB,
    PAGED,
    STORES,
    Case,
    Cell,
    cases,
    cells,
    dealt,
    impossible,
    physical_is_ram,
    wild_cases,
)

CHUNKS, CASES, WILD_CASES = 8, 66_000, 40_000
DEVIATIONS = {"pdpte_page_fault", "pdpte_reserved", "accessed_before_verdict", "modify_reads_first"}
"""Fields of the engine's profile that single walks show; ``pdptes_in_memory`` has its own test."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.cpu.close()


def predict(bench: Bench, case: Case, profile: Profile) -> Walk:
    """The walk of a case over the tables as they are."""
    cell = case.cell
    access = Access(cell.access in STORES, cell.ring == 3, cell.access == "fetch", cell.access == "modify")
    return walk(
        bench.read, case.cr3, bench.linear(case), access, cr0=case.cr0, cr4=case.cr4, efer=case.efer, profile=profile
    )


def cell_of(case: Case, found: Walk) -> Cell:
    """The cell in which a walk ended."""
    cell, size = case.cell, 0
    last = found.levels[-1] if found.levels else None
    if found.reason in PAGED:
        size = found.page_size or 0
    elif last and last.name == "PTE":
        size = 4 * KB
    elif last and last.name == "PDE" and found.reason is Reason.RESERVED and last.entry & PS:
        size = 2 * MB if cell.format == "pae" else 4 * MB
    stop = last.name if last else "none"
    return Cell(cell.format, size, stop, found.reason, cell.ring, cell.wp, cell.nxe, cell.access)


def assert_outcome(bench: Bench, case: Case, expected: Walk, exit_: Exit) -> None:
    """Trap and error code, or the access done at the right physical address."""
    cell = case.cell
    told = (case, expected, exit_)
    if expected.error_code is not None:
        assert type(exit_) is Trap, told
        got = (exit_.eip, exit_.vector, exit_.error_code, exit_.address, exit_.cpl, exit_.software)
        assert got == (bench.eip(case), Vector.PF, expected.error_code, expected.linear, cell.ring, False), told
        return
    physical = expected.physical
    assert physical is not None, told
    if not physical_is_ram(physical):
        assert type(exit_) is BusError, told
        assert (exit_.physical, exit_.write) == (physical, cell.access == "write"), told
        return
    assert type(exit_) is Trap and (exit_.vector, exit_.software, exit_.cpl) == (DONE, True, cell.ring), told
    if cell.access in STORES:
        at = bench.slot(physical) + SCRATCH // 4
        assert bench.words[at] == STORED, told
        bench.words[at] = 0
    else:
        assert bench.cpu.context.eax == bench.tag(physical), told


def deviations(engine: Walk, manual: Walk, modify: bool) -> set[str]:
    """Names of the profile's fields that tell the two walks apart; fails if something else does."""
    found = set()
    if manual.reason is Reason.BAD_PDPTE:
        assert manual.levels[0].entry & PDPTE_RESERVED
        return {"pdpte_page_fault" if engine.reason is Reason.RESERVED else "pdpte_reserved"}
    for name in ("reason", "error_code", "physical", "page_size"):
        assert getattr(engine, name) == getattr(manual, name)
    if engine.updates != manual.updates:
        found.add("modify_reads_first" if modify and engine.reason is Reason.READ_ONLY else "accessed_before_verdict")
        assert manual.updates == [] and engine.reason is not Reason.MAPPED
    return found


def compare(bench: Bench, chosen: Iterable[Case]) -> tuple[Counter[Cell], Counter[str]]:
    """Run cases one by one against the walk; the cells and the deviations that were met."""
    met: Counter[Cell] = Counter()
    seen: Counter[str] = Counter()
    for case in chosen:
        bench.set_entries(case)
        expected = predict(bench, case, ENGINE)
        met[cell_of(case, expected)] += 1
        seen.update(deviations(expected, predict(bench, case, MANUAL), case.cell.access == "modify"))
        exit_ = bench.run(case)
        assert_outcome(bench, case, expected, exit_)
        updates = dict(expected.updates)
        wanted = [updates.get(physical, entry) for physical, entry in case.entries]
        assert bench.entries(case) == wanted, (case, expected, [hex(each) for each in bench.entries(case)])
        bench.clear_entries(case)
    assert bench.bytes[: bench.tables_end] == bench.untouched, "the engine wrote elsewhere in the tables"
    return met, seen


@pytest.mark.slow
@pytest.mark.parametrize("chunk", part(range(CHUNKS), 2))
def test_engine_agrees_with_the_walk(bench: Bench, chunk: int) -> None:
    """528,000 cases in all, a quarter of them outside the campaigns, each in the cell for which it was made."""
    met, seen = compare(bench, cases(chunk, CASES))
    assert met == Counter(dealt(chunk, CASES))
    assert set(seen) == DEVIATIONS
    assert min(seen.values()) >= 100


@pytest.mark.slow
def test_random_entries_agree_too(bench: Bench) -> None:
    """And none ends in a cell that is said to be impossible."""
    met, seen = compare(bench, wild_cases(0, WILD_CASES))
    assert [(cell, impossible(cell)) for cell in met if impossible(cell)] == []
    assert set(seen) == DEVIATIONS


def test_every_cell_is_impossible_or_met_100_times() -> None:
    planned = Counter(cell for chunk in range(CHUNKS) for cell in dealt(chunk, CASES))
    for cell in cells():
        if impossible(cell):
            assert cell not in planned
        else:
            assert planned[cell] >= 100, cell
    assert {(cell.format, cell.reason) for cell in planned} >= {("pae", reason) for reason in Reason} - {
        ("pae", Reason.BAD_PDPTE)
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accessed_before_verdict", False),
        ("pdpte_reserved", MANUAL.pdpte_reserved),
        ("pdpte_page_fault", False),
        ("modify_reads_first", False),
    ],
)
def test_a_wrong_profile_is_noticed(name: str, value: bool | int) -> None:
    """Every deviation matters: the engine disagrees with a profile that lacks it.  The bench is left dirty."""
    bench, profile = Bench(), replace(ENGINE, **{name: value})  # type: ignore[arg-type]
    assert any(disagrees(bench, case, profile) for case in cases(0, 2640))
    bench.cpu.close()


def disagrees(bench: Bench, case: Case, profile: Profile) -> bool:
    """What the engine does is not what a profile says."""
    bench.set_entries(case)
    expected = predict(bench, case, profile)
    exit_ = bench.run(case)
    updates = dict(expected.updates)
    try:
        assert_outcome(bench, case, expected, exit_)
        return bench.entries(case) != [updates.get(physical, entry) for physical, entry in case.entries]
    except AssertionError:
        return True
    finally:
        bench.clear_entries(case)
