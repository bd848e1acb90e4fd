"""Breakpoints, watches and catches: each sentence about where to stop, and words that nobody should type."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.open import open_target
from sandbox.debug.stops import StopKind
from sandbox.engine import stubs
from sandbox.engine.watchcode import MOST_BREAKS
from sandbox.runner.result import Result
from sandbox.runner.rom import rom_config
from sandbox.runner.target import resolve
from tests.debug.machines import to_the_end
from tests.debug.test_travel import remote, state
from tests.debug.test_watching import image

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="watchpoints are x86-64 Linux code")

COMMANDS = ("break", "tbreak", "watch", "rwatch", "awatch", "twatch", "catch", "tcatch")
HOSTILE = (
    "nowhere", "-1", "0x100000000", "0xffffffffffffffff", "if", "_start if", "_start if $nothing", "1 2 3 4",
    "((((", ")" * 200, "(" * 5000, "physical", "physical -1", "physical 0x1000000000", "physical nowhere 4",
    "physical 0x1000 if", "pte", "pte nowhere", "pte 0x100000000", "cr3 5", "\x00", "é", "'; quit",
    "$nothing", "1 / 0", "page +", "fault fault fault 7", "what", "mode sideways", "cr3 if", "fault if $address +",
)  # fmt: skip
OF_WATCHES = (
    "", "_start 0", "_start 2000000", "_start 0x0", "_start 99999999999999999999", "0xffffffff 2",
    "physical 0xfffffffff 2", "physical 0x1000 0", "physical 0x1000 0x100001",
)  # fmt: skip
OF_NUMBERS = ("", "0", "-1", "99", "one", "1 1", "1.5", "999999999999", "²", "1 nowhere", "1 -5")


@pytest.fixture(scope="module")
def stopped():
    """A program that stands at its first instruction, and which nothing has changed since."""
    with remote("cow-fork") as made:
        yield made


def kept(debugger: Debugger) -> Any:
    """The machine, and all points."""
    return state(debugger), points(debugger)


def points(debugger: Debugger) -> Any:
    control = debugger.target.control
    armed = control.breakpoints, control.fetches, control.modes
    return [each.to_dict() for each in debugger.points], *armed


@pytest.mark.parametrize("word", COMMANDS)
def test_hostile_words_change_nothing(stopped: Any, word: str) -> None:
    before = stopped.call(kept)
    for text in HOSTILE + (OF_WATCHES if "watch" in word else ()):
        answer = stopped.execute(f"{word} {text}")
        assert answer.error and "\n" not in answer.error and len(answer.error) < 6000, (word, text, answer.lines)
        assert stopped.call(points) == before[1], (word, text)
    assert stopped.call(kept) == before


@pytest.mark.parametrize("word", ["delete", "condition", "ignore", "enable", "disable"])
def test_hostile_numbers_change_nothing(stopped: Any, word: str) -> None:
    before = stopped.call(kept)
    for text in OF_NUMBERS:
        answer = stopped.execute(f"{word} {text}")
        assert answer.error or (word, text) == ("delete", ""), (word, text, answer.lines)
    assert stopped.call(kept) == before


@pytest.mark.parametrize("line", ["rwatch pte _start", "awatch cr3", "run to fault 0", "run to fault", "run away"])
def test_what_cannot_be_is_refused(stopped: Any, line: str) -> None:
    before = stopped.call(kept)
    assert stopped.execute(line).error
    assert stopped.call(kept) == before


def test_too_many_are_refused_and_change_nothing(stopped: Any) -> None:
    for number in range(MOST_BREAKS):
        assert not stopped.execute(f"break physical {0x100000 + number:#x}").error
    before = stopped.call(kept)
    assert stopped.execute("break physical 0x200000").error
    assert stopped.call(kept) == before
    stopped.execute("delete")
    while not (answer := stopped.execute("awatch 0x804a000")).error:
        before = stopped.call(points)
    assert "ranges" in answer.error
    assert stopped.call(points) == before
    stopped.execute("delete")


def test_a_breakpoint_at_a_physical_address_is_one_at_every_mapping() -> None:
    """Two processes share the frame of their code; the kernel's direct map does not execute it."""
    (_, _, physical, *_) = image("cow-fork", ["break child", "c", "print $eip", "c"])
    chosen = resolve("images/cow-fork")
    config = chosen.config()
    config.time_limit = 0
    target = open_target(chosen, config)
    debugger = Debugger(target)
    debugger.begin()
    place = target.translate(physical.data["value"])
    assert not debugger.execute(f"break physical {place:#x}").error
    stop = debugger.execute("continue").stop
    assert stop is not None and (stop.kind, stop.pid, stop.moment.eip) == (
        StopKind.BREAKPOINT, 4, physical.data["value"]
    )  # fmt: skip
    assert debugger.execute("info points").data["points"][0]["hits"] == 1
    end = debugger.execute("continue").stop
    assert end is not None and end.ended
    target.close()


