"""Watches on a whole machine: who touched memory, by which mapping, what was there and what is there now."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest

from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.open import open_target
from sandbox.debug.stops import StopKind
from sandbox.engine import stubs
from sandbox.kernel.base.events import PageFault, SystemCall
from sandbox.machine.events import Event
from sandbox.runner.rom import rom_config
from sandbox.runner.run import Session
from sandbox.runner.target import resolve
from sandbox.x86.paging import A, D
from tests.conftest import MakeSession
from tests.debug.machines import to_the_end
from tests.debug.test_travel import remote

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="watchpoints are x86-64 Linux code")
WORD = 0x804A000
"""Where the two processes of cow-fork store 7, 8 and 9 (its source)."""
DIRECTORY, TABLE, FRAMES, WINDOW = 0x200000, 0x201000, 0x300000, 0x40000000
"""Of the image rom-accessed-dirty, by its source."""
EDGE = """
_start: mov dword ptr [page], 1
        mov dword ptr [page + 4096], 2
        mov dword ptr [page + 4094], 0x44332211
        mov eax, [page + 4095]
        rep_here: mov ecx, 3
        mov edi, offset page + 8
        mov eax, 5
        cld
        rep stosd
        add dword ptr [page], 4
        pass
        .bss
        .balign 4096
page:   .skip 8192
"""


def run(session: Session, commands: Iterable[str]) -> tuple[KernelTarget, list[Answer]]:
    """Answers of commands, each of which must be allowed; the target is closed."""
    target = KernelTarget("t", session)
    debugger = Debugger(target)
    debugger.begin()
    answers = [debugger.execute(line) for line in commands]
    target.close()
    assert [each.error for each in answers if each.error] == []
    return target, answers


def image(name: str, commands: Iterable[str], **changes: Any) -> list[Answer]:
    """The same of an image; commands after its end are left out."""
    chosen = resolve(f"images/{name}")
    config = rom_config(chosen, **changes) if chosen.kind == "rom" else chosen.config(**changes)
    config.time_limit = 0
    target = open_target(chosen, config)
    debugger, answers = Debugger(target), []
    debugger.begin()
    for line in commands:
        if target.result is None:
            answers.append(debugger.execute(line))
    target.close()
    assert [each.error for each in answers if each.error] == []
    return answers


def touched(answers: list[Answer]) -> list[dict[str, Any]]:
    """What each watch has stopped for."""
    return [each.stop.details for each in answers if each.stop is not None and each.stop.kind is StopKind.WATCHPOINT]


def changes(answers: list[Answer]) -> list[tuple[int, int]]:
    return [(each["old"], each["new"]) for each in touched(answers)]


def one_line(answer: Answer) -> str:
    """All but the instruction, unfolded."""
    return re.sub(r"\s+", " ", " ".join(answer.lines[:-1]))


def test_a_linear_watch_says_who_where_and_what() -> None:
    answers = image("cow-fork", [f"watch {WORD:#x}", "c", "c", "c", "c"])
    assert changes(answers) == [(0, 7), (7, 8), (7, 9)]
    assert [each.stop.pid for each in answers[1:4] if each.stop is not None] == [3, 4, 3]
    told = touched(answers)
    assert [re.sub(r"\+.*", "", each["symbol"]) for each in told] == ["_start", "child", "_start"]
    assert all(each["linear"] == WORD and each["size"] == 4 and each["write"] for each in told)
    assert told[0]["physical"] != told[1]["physical"], "the child's copy"
    assert re.match(
        r"watchpoint 1: write of 4 bytes at 0804a000 \(physical 0x\w+\) by 080480b4 <_start>: 00000000 -> 00000007 "
        r"task 3",
        one_line(answers[1]),
    )


def test_the_frame_behind_is_seen_by_the_kernels_routines_too() -> None:
    """The child's load is at a breakpoint; its store makes the kernel copy the page."""
    answers = image("cow-fork", ["break child", "c", f"rwatch {WORD:#x}", "c", "c"])
    told = touched(answers)
    assert [each["symbol"].partition("+")[0] for each in told] == ["child", "copy_page"]
    assert told[1]["eip"] >= 0xC0000000 and not told[1]["write"]


