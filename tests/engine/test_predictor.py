"""Making the branch predictor forget: the jumps end, only long runs go through them, a guest sees nothing of it."""

from __future__ import annotations

import pytest

from sandbox.engine import predictor, stubs
from sandbox.engine.exits import BlocksSpent
from tests.engine.board import CODE, Board

LOOP = "1: inc eax\njmp 1b"


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    times: list[int] = []
    real = predictor.forget()
    monkeypatch.setattr(predictor, "forget", lambda: lambda: (times.append(1), real()))
    return times


def test_the_jumps_lead_to_a_return() -> None:
    for _ in range(3):
        predictor.forget()()


def test_it_is_not_for_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stubs, "native_host", lambda: False)
    assert predictor.forget.__wrapped__() is int


def test_only_after_many_blocks_and_unseen_by_the_guest(forgotten: list[int]) -> None:
    board = Board()
    exits = [board.run(LOOP, blocks=predictor.FIRST // 2)]
    assert not forgotten
    for _ in range(3):
        exits.append(board.cpu.run(predictor.FIRST // 2))
    assert forgotten == [1]
    assert exits == [BlocksSpent(CODE)] * 4
    assert board.cpu.context.eax == board.cpu.clock
    board.cpu.run(predictor.EVERY)
    assert forgotten == [1, 1]
