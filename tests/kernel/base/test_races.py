"""Schedules: what decides at a race point."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.races import POINTS, ListSchedule, Races, Schedule, SeedSchedule
from sandbox.x86.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[3]


def stood(schedule: Schedule | None, names: str) -> list[tuple[str, int]]:
    races, found = Races(schedule), []
    races.stand = lambda name, times: found.append((name, times))
    for name in names:
        races.point(name)
    return found


def test_without_a_schedule_nobody_stands() -> None:
    assert stood(None, "abcabc") == []


def test_a_list_says_where_and_which_time() -> None:
    assert stood(ListSchedule([("b", 2), ("c", 1)]), "abcabcb") == [("c", 1), ("b", 2)]


def test_a_seed_is_a_schedule() -> None:
    first = stood(SeedSchedule(7), "abc" * 100)
    assert first == stood(SeedSchedule(7), "abc" * 100)
    assert first != stood(SeedSchedule(8), "abc" * 100)
    assert 50 < len(first) < 200


def test_interrupts_are_late_for_so_many_blocks_only() -> None:
    races = Races(SeedSchedule(1))
    drawn = [races.lateness() for _ in range(300)]
    assert 0 in drawn and 0 < max(drawn) < 64
    assert Races(None).lateness() == 0


def test_points_are_those_of_the_kernel_and_of_the_page() -> None:
    text = "".join(path.read_text() for path in (ROOT / "sandbox" / "kernel").rglob("*.py"))
    assert set(
        re.findall(
            r"\.(?:point\(|_before_flush\(mm, |_stand_between\(ptep, |_tear\(ptep, [^\"\n]*)\"([a-z_-]+)\"\)", text
        )
    ) == set(POINTS)
    rows = re.findall(r"^\| (`.*?) \| ", (ROOT / "docs" / "races.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`([a-z_-]+)`", " ".join(rows))) == set(POINTS)


def test_a_race_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no race point is called 'set-pte'"):
        KernelConfig(cpus=2, races=(("wp", 1), ("set-pte", 1)))
    with pytest.raises(ConfigurationError, match="with one CPU"):
        KernelConfig(races=(("wp", 1),))
    KernelConfig(cpus=2, races=(("wp", 1),))
    KernelConfig(races=())
