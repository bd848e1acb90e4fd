"""Schedules: what decides at a race point."""

from __future__ import annotations

from sandbox.kernel.base.races import ListSchedule, Races, Schedule, SeedSchedule


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
