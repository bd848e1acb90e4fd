"""The debugger: stops where asked, shows the truth, and looking changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from sandbox.debug.debugger import Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.view import stop_lines
from sandbox.kernel.base.events import PageFault, SystemCall
from sandbox.machine.events import Event
from sandbox.runner.result import Result
from sandbox.runner.run import Session
from tests.conftest import MakeSession
from tests.debug.machines import LOOKS as MORE

TEXT = """
_start: mov eax, 1
        mov ebx, 2
second: mov dword ptr [page], 7
third:  mov ecx, 3
again:  dec ecx
        jnz again
        call leaf
        pass
leaf:   ret
        .data
value:  .ascii "hello, memory"
        .bss
        .balign 4096
page:   .skip 4096
"""


def debug(session: Session, commands: Iterable[str]) -> tuple[Result | None, list[str]]:
    """What a run came to, None when it was left before its end, and all that was told."""
    target = KernelTarget("t", session)
    debugger = Debugger(target)
    told = stop_lines(target, debugger.begin())
    for line in commands:
        answer = debugger.execute(line)
        told += answer.lines + ([f"error: {answer.error}"] if answer.error else [])
        if answer.leaves:
            break
    target.close()
    return target.result, told


def stops(told: list[str]) -> list[str]:
    return [line for line in told if line.startswith("->")]


LOOKS = (
    "regs", "code", "code _start 20", "x page 32", "x $esp", "x value 13", "x 0xC0000000 64", "x 0xFFFFFFF0 64",
    "walk page w",
    "x/4xw page", "x/2dh $esp", "xp/4xw 0x100000", "xp 0xfffff000 64", "x/s value", "x/3i _start",
    "print $eip + 4 * 2",
    "print *value", "print $cr3 & ~0xfff", "backtrace", "info points", "info cpus", "when", "task", "cpu",
    "cpu 0", "task 3",
    "walk value r as supervisor", "walk value", "walk _start x", "walk 0xC0100000", "walk 0xFFFFFFFF", "maps",
    "tasks", "help", "x 0", "code 0",
    "nonsense", "walk", "x", "break", "code page",
    *MORE,
)  # fmt: skip


@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize("where", ["_start", "third", "leaf"])
def test_looking_changes_nothing(session: MakeSession, paging: str, where: str) -> None:
    """All of RAM (so every A and D bit) and every byte of the CPUs' states, before and after each look."""
    made = session(TEXT, paging=paging, ram=8 << 20)
    kernel = made.kernel

    def state() -> tuple[object, ...]:
        cpus = tuple(bytes(cpu.vcpu.context.data) for cpu in kernel.cpus)
        return bytes(kernel.memory.bytes), cpus, kernel.clock.now, kernel.pgdat.free_frames, kernel.tlb.counters

    differences: list[str] = []

    def commands():
        if where != "_start":
            yield f"break {where}"
            yield "continue"
        before = state()
        for line in LOOKS:
            yield line
            if state() != before:
                differences.append(line)
        yield "continue"

    result, _ = debug(made, commands())
    assert differences == []
    assert result is not None
    assert result.passed


def test_looking_leaves_the_run_as_it_was(session: MakeSession) -> None:
    """Events, times and all, are those of a run without a debugger: so the TLB is the same too."""

    def record(made: Session) -> list[Event]:
        seen: list[Event] = []
        made.kernel.bus.subscribe(seen.append, PageFault, SystemCall)
        return seen

    plain = session(TEXT)
    wanted = record(plain)
    blocks = plain.finish().summary.blocks
    looked = session(TEXT)
    got = record(looked)
    result, _ = debug(looked, ["break third", *LOOKS, "continue", *LOOKS, "continue"])
    assert result is not None
    assert got == wanted
    assert result.summary.blocks == blocks


def test_stepping_leaves_the_run_as_it_was(session: MakeSession) -> None:
    plain = session(TEXT)
    blocks = plain.finish().summary.blocks
    result, told = debug(session(TEXT), ["step"] * 200)
    assert result is not None
    assert result.passed
    assert result.summary.blocks == blocks
    assert len(stops(told)) == 15


def test_first_stop_is_the_first_instruction(session: MakeSession) -> None:
    result, told = debug(session(TEXT), ["regs", "quit"])
    assert result is None
    assert "<_start>" in stops(told)[0]
    assert "eax 00000000" in "\n".join(told)


def test_steps_are_instructions(session: MakeSession) -> None:
    _, told = debug(session(TEXT), ["step", "step", "step", "step 3", "regs", "quit"])
    assert ["mov" in line or "dec" in line or "jnz" in line or "jne" in line for line in stops(told)] == [True] * 5
    assert "<second>" in stops(told)[2]
    assert "<third>" in stops(told)[3], "an instruction that faults on the way is one step"
    assert "ecx 00000002" in "\n".join(told)


def test_breakpoints(session: MakeSession) -> None:
    result, told = debug(session(TEXT), ["break again", "continue", "continue", "continue", "delete again", "continue"])
    assert sum("<again>" in line for line in stops(told)) == 3
    assert result is not None
    assert result.passed


def test_breakpoint_on_a_page_not_there_yet(session: MakeSession) -> None:
    text = "_start: call far_away\n pass\n .fill 8192, 1, 0x90\nfar_away: ret"
    _, told = debug(session(text), ["break far_away", "continue", "quit"])
    assert "<far_away>" in stops(told)[-1]


def test_catch_shows_the_fault_before_its_answer(session: MakeSession) -> None:
    _, told = debug(session(TEXT), ["break second", "continue", "catch", "continue", "walk page w", "continue", "quit"])
    text = "\n".join(told)
    assert re.search(r"page fault \d+ at 0804a000", text)
    assert "not present" in text
    assert "answered: demand-zero" in text


def test_memory_and_places(session: MakeSession) -> None:
    _, told = debug(
        session(TEXT), ["break third", "continue", "x value 13", "x value+7 6", "x 0x10 4", "x page 4", "quit"]
    )
    text = "\n".join(told)
    assert "(not mapped)" in text
    assert "07 00 00 00" in text


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "step x", "step 0", "step -3", "x", "x nowhere", "x $esp many", "x $esp -5", "x $esp 0",
        "break",
        "delete 5", "walk", "walk nowhere", "code nowhere", "code $eip -4", "code $eip 0", "x 99999999999",
        "walk -1",
        "x 0xFFFFFFFFFFFFFFFF 4", "break 0x123456789", "code $eip 100000", "regs regs", "catch what",
    ],
)  # fmt: skip
def test_bad_commands_are_answered(session: MakeSession, line: str) -> None:
    """Whatever is typed: an answer, and the machine still runs to its end."""
    result, told = debug(session(TEXT), [line, "continue"])
    assert result is not None
    assert result.passed
    assert len(told) < 120_000


@pytest.mark.parametrize("line", ["step 0", "step -1", "catch what", "x", "nonsense", "delete 5"])
def test_impossible_commands_are_errors(session: MakeSession, line: str) -> None:
    _, told = debug(session(TEXT), [line, "quit"])
    assert told[-1].startswith("error: ")


def test_end_of_commands_is_quit(session: MakeSession) -> None:
    assert debug(session(TEXT), [])[0] is None


def test_two_tasks(session: MakeSession) -> None:
    text = "_start: fork_to child\n expect_exit 3, 1\n pass\nchild: nop\nhere: sys exit, 3"
    result, told = debug(session(text), ["break here", "continue", "tasks", "maps", "regs", "continue"])
    assert result is not None
    assert result.passed
    assert any("task 4" in line for line in told)