def test_another_mapping_of_the_frame() -> None:
    """The ROM's window maps the frame that its identity mapping maps too."""
    answers = image("rom-accessed-dirty", [f"awatch {FRAMES:#x} 8", "c", "c", "c"])
    told = touched(answers)[:2]
    assert [(each["linear"], each["physical"], each["write"]) for each in told] == [
        (WINDOW, FRAMES, 0), (WINDOW + 4, FRAMES + 4, 1)
    ]  # fmt: skip


def test_a_watch_follows_when_its_page_gets_a_frame(session: MakeSession) -> None:
    """There is none at first; clearing the new one comes before it is mapped, a system call stores by the kernel."""
    text = """
_start: sys pipe, "offset ends"
        mov dword ptr [page], 3
        sys write, [ends + 4], "offset _start", 4
        sys read, [ends], "offset page", 4
        pass
        .data
ends:   .long 0, 0
        .bss
        .balign 4096
page:   .skip 4096
"""
    _, answers = run(session(text), ["watch page", "continue", "continue", "continue"])
    assert changes(answers)[0] == (0, 3)
    kernels = touched(answers)[1:]
    assert kernels and all(each["eip"] >= 0xC0000000 for each in kernels)


def test_dma_is_seen() -> None:
    """The card's pattern goes up to the 64 KB boundary (the ROM's source)."""
    answers = image("rom-card-dma", ["watch physical 0x30fffc", "c", "c"])
    (told,) = touched(answers)
    assert (told["by"], told["new"], told["dma"], told["eip"]) == ("dma", 0x90C302B0, 1, None)
    assert "by a device" in one_line(answers[1])
    assert not touched(image("rom-card-dma", ["watch physical 0x30fffc if !$dma", "c"]))


def test_accesses_over_the_edge_of_a_page(session: MakeSession, paging: str) -> None:
    commands = ["awatch page+4096 1", "continue", "continue", "continue"]
    _, answers = run(session(EDGE, paging=paging), commands)
    told = [(each["linear"] % 4096, each["size"], each["write"], each["old"]) for each in touched(answers)]
    assert told == [(0, 4, 1, 0), (4094, 4, 1, 0x20000), (4095, 4, 0, 0x443322)]


def test_the_second_frame_of_an_access_over_the_edge(session: MakeSession) -> None:
    made = session(EDGE)
    target = KernelTarget("t", made)
    debugger = Debugger(target)
    debugger.begin()
    debugger.execute("step 2")
    behind = target.translate(target.address_of("page") + 4096)  # type: ignore[operator]
    debugger.execute(f"watch physical {behind:#x} 1")
    answer = debugger.execute("continue")
    target.close()
    assert answer.stop is not None and answer.stop.kind is StopKind.WATCHPOINT
    assert (answer.stop.details["linear"] % 4096, answer.stop.details["new"]) == (4094, 0x44332211)


def test_each_iteration_of_rep_and_both_halves_of_a_change(session: MakeSession) -> None:
    _, answers = run(session(EDGE), ["awatch page+12 8", "watch page if $old == 1", *["continue"] * 4])
    told = touched(answers)
    assert [(each["linear"] % 4096, each["new"]) for each in told] == [(12, 5), (16, 5), (0, 5)]
    assert told[2]["accesses"] == [f"write of 4 bytes at {told[2]['linear']:08x}: 00000001 -> 00000005"]


def test_entries_of_page_tables_by_the_walker_and_by_stores() -> None:
    """As the ROM's source has it: a load sets A, a store D, software clears both, a load sets A again."""
    answers = image("rom-accessed-dirty", [f"watch pte {WINDOW:#x}", *["c"] * 5])
    full = FRAMES | 3
    read, written = full | A, full | A | D
    assert changes(answers) == [(full, read), (read, written), (written, full), (full, read)]
    assert [each["kind"] for each in touched(answers)] == ["walk", "walk", "access", "walk"]
    assert [each["level"] for each in touched(answers)] == ["PTE"] * 4


def test_entries_that_the_kernels_python_stores(paging: str) -> None:
    """Copy-on-write takes W (bit 1) away, and gives it back to the last user (SDM 3A, 4.3)."""
    answers = image("cow-fork", [f"watch pte {WORD:#x} if $new & 1", *["c"] * 5], paging=paging)
    told = touched(answers)
    assert all(each["by"] == "table" and each["linear"] == WORD for each in told)
    assert [each["new"] & 2 for each in told][-2:] == [0, 2]


