"""What it costs to reach highmem, against laws from post 001, MM.md 12, 14 and 18, and from the work's own size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sandbox.runner.kmapcost import SHARED, Cost, WrongData, available, compare_config, measure
from sandbox.x86.errors import ConfigurationError

PAGES, CPUS, RAM = 128, 2, 64 << 20
PASSES = 2
POOLS = ("sequence", "everywhere", "use")
SLACK = 40
"""Pages that the program's beginning and end, and fork, reach besides those of the work."""


@pytest.fixture(scope="module", params=["pae", "legacy"])
def cost(request: pytest.FixtureRequest) -> Callable[..., Cost]:
    """``cost(mechanism, work, slots)``, each measured once."""
    known: dict[tuple[str, str, int], Cost] = {}

    def get(mechanism: str, work: str, slots: int = 0) -> Cost:
        key = mechanism, work, slots
        if key not in known:
            config = compare_config(request.param, RAM, CPUS, PAGES, 60, slots)
            known[key] = measure(mechanism, work, config, PAGES).cost
        return known[key]

    return get


def test_windows_are_stored_and_taken_away_and_flushed_here_once_each(cost: Callable[..., Cost]) -> None:
    """MM 14, 18: one INVLPG a window, on this CPU only."""
    for work in ("copy", "read"):
        found = cost("stack", work)
        assert found.pte_stores == 2 * found.page_maps
        assert 0 <= found.invlpg - found.page_maps <= SLACK  # the rest is fork's and the programs'
        assert found.ipis == found.global_flushes == 0


def test_each_page_is_reached_as_often_as_the_work_says(cost: Callable[..., Cost]) -> None:
    for mechanism in available():
        assert 0 <= cost(mechanism, "copy").page_maps - PASSES * 2 * (PAGES // 2) <= SLACK
        assert 0 <= cost(mechanism, "read").page_maps - PASSES * CPUS * PAGES <= SLACK
        assert 0 <= cost(mechanism, "storm").page_maps - CPUS * PAGES <= SLACK


def test_copy_on_write_maps_the_target_only(cost: Callable[..., Cost]) -> None:
    """Post 001: "we just copy it out of the existing mm context"."""
    for mechanism in available():
        found = cost(mechanism, "storm")
        assert found.page_maps == found.copies


def test_a_pool_that_holds_all_pages_stores_no_entry_for_a_hit(cost: Callable[..., Cost]) -> None:
    """Post 001: "we don't have to update the va mappings for every single kernel access"."""
    for mechanism in POOLS:
        found = cost(mechanism, "read")
        assert found.recycles == 0 and found.hits >= PASSES * CPUS * PAGES
        assert found.pte_stores <= 2 * (found.page_maps - found.hits)


def test_a_pool_smaller_than_a_sequential_scan_never_hits(cost: Callable[..., Cost]) -> None:
    """Least recently used first, and each page exactly once a pass: the textbook's worst case (Belady 1966)."""
    found = cost("sequence", "copy", PAGES // 2)
    assert found.hits == 0 and found.recycles == found.page_maps


def test_sequence_numbers_interrupt_nobody_for_what_one_cpu_uses(cost: Callable[..., Cost]) -> None:
    """MM 12: interrupts at most one a remap and CPU; post 001: none before a conflict is detected."""
    for work in ("copy", "storm", "read"):
        lazy, eager = cost("sequence", work, PAGES // 2), cost("everywhere", work, PAGES // 2)
        assert lazy.ipis == lazy.global_flushes == 0
        assert eager.ipis >= eager.recycles * (CPUS - 1) > 0
        assert eager.global_flushes == eager.ipis * CPUS
        assert eager.tlb_misses > lazy.tlb_misses


def test_invlpg_on_use_is_one_a_use(cost: Callable[..., Cost]) -> None:
    found, lazy = cost("use", "read"), cost("sequence", "read")
    assert 0 <= found.invlpg - found.page_maps <= SLACK
    assert lazy.invlpg < found.invlpg


@pytest.fixture(scope="module", params=[2, 4])
def handed(request: pytest.FixtureRequest) -> tuple[int, dict[tuple[str, str], Cost]]:
    """The number of CPUs, and the costs of addresses handed from CPU to CPU by mechanism and work."""
    config = compare_config("pae", RAM, request.param, PAGES, 60)
    return request.param, {
        (name, work): measure(name, work, config, PAGES).cost for name in available() for work in SHARED
    }


Handed = tuple[int, dict[tuple[str, str], Cost]]


def test_each_page_is_handed_on_as_often_as_the_work_says(handed: Handed) -> None:
    """A window cannot be handed on: each side has its own (MM 14: on another CPU it is an error)."""
    for (mechanism, _), cost in handed[1].items():
        sides = 2 if mechanism in ("slots", "stack", "heap") else 1
        assert 0 <= cost.page_maps - sides * PASSES * PAGES <= SLACK


def test_interrupts_of_addresses_that_are_good_everywhere(handed: Handed) -> None:
    """MM 12: at most one a remap and CPU, and an INVLPG instead of a whole flush; MM 18: a window's none."""
    cpus, costs = handed
    for work in SHARED:
        lazy, eager, use = (costs[each, work] for each in POOLS)
        assert 0 < lazy.conflicts <= lazy.recycles == eager.recycles
        assert 0 < lazy.ipis <= lazy.recycles * (cpus - 1) and lazy.global_flushes == 0
        assert eager.ipis == eager.recycles * (cpus - 1) and eager.global_flushes == eager.recycles * cpus
        assert lazy.ipis < use.ipis and lazy.tlb_misses < eager.tlb_misses
        assert all(costs[each, work].ipis == 0 for each in ("slots", "stack", "heap"))


def test_kmap_interrupts_once_a_lap(handed: Handed) -> None:
    """MM 13: one flush of all CPUs a lap, whose slots all come free: here half as many as pages."""
    cpus, costs = handed
    for work in SHARED:
        cost = costs["kmap", work]
        laps = cost.ipis // (cpus - 1)
        assert 0 < laps <= -(-(cost.page_maps - cost.hits) // (PAGES // 2)) + 1
        assert cost.ipis == laps * (cpus - 1) and cost.global_flushes == laps * cpus
        assert cost.ipis < costs["sequence", work].ipis


def test_an_address_that_other_cpus_are_not_told_of_is_another_page() -> None:
    config = compare_config("pae", RAM, CPUS, PAGES, 20)
    with pytest.raises(WrongData, match=r"^threads with kva pool, sequence numbers: exit status 22"):
        measure("sequence", "threads", replace(config, switches=frozenset({"no-shootdown"})), PAGES)


def test_work_that_does_not_end_well_is_told_in_a_line() -> None:
    """Without any flush it sees wrong pages, or faults without end."""
    config = compare_config("pae", RAM, CPUS, PAGES, 2, PAGES // 2)
    with pytest.raises(WrongData, match=r"^copy with kva pool, sequence numbers: (exit status|limit reached)"):
        measure("sequence", "copy", replace(config, switches=frozenset({"no-flush"})), PAGES)


@pytest.mark.parametrize(("ram", "pages", "slots"), [(RAM, 1, 0), (RAM, 1 << 20, 0), (RAM, 8192, 0), (RAM, 64, -1)])
def test_machines_that_cannot_be(ram: int, pages: int, slots: int) -> None:
    with pytest.raises(ConfigurationError):
        compare_config("pae", ram, CPUS, pages, 60, slots)
