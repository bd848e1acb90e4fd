"""Going back is exact: registers, memory, moments are what they were on the way there, on every kind of target."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.runner.rom import rom_config
from sandbox.runner.target import resolve
from tests import ram

KINDS = [
    ("cow-fork", {}), ("cow-fork", {"paging": "legacy"}), ("smp-refill", {"cpus": 2, "seed": 3}), ("uaccess", {}),
    ("rom-double-fault", {}), ("vmalloc-sync", {}), ("smp-refill", {"cpus": 4}),
]  # fmt: skip


@contextmanager
def remote(name: str, **changes: Any) -> Iterator[Remote]:
    image = resolve(f"images/{name}")
    config = rom_config(image, **changes) if image.kind == "rom" else image.config(**changes)
    config.time_limit = 0
    with Remote(lambda: open_target(image, config)) as made:
        yield made


def state(debugger: Debugger) -> tuple[Any, ...]:
    """The whole machine: where it stands, every CPU's registers, all of RAM."""
    machine = debugger.target.machine
    registers = tuple(
        (cpu.context.general(), cpu.context.eip, cpu.context.eflags, cpu.context.cr2, cpu.context.cr3)
        for cpu in machine.cpus
    )
    memory = ram.digest(machine.memory)
    assert debugger.stop is not None
    return debugger.stop.moment, repr(registers), memory


def moment(made: Remote) -> str:
    return str(made.execute("when").lines[0])


@pytest.mark.parametrize(("name", "changes"), KINDS, ids=lambda each: str(each))
def test_every_moment_is_found_again(name: str, changes: dict[str, Any]) -> None:
    """Steps of any length, into kernel routines too; then back to each of them, in any order."""
    chosen = random.Random(7)
    with remote(name, **changes) as made:
        seen: list[tuple[Any, ...]] = [made.call(state)]
        while len(seen) < 24:
            answer = made.execute(f"{chosen.choice(['step', 'into'])} {chosen.choice([1, 2, 5, 40, 700])}")
            if answer.stop is None or answer.stop.ended:
                break
            seen.append(made.call(state))
        order = seen[:]
        chosen.shuffle(order)
        assert len(order) > 2
        for each in order[:12]:
            assert not made.execute(f"goto {each[0].text()}").error
            assert made.call(state) == each


def test_back_by_single_instructions() -> None:
    with remote("cow-fork") as made:
        seen = [made.call(state)]
        for _ in range(6):
            made.execute("step")
            seen.append(made.call(state))
        for each in reversed(seen[:-1]):
            made.execute("reverse-step")
            if each[0].eip != made.call(state)[0].eip:
                pytest.fail(f"{each[0].text()} {moment(made)}")
        assert made.execute("reverse-step").error == "nothing ran before this"
        assert moment(made) == seen[0][0].text()


def test_back_to_the_last_stop() -> None:
    """Faults forwards, then the same ones backwards, and no further than to the beginning."""
    with remote("cow-fork") as made:
        made.execute("catch fault")
        forwards = []
        while not (answer := made.execute("continue")).stop.ended:  # type: ignore[union-attr]
            forwards.append(answer.lines[-2])
        backwards = [made.execute("reverse-continue").lines[-2] for _ in forwards]
        assert backwards == forwards[::-1]
        assert made.execute("reverse-continue").lines[0].startswith("the beginning")


def test_points_survive_and_count_again() -> None:
    with remote("cow-fork") as made:
        made.execute("break child")
        made.execute("continue")
        made.execute("continue")
        assert "0804813" in made.execute("reverse-continue").lines[-1]
        assert "break child" in made.execute("info points").lines[0]


@pytest.mark.parametrize("what", ["fault", "syscall", "flush", "switch", "frame", "fork"])
def test_between_two_stores_of_the_kernel(what: str) -> None:
    """Each stop of a catch is found again by its text, or by a bookmark where several lie at one instruction."""
    with remote("fork-tree") as made:
        made.execute(f"catch {what}")
        seen = []
        for number in range(6):
            if made.execute("continue").stop.ended:  # type: ignore[union-attr]
                break
            made.execute(f"bookmark place{number}")
            seen.append(made.call(state))
        assert seen
        assert not made.execute(f"goto {seen[-1][0].text()}").error
        assert made.call(state) == seen[-1]
        made.execute("goto start")
        for number, each in enumerate(seen):
            assert not made.execute(f"goto place{number}").error
            assert made.call(state) == each