def test_loads_of_cr3() -> None:
    """Each switch to another address space, and each flush by a reload; the ROM's only one."""
    (told,) = touched(image("rom-accessed-dirty", ["watch cr3", "c", "c"]))
    assert (told["old"], told["new"], told["eip"]) == (0, DIRECTORY, 0x10019E)
    for word in ("watch", "catch"):
        answers = image("cow-fork", [f"{word} cr3 if $old != $new", *["c"] * 4])
        told_all = touched(answers)
        assert told_all and all(each["symbol"].startswith("load_cr3") for each in told_all)
        assert {old for old, _ in changes(answers)[1:]} <= {new for _, new in changes(answers)}


def test_conditions_ignore_temporary_and_disabled() -> None:
    assert changes(image("cow-fork", [f"watch {WORD:#x} if $pid == 4", "c", "c"])) == [(7, 8)]
    assert changes(image("cow-fork", [f"watch {WORD:#x} if $new == 9 && $old < 8", "c", "c"])) == [(7, 9)]
    assert changes(image("cow-fork", [f"watch {WORD:#x}", "ignore 1 2", "c", "c"])) == [(7, 9)]
    answers = image("cow-fork", [f"twatch {WORD:#x}", "c", "info points", "c"])
    assert changes(answers) == [(0, 7)] and answers[2].lines == ["no points"]
    answers = image("cow-fork", [f"watch {WORD:#x}", "c", "disable 1", "info points", "c"])
    assert changes(answers) == [(0, 7)]
    assert answers[3].lines == ["  1  watch 0x804a000 at 0804a000  (1 hit, disabled)"]
    assert changes(image("cow-fork", [f"watch {WORD:#x}", "disable 1", "enable 1", "c"])) == [(0, 7)]
    assert changes(image("cow-fork", [f"watch {WORD:#x}", "delete 1", "c"])) == []


@pytest.mark.parametrize(
    "words",
    [f"awatch {WORD:#x}", f"watch pte {WORD:#x}", "watch cr3", "awatch physical 0x100a000 64", "catch mode ring"],
)
def test_watching_leaves_the_run_as_it_was(words: str) -> None:
    """Events with their times, and the end's, are those of a run without."""

    def record(*commands: str) -> list[Event]:
        chosen, seen = resolve("images/cow-fork"), list[Event]()
        config = chosen.config(cpus=2, seed=5)
        config.time_limit = 0
        target = open_target(chosen, config)
        target.machine.bus.subscribe(seen.append, PageFault, SystemCall)
        to_the_end(target, *commands)
        target.close()
        assert target.result is not None and target.result.passed
        return seen

    assert record(words) == record()


def test_back_to_each_hit() -> None:
    """Of stores by instructions and by the kernel's tables, forwards and the same ones backwards."""
    with remote("cow-fork") as made:
        made.execute(f"watch {WORD:#x}")
        made.execute(f"watch pte {WORD:#x} if $new & 1")
        forwards = []
        while not (answer := made.execute("continue")).stop.ended:  # type: ignore[union-attr]
            forwards.append(one_line(answer))
        assert len(forwards) >= 6
        backwards = [one_line(made.execute("reverse-continue")) for _ in forwards]
        assert backwards == forwards[::-1]
        assert one_line(made.execute("reverse-continue")).startswith("the beginning")
        assert one_line(made.execute("continue")) == forwards[0], "the watches are still there"


def test_a_step_that_touches_says_so_and_counts() -> None:
    answers = image("cow-fork", [f"watch {WORD:#x}", "step", "step 2", "when"])
    assert changes(answers) == [(0, 7)]
    assert answers[2].stop is not None and answers[2].stop.kind is StopKind.STEP


def test_what_a_person_sets_is_no_hit(session: MakeSession) -> None:
    commands = ["step", "watch page", "watch physical 0x100a000 4096", "set dword page = 99", "print *page", "step"]
    _, answers = run(session(EDGE), commands)
    assert answers[4].data["value"] == 99
    assert not touched(answers)


def test_with_the_shadow_tlb_the_reports_are_the_same() -> None:
    """Both look at Python's stores into tables."""

    def reports(*commands: str) -> list[str]:
        chosen = resolve("images/mprotect-flush")
        config = chosen.config(switches=frozenset({"no-flush"}), sanitize=frozenset({"tlb"}))
        config.time_limit = 0
        target = open_target(chosen, config)
        to_the_end(target, *commands)
        found = [str(each) for each in target.reports()]
        target.close()
        return found

    assert reports("watch pte $esp") == reports() != []
