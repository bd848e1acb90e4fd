"""What is shown while a run goes on."""

from __future__ import annotations

import re

import pytest

from sandbox.semantics.progress import Progress


def test_rate_and_time_left_are_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 of 2,000 vectors were done before; 500 more in two seconds are 250 a second, so that 1,000 take four."""
    now = iter((10.0, 12.0))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    shown = Progress(2000, 500)
    shown.add(500)
    assert shown.line() == "1,000 of 2,000 vectors, 250 a second, 4 s left"


def test_nothing_is_told_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(10)
    shown.add(5)
    shown.end()
    assert capsys.readouterr().err == "" and re.match(r"5 of 10 vectors", shown.line())
