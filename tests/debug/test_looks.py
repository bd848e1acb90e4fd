"""Looking has no effect, on any kind of target: RAM, registers, clock before and after each look."""

from __future__ import annotations

from typing import Any

import pytest

from tests.debug.machines import KINDS, LOOKS, NAMES, everything, stopped


@pytest.mark.parametrize(("name", "changes", "commands"), KINDS, ids=NAMES)
def test_looking_changes_nothing(name: str, changes: dict[str, Any], commands: tuple[str, ...]) -> None:
    differences = []
    with stopped(name, changes, commands) as made:
        before = made.call(everything)
        told = 0
        for line in LOOKS:
            answer = made.execute(line)
            told += not answer.error
            if made.call(everything) != before:
                differences.append(line)
    assert differences == []
    assert told > 30, "most of them have something to tell"


@pytest.mark.parametrize(("name", "changes", "commands"), KINDS, ids=NAMES)
def test_the_run_goes_on_as_without(name: str, changes: dict[str, Any], commands: tuple[str, ...]) -> None:
    """Looked at or not, it ends at the same moment with the same memory."""
    ends = []
    for looks in ((), ("dump", "tlb", "explain", "backtrace", "info faults", "page 0x100", "code")):
        with stopped(name, changes, commands) as made:
            for line in looks:
                made.execute(line)
            made.execute("delete")
            assert made.execute("continue").stop is not None
            ends.append(made.call(everything))
    assert ends[0] == ends[1]