def test_a_physical_breakpoint_before_and_behind_paging() -> None:
    """rom-accessed-dirty turns paging on at 0x1001a9 (its listing); its code is mapped one to one."""
    answers = image(
        "rom-accessed-dirty", ["break physical 0x1001a9", "tbreak physical 0x1001c2", "c", "c", "info points"]
    )
    assert [each.stop.moment.eip for each in answers[2:4] if each.stop is not None] == [0x1001A9, 0x1001C2]
    assert [line.split("  (")[0].strip() for line in answers[4].lines] == ["1  break physical 0x1001a9"]


def test_changes_of_mode() -> None:
    """As the ROM's source has it: paging, an IRET to ring 3, an interrupt back."""
    answers = image("rom-accessed-dirty", ["catch mode", "c", "c", "c", "c"])
    assert [each.lines[0].partition(", CPU")[0] for each in answers[1:4]] == [
        "mode: paging on", "mode: ring 0 to 3", "mode: ring 3 to 0"
    ]  # fmt: skip
    answers = image("rom-accessed-dirty", ["tcatch mode ring if $ring == 0", "c", "c"])
    assert answers[1].lines[0].startswith("mode: ring 3 to 0")
    assert answers[2].stop is not None and answers[2].stop.ended
    answers = image("rom-smp-shootdown", ["catch mode protected", "c", "c"], cpus=2)
    assert answers[1].lines[0].startswith("mode: protected off, CPU 1"), "a start-up interrupt: real mode"
    assert answers[2].lines[0].startswith("mode: protected on, CPU 1")
    answers = image("rom-vm86", ["catch mode vm86", "c", "c"])
    assert answers[1].lines[0].startswith("mode: vm86 on")


def test_a_programs_way_into_the_kernels_routines_is_a_change_of_ring() -> None:
    answers = image("cow-fork", ["catch mode ring", "c", "c", "c"])
    rings = [each.lines[0].partition(", ")[0] for each in answers[1:]]
    assert rings == ["mode: ring 3 to 0", "mode: ring 0 to 3", "mode: ring 3 to 0"]
    assert answers[1].stop is not None and answers[1].stop.moment.eip >= 0xC0000000


def test_interrupts_between_processors() -> None:
    answers = image("rom-smp-shootdown", ["catch ipi", "c", "c", "c", "delete", "catch ipi fixed", "c"], cpus=2)
    told = [each.lines[0].partition(", ")[0] for each in answers[1:4]]
    assert told[0] == "init interrupt of CPU 0 to CPU 1", "SDM 3A, 8.4.4: INIT, then two start-ups"
    assert told[1].startswith("start-up interrupt of CPU 0 to CPU 1")
    assert answers[6].lines[0].startswith("fixed interrupt of CPU")
    answers = image("vmalloc", ["tcatch ipi call", "c"], cpus=2)
    assert re.match(r"call interrupt of CPU (0 to CPU 1|1 to CPU 0),", answers[1].lines[0])


def test_a_devices_access_is_told_at_its_instruction() -> None:
    """In the middle of a block: what lies at the address of the stop names the address."""
    lines = ["catch ipi", "catch mmio", *["c", "x/2i $eip", "print $eax"] * 5, "reverse-continue", "reverse-continue"]
    with remote("rom-smp-shootdown", cpus=2) as made:
        answers = [made.execute(line) for line in lines]
    stops = [each.stop for each in answers[2:17:3]]
    code = [each.lines for each in answers[3:17:3]]
    told = [each.headline.partition(",")[0] for each in stops if each is not None]
    for headline, text in zip(told[:4], code, strict=False):
        assert headline.split(" at ")[1] in text[0], "the operand is where the device was reached"
    assert told[4].startswith("init interrupt") and "0xfee00300" in code[4][0], "SDM 3A, 10.6.1: the ICR"
    back = [each.stop.headline.partition(",")[0] for each in answers[17:] if each.stop is not None]
    assert back == [told[3], told[2]]


def faults(*words: str) -> list[dict[str, Any]]:
    """The details of every fault at which a catch stops."""
    answers = image("cow-fork", [*words, *["continue"] * 12])
    return [each.stop.details for each in answers if each.stop is not None and not each.stop.ended]


def test_faults_by_range_access_task_and_kind() -> None:
    everything = faults("catch fault")
    first = everything[0]["number"]
    assert [each["number"] for each in everything] == list(range(first, first + len(everything))), "one numbering"
    low, high = 0x804A000, 0x804AFFF
    assert faults(f"catch fault if $address >= {low} && $address <= {high}") == [
        each for each in everything if low <= each["address"] <= high
    ]
    assert faults("catch fault if $write") == [each for each in everything if each["write"]]
    assert [each["number"] for each in faults("catch fault if $pid == 4")] == [4]
    assert [each["number"] for each in faults("catch fault", "ignore 1 2")] == [
        each["number"] for each in everything[2:]
    ]
    assert {each["resolution"] for each in faults("catch cow-copy")} == {"cow-copy"}
    assert {each["resolution"] for each in faults("catch cow-reuse")} == {"cow-reuse"}


