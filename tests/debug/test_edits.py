"""What was set is set again on the way to what is behind it: the machine is what it was there, however one came."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from sandbox.debug import timeline
from sandbox.debug.debugger import Debugger
from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.target import resolve
from tests.conftest import Program
from tests.debug.test_travel import remote, state
from tests.debug.test_walks import BACKWARDS, DOZEN, FORWARDS, POINTS, walker, whole

COUNT = "_start: mov ecx, 100000\n1: inc esi\n add edi, esi\n loop 1b\n jmp _start\n"
FIRST = 0x804A000
PLACES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "program": ("cow-fork", {}, "catch syscall", f"set dword {FIRST + 0x20:#x} = "),
    "fault": ("cow-fork", {}, "catch fault", "set $cr2 = "),
    "two CPUs": ("smp-refill", {"cpus": 2, "seed": 3}, "catch switch", "set $cr2 = "),
    "module": ("vmalloc-sync", {}, "catch fault", "set $cr2 = "),
    "rom": ("rom-double-fault", {}, "catch trap", "set $cr2 = "),
    "ROM, two CPUs": ("rom-smp-shootdown", {"cpus": 2}, "catch cpu", "set $cr2 = "),
}


def counting(program: Program, tmp_path: Path) -> Remote:
    path = tmp_path / "count"
    path.write_bytes(program(COUNT))
    image = resolve(path)
    return Remote(lambda: open_target(image, KernelConfig(time_limit=0)))


@pytest.mark.parametrize("where", PLACES)
def test_every_moment_between_changes_is_found_again(where: str) -> None:
    """Steps and stops at events, at some of which something is set; then to each of them in any order."""
    name, changes, catch, change = PLACES[where]
    chosen, seen = random.Random(3), list[tuple[str, Any]]()
    with remote(name, **changes) as made:
        made.execute(catch)
        for number in range(24):
            answer = made.execute(chosen.choice(("step", "into 3", "step 30", "continue")))
            if answer.stop is None or answer.stop.ended:
                break
            if chosen.random() < 0.6:
                made.execute(f"{change}{number}")  # of memory it may be refused: the kernel is at work
            if chosen.random() < 0.3:
                made.execute(f"{change}{number + 100}")
            seen.append((answer.stop.moment.text(), made.call(state)[1:]))
        assert len(seen) > 4
        last = dict(seen)  # of two stops with one text goto means the later
        for text in chosen.sample(list(last), len(last)):
            assert not made.execute(f"goto {text}").error
            assert made.call(state)[1:] == last[text], text


def test_thousands_of_changes(program: Program, tmp_path: Path) -> None:
    """Each at a moment of its own: few processes, and each value is there again."""
    with counting(program, tmp_path) as made:
        places = []
        made.execute("step")
        for number in range(2000):
            stop = made.execute("step 3").stop
            assert stop is not None
            places.append(stop.moment.text())
            assert not made.execute(f"set $esi = {number}").error
        assert made.call(checkpoints) <= timeline.MOST
        for at in (1999, 1000, 3, 700):
            assert not made.execute(f"goto {places[at]}").error
            assert made.execute("print $esi").data["value"] == at
            made.execute("reverse-step")
            assert made.execute("print $esi").data["value"] == at  # INC of the value set before, ADD, LOOP


def checkpoints(debugger: Any) -> int:
    return len(debugger.target.timeline.marks)


def test_a_search_goes_over_changes(program: Program, tmp_path: Path) -> None:
    """reverse-continue finds a breakpoint before, between and behind what was set, and what was in the machine."""
    with counting(program, tmp_path) as made:
        made.execute("break _start + 6")  # ADD
        values = []
        for number in range(10, 60, 10):
            made.execute("continue")
            assert not made.execute(f"set $esi = {number}").error
            values.append(number)
        made.execute("step 2")
        for value in reversed(values):
            assert made.execute("reverse-continue").stop.points == (1,)  # type: ignore[union-attr]
            assert made.execute("print $esi").data["value"] == value
        assert made.execute("reverse-continue").stop.headline == "the beginning"  # type: ignore[union-attr]


def test_steps_go_back_over_changes(program: Program, tmp_path: Path) -> None:
    """Also where EIP was set, so that an instruction comes twice at one time of the clock."""
    with counting(program, tmp_path) as made:
        made.execute("step 2")
        seen = [made.call(state)]
        made.execute("set $eip = _start + 5")
        seen.append(made.call(state))
        for _ in range(3):
            made.execute("step")
            seen.append(made.call(state))
        for before in reversed(seen[1:-1]):
            assert not made.execute("reverse-step").error
            assert made.call(state)[1:] == before[1:]
        made.execute("reverse-step")
        assert made.execute("print $eip == _start + 5 && $esi == 0").data["value"]


def test_another_future_forgets_what_was_set_in_this_one(program: Program, tmp_path: Path) -> None:
    with counting(program, tmp_path) as made:
        made.execute("step 4")
        start = made.execute("step").stop
        made.execute("step 3")
        behind = made.execute("set $esi = 77").error or made.execute("step").stop
        assert start is not None and not isinstance(behind, str) and behind is not None
        made.execute(f"goto {start.moment.text()}")
        made.execute(f"goto {behind.moment.text()}")
        assert made.execute("print $esi").data["value"] in (77, 78)  # it is known for as long as nothing else runs
        made.execute(f"goto {start.moment.text()}")
        made.execute("step 4")
        assert made.execute("print $esi").data["value"] < 10


def test_a_change_at_a_fault_is_there_when_one_goes_to_it() -> None:
    with remote("cow-fork") as made:
        made.execute("run to fault 3")
        made.execute("set $esi = 0x55")
        made.execute("run to fault 5")
        made.execute("set $edi = 0x66")
        made.execute("run to fault 6")
        assert not made.execute("explain fault 4").error
        for number, register, value in ((5, "$edi", 0x66), (3, "$esi", 0x55), (2, "$esi", 0)):
            assert not made.execute(f"goto fault {number}").error
            assert made.execute(f"print {register}").data["value"] == value


def test_too_many_changes_cost_the_older_half(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MOST_EDITS", 10)
    monkeypatch.setattr(timeline, "EDITS_APART", 2)
    with counting(program, tmp_path) as made:
        told: list[str] = []
        for number in range(11):
            made.execute("step")
            told += made.execute(f"set $ebx = {number}").lines
        assert [line for line in told if "later half" in line] != []
        made.execute("goto start")
        assert made.execute("print $ebx").data["value"] in (4, 5)


def ahead(debugger: Debugger) -> tuple[int, bool]:
    """The time at which the guest stands, and whether something was set in the future that is known."""
    assert debugger.stop is not None and debugger.target.timeline is not None
    line = debugger.target.timeline
    return debugger.stop.moment.time, len(line.edits) > line.applied


def wander(name: str, changes: dict[str, Any], length: int, seed: int) -> int:
    """How often a moment came again, on a walk on which things are set; what another future replaces is forgotten."""
    chosen, again = random.Random(f"{name} {seed}"), 0
    seen: dict[str, tuple[int, tuple[str, ...], str]] = {}
    with walker(name, changes) as (made, kind):
        made.execute(chosen.choice(POINTS[kind]))
        for number in range(length):
            line = chosen.choice(chosen.choice((FORWARDS, BACKWARDS, (f"set dword $esp - 64 = {number}",))))
            time, other = made.call(ahead)
            if line.startswith("set") or (other and line in FORWARDS):
                seen = {text: each for text, each in seen.items() if each[0] < time}
            if line == "goto":
                line = f"goto {chosen.choice(list(seen.values()))[2]}" if seen else "goto start"
            answer = made.execute(line)
            if answer.stop is None or answer.stop.ended or answer.stop.headline == "the beginning":
                continue  # there is nothing set yet, also where something was set at once
            now, moment = made.call(whole), answer.stop.moment
            before = seen.setdefault(now[0], (moment.time, now, moment.text()))
            again += before[1] == now
            assert before[1] == now, f"{name}, seed {seed}: {line}: {answer.lines}"
    return again


@pytest.mark.parametrize(("name", "changes"), DOZEN[:8:2], ids=lambda each: str(each))
def test_walks_on_which_things_are_set(name: str, changes: dict[str, Any]) -> None:
    assert wander(name, changes, 30, 1) > 1
