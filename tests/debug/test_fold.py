"""What the debugger lays out is at most 80 columns wide, whatever is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.debug.fold import WIDTH, wrapped
from tests.debug.machines import KINDS, LOOKS, NAMES, stopped

FOREIGN = ("list", "x/s")
"""Other people's text."""


@pytest.mark.parametrize(("name", "changes", "commands"), KINDS, ids=NAMES)
def test_looks_fit_a_terminal(name: str, changes: dict[str, Any], commands: tuple[str, ...]) -> None:
    with stopped(name, changes, commands) as made:
        for line in (*LOOKS, "help", "watch pte $eip", "info points", "step", "reverse-step"):
            if not line.startswith(FOREIGN):
                told = [each for each in made.execute(line).lines if len(each) > WIDTH and "# " not in each]
                assert told == [], line


def test_a_touched_entry_fits_too() -> None:
    with stopped("bug-flush", {}, ("watch pte shown",)) as made:
        assert [len(each) <= WIDTH for each in made.execute("continue").lines] == [True] * 4


def test_the_words_stay_what_they_are() -> None:
    line = "  " + "  ".join(f"column {number}, clause" for number in range(20))
    assert " ".join(line.split()) == " ".join(" ".join(wrapped([line])).split())
    assert all(len(each) <= WIDTH for each in wrapped([line]))
    assert wrapped(["x" * 200, "", "short"]) == ["x" * 200, "", "short"]