def test_run_to_a_fault_and_temporary_catches() -> None:
    answers = image("cow-fork", ["run to fault 4", "tcatch fault", "continue", "info points", "continue"])
    assert answers[0].stop is not None and answers[0].stop.details["number"] == 4
    assert answers[2].stop is not None and answers[2].stop.details["number"] == 5
    assert answers[3].lines == ["no points"]
    assert answers[4].stop is not None and answers[4].stop.ended


def test_a_temporary_catch_of_an_event_comes_once() -> None:
    answers = image("cow-fork", ["tcatch syscall", "continue", "info points", "continue"])
    assert answers[1].stop is not None and answers[1].stop.details["event"] == "syscall"
    assert answers[2].lines == ["no points"]
    assert answers[3].stop is not None and answers[3].stop.ended


def test_back_to_modes_and_physical_breakpoints() -> None:
    with remote("rom-accessed-dirty") as made:
        made.execute("catch mode")
        made.execute("break physical 0x1001a9")
        forwards = []
        while not (answer := made.execute("continue")).stop.ended:  # type: ignore[union-attr]
            forwards.append(answer.lines[0])
        assert len(forwards) == 4
        assert [made.execute("reverse-continue").lines[0] for _ in forwards] == forwards[::-1]


@pytest.mark.parametrize("name", ["rom-accessed-dirty", "rom-smp-shootdown", "rom-vm86", "rom-stale-tlb"])
def test_a_rom_ends_as_it_would_have(name: str) -> None:
    """With stops of all these kinds on the way: the same blocks and output."""

    def finish(*commands: str) -> tuple[Result, int]:
        chosen = resolve(f"images/{name}")
        config = rom_config(chosen)
        config.time_limit = 0
        target = open_target(chosen, config)
        to_the_end(target, *commands)
        now = target.now
        target.close()
        assert target.result is not None
        return target.result, now

    free, blocks = finish()
    stopped, after = finish("catch mode", "break physical 0x1001a9", "catch ipi", "watch cr3", "watch pte 0x40000000")
    assert (stopped.status, stopped.error, after) == (free.status, free.error, blocks)


def test_what_conditions_know_expressions_know_at_a_stop() -> None:
    """The numbers are those of the headline: fault 4 of cow-fork, a user's write to a page that is read-only."""
    with remote("cow-fork", ram=16 << 20) as made:
        for line in ("run to fault 4",):
            made.execute(line)
        told = {name: made.execute(f"print ${name}").data["value"] for name in ("address", "write", "user", "number")}
        assert told == {"address": 0x804A000, "write": 1, "user": 1, "number": 4}
        assert made.execute("walk $address w").lines == made.execute("walk 0x804a000 w").lines
        assert made.execute("print $task").data["value"] == made.execute("print $pid").data["value"]
        assert made.execute("break child if $address").error == "$address: no such register"
        made.execute("step")
        assert made.execute("print $address").error == "$address: no such register"


def test_no_number_is_left_out_or_given_twice() -> None:
    with remote("cow-fork", ram=16 << 20) as made:
        for line in (
            "catch fault",
            "tbreak child",
            "continue",
            "continue",
        ):
            made.execute(line)
        made.execute("reverse-continue")
        assert made.execute("break child").data["point"]["number"] == 3
        made.execute("reverse-next")
        assert made.execute("break child").data["point"]["number"] == 4


def test_what_is_missing_is_named() -> None:
    with remote("cow-fork", ram=16 << 20) as made:
        for line in ("break child",):
            made.execute(line)
        assert "number of a point, and how many" in made.execute("ignore").error
        assert "how many hits" in made.execute("ignore 1").error
        for word in ("enable", "disable", "condition"):
            assert "the number of a point is missing" in made.execute(word).error


@pytest.mark.parametrize(
    ("name", "there", "not_there"),
    [("cow-fork", "syscall [NAME]", "trap [VECTOR]"), ("rom-card-dma", "trap [VECTOR]", "syscall")],
)
def test_help_lists_the_events_of_the_target(name: str, there: str, not_there: str) -> None:
    """Each that it lists is taken, and that of another kind of target is refused with where the list is."""
    with remote(name) as made:
        lines = made.execute("help catch").lines
        words = {
            each
            for line in lines[2:]
            for each in re.match(r"  ((?:[a-z0-9-]+(?:, |,$)?)*)", line)[1].rstrip(",").split(", ")
        }
        words.discard("")
        assert len(words) > 8
        assert any(there in line for line in lines) and not any(not_there in line for line in lines)
        assert made.execute(f"catch {not_there.split()[0]}").error.endswith("; help catch lists all")
        assert all(not made.execute(f"catch {word}").error for word in words)


def test_a_fault_that_is_behind_or_never_comes() -> None:
    """cow-fork has six, as ``run --trace faults`` numbers them."""
    with remote("cow-fork") as made:
        made.execute("run to fault 4")
        error = made.execute("run to fault 2").error
        assert error == "fault 2: there were 4 so far; goto fault 2 leads back"
        assert made.execute("when").lines == ["71391:08048140"], "where it stood"
        assert made.execute("run to fault 100").lines[-1] == "there is no fault 100: the run had 6"