def test_reverse_finish_and_reverse_next() -> None:
    """Out of a kernel routine backwards: to its first instruction, and points stay what they were."""
    with remote("cow-fork") as made:
        made.execute("break copy_page")
        made.execute("continue")
        entry = made.call(state)
        made.execute("into 5")
        assert "copy_page+" in made.execute("code $eip 1").lines[0]
        points = made.execute("info points").lines
        made.execute("reverse-finish")
        assert made.call(state)[1:] == entry[1:]
        assert made.execute("info points").lines == points != []
        assert "break copy_page" in made.execute("info points").lines[0]
        made.execute("delete")
        made.execute("goto start")
        made.execute("next 3")
        before = made.call(state)
        made.execute("next")
        assert not made.execute("reverse-next").error
        assert made.call(state)[1:] == before[1:]


def test_a_bookmark_is_known_in_the_past() -> None:
    with remote("cow-fork") as made:
        made.execute("step 3")
        made.execute("bookmark here")
        before = made.call(state)
        made.execute("goto start")
        assert not made.execute("goto here").error
        assert made.call(state) == before


@pytest.mark.parametrize(
    "line",
    [
        "goto",
        "goto 5",
        "goto 99999999999:08048000",
        "goto fault 4000",
        "goto fault 0",
        "goto nowhere",
        "reverse-step 0",
    ],
)
def test_impossible_places_change_nothing(line: str) -> None:
    with remote("cow-fork") as made:
        made.execute("step 3")
        before = made.call(state)
        assert made.execute(line).error
        assert made.call(state) == before


def test_what_is_set_stays_behind_it() -> None:
    """Back to it from the future that it made; before it, the past as it was."""
    with remote("cow-fork") as made:
        made.execute("step")
        made.execute("set $ebx = 0x1234")
        made.execute("set dword 0x804a010 = 77")
        made.execute("step 2")
        made.execute("reverse-step")
        assert made.execute("print $ebx").data["value"] == 0x1234
        assert made.execute("print *0x804a010").data["value"] == 77
        made.execute("goto start")
        assert made.execute("print $ebx").data["value"] == 0


def test_back_out_of_a_kernel_routine() -> None:
    """Before a routine's first instruction comes who called it, and before that the instruction that faulted."""
    with remote("cow-fork") as made:
        made.execute("run to fault 4")
        made.execute("into")
        assert "copy_page" in made.execute("code").lines[0]
        assert "call ebx" in made.execute("reverse-step").lines[-1]
        assert "<child+0x9>" in made.execute("reverse-step").lines[-1]
        assert "<copy_page>" in made.execute("into 2").lines[-1]


@pytest.mark.parametrize("paging", ["pae", "legacy"])
def test_a_fetch_that_faults_is_no_step(paging: str) -> None:
    """``target`` of call-faults lies on a page that is not there yet: each of its instructions is a step, both ways.

    Addresses and order are those of its source: a CMP with a 32-bit immediate, a JNE, a MOV, a RET.
    """
    with remote("call-faults", paging=paging) as made:
        for line in ("break target", "continue", "delete"):
            made.execute(line)
        begin = made.execute("print $eip").data["value"]
        places = []
        for line in ("reverse-step", "step", "step", "step", "step"):
            made.execute(line)
            places.append(made.execute("print $eip").data["value"] - begin)
        assert places[:4] == [0, 7, 9, 14]
        for place in (14, 9, 7, 0):
            assert not made.execute("reverse-step").error
            assert made.execute("print $eip").data["value"] - begin == place


def test_back_from_an_end_that_the_kernel_has_made() -> None:
    """A complaint of the kernel's stops by itself, inside its own code: it is no end of the way back."""
    with remote("kmap-elsewhere") as made:
        while (stop := made.execute("continue").stop) is not None and not stop.ended:
            assert "about to end the run" in stop.headline
            last = stop.moment
        for line in ("reverse-step", "reverse-next"):
            assert not made.execute(line).error
            there = made.execute("when").data["moment"]
            assert int(there.split(":")[0]) <= last.time
            while not made.execute("continue").stop.ended:  # type: ignore[union-attr]
                pass
        made.execute("reverse-continue")
        assert made.execute("when").data["moment"] == last.text()
