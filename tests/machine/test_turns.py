"""Whose turn it is: in a round, past those that cannot run, each for a while (machine.md)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sandbox.machine.turns import SHARED_TURN_BLOCKS, TURN_BLOCKS, BareCpu, Run, Turns


def make(states: list[Run], awake: set[int], seed: int = 0) -> tuple[Turns, list[BareCpu], list[tuple[int, int]]]:
    """Turns over CPUs of which only the clock counts; which switches were told."""
    cpus = [BareCpu(SimpleNamespace(clock=0, index=index), state) for index, state in enumerate(states)]
    told: list[tuple[int, int]] = []
    turns = Turns(
        cpus, seed, lambda each: each.cpu.index in awake, lambda index, previous: told.append((index, previous))
    )
    return turns, cpus, told


def test_one_alone_runs_on() -> None:
    turns, cpus, told = make([Run.RUNNING], set())
    assert (turns.present(), turns.end, told) == (cpus[0], TURN_BLOCKS, [])
    cpus[0].cpu.clock = TURN_BLOCKS
    assert (turns.present(), turns.end) == (cpus[0], 2 * TURN_BLOCKS)


@pytest.mark.parametrize("seed", range(3))
def test_the_round(seed: int) -> None:
    """Each in its turn; a halted one only with an interrupt, a waiting one never."""
    turns, cpus, told = make([Run.RUNNING, Run.HALTED, Run.WAITING, Run.RUNNING, Run.HALTED], {4}, seed)
    seen = []
    for _ in range(6):
        each = turns.present()
        assert each is not None
        assert each is turns.present(), "the turn is not over yet"
        length = turns.end - each.cpu.clock
        assert SHARED_TURN_BLOCKS // 2 <= length < SHARED_TURN_BLOCKS * 3 // 2
        each.cpu.clock = turns.end
        seen.append(each.cpu.index)
    assert seen == [3, 4, 0, 3, 4, 0]
    assert told == [(3, 0), (4, 3), (0, 4)] * 2
    assert cpus[4].state is Run.RUNNING


def test_nobody() -> None:
    assert make([Run.HALTED, Run.WAITING], set())[0].present() is None
