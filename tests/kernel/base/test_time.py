"""The machine's clock: blocks of all CPUs, and what was skipped."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.base.time import EPOCH, LEFT_IN_HEAP, Clock, Deadlines


@dataclass
class Counter:
    clock: int


def test_blocks_of_all_cpus_and_skipped_time_add_up() -> None:
    first, second = Counter(10), Counter(32)
    clock = Clock([first, second])
    clock.skipped = 100
    assert clock.now == 142
    second.clock += 1
    assert clock.now == 143
    assert clock.nanoseconds == EPOCH + 143


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=300), st.integers(0, 60))
def test_deadlines_are_what_a_list_would_have(steps: list[tuple[int, bool]], now: int) -> None:
    """Against the list that they stand for: the smallest is first, what is due comes in the order of adding."""
    deadlines: Deadlines[int] = Deadlines()
    there: dict[int, int] = {}
    for number, (at, takes_one_out) in enumerate(steps):
        if takes_one_out and there:
            gone = list(there)[at % len(there)]
            deadlines.remove(gone)
            del there[gone]
        else:
            deadlines.add(at, number)
            there[number] = at
        assert deadlines.first == min(there.values(), default=None)
    assert deadlines.due(now) == [number for number, at in there.items() if at <= now]
    assert len(deadlines) == sum(at > now for at in there.values())


def test_what_was_taken_out_of_the_deadlines_does_not_stay_for_ever() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for number in range(10_000):
        deadlines.add(1_000_000 - number, number)
        deadlines.remove(number)
    assert len(deadlines._heap) <= LEFT_IN_HEAP + 1
    with pytest.raises(KeyError):
        deadlines.remove(5)
