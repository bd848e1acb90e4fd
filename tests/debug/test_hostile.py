"""Wrong input: every command with missing, absurd and hostile arguments gives one clear line and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.debug.catches import BESIDE, CATCHES
from sandbox.debug.commands import COMMANDS
from sandbox.debug.commands.info import TOPICS
from sandbox.debug.travel import NOTHING_BEFORE
from tests.debug.machines import KINDS, NAMES, everything, stopped

HOSTILE = (
    "", "nonsense", "-1", "0", "99999999999999999999", "0x", "0xffffffffffffffff", "0x123456789", "1 2 3 4", "$nope",
    "$", "*0", "*", "(", ")", "(" * 2000, "-" * 2000 + "1", "1/0", "1 %", "%s%n%x", "\x00", "\x1b[2J", "é日本", "٣",
    "1e9", "nan", "'; quit", "<", "<_start", "<nowhere+0x", "x" * 5000, "1" * 5000, "fault", "fault -1", "fault 0",
    "fault 99999999", "fault x", "to", "to fault", "to fault 0", "if", "if if", "nowhere if 1", "$eip if",
    "$eip if (", "/x", "/99999999999x 0", "/zz 0", "/-1x 0", "$eip 0", "$eip -4", "$eip many", "as", "as user",
    "$eip q", "$eip r as", "$eip r as root", "$eip cr3", "$eip cr3 0x100000000", "$eip cr3 0xfffff000", "mm",
    "$eip mm 99", "$eip mm", "cr3 0 mm 3", "cr3 1 cr3 2", "file.c:1", "file.c:0", "..:1", ":", "21217:", "1:2:3", "=",
    "$eip =", "= 5", "$nope = 1", "$cr0 = 0", "0 = 0", "5 = 5", "qword 0xffffffff = 1", "line", "line 0", "line x",
    "topics topics", "gdt 5", "frame", "frame x", "frame -1", "start start", "0xffffffff 65536", "0xfffffff0 64",
)  # fmt: skip
"""What nobody means.  Some of it is right for some command: that is then no error, and not looked at here."""


def problems(text: str) -> list[str]:
    found = [] if len(text) <= 240 else [f"{len(text)} characters"]
    if not text.isprintable():
        found.append("what it says is no text")
    if any(word in text for word in ("Traceback", "object at", "Error(", "<class")):
        found.append("it speaks Python")
    return found


@pytest.mark.parametrize(("name", "changes", "commands"), KINDS, ids=NAMES)
def test_wrong_input_is_one_line_and_changes_nothing(
    name: str, changes: dict[str, Any], commands: tuple[str, ...]
) -> None:
    wrong: list[tuple[str, str, list[str]]] = []
    refused = 0
    with stopped(name, changes, commands) as made:
        before = made.call(everything)
        for command in COMMANDS:
            for argument in HOSTILE[command in RUNS_ALONE :]:
                line = f"{command} {argument}"
                answer = made.execute(line)
                if answer.error:
                    refused += 1
                    if found := problems(answer.error):
                        wrong.append((line[:60], answer.error[:200], found))
                    went = answer.stop is not None and answer.stop.moment != before[0]
                    if went and answer.error != NOTHING_BEFORE:  # so far back as there was something
                        assert answer.stop is not None
                        wrong.append((line[:60], answer.stop.moment.text(), ["it ran"]))
                if answer.stop is not None or answer.changed:
                    made.execute(f"goto {before[0].text()}" if not before[0].event else f"goto {before[0].event}")
                    before = made.call(everything)
                elif not answer.error and command in CHANGES_POINTS:
                    before = made.call(everything)
            if (after := made.call(everything)) != before:
                wrong.append((command, "changed", [str(each) for each in zip(before, after, strict=True)][:1]))
                before = after
    assert wrong == []
    assert refused > len(COMMANDS) * len(HOSTILE) // 2


RUNS_ALONE = {
    name
    for name, each in COMMANDS.items()
    if each.group in ("running", "going back") and each.usage[len(name) :].lstrip()[:1] in ("", "[")
}
"""Commands to which nothing is missing where nothing follows: that is the first of what is tried."""
CHANGES_POINTS = {name for name, each in COMMANDS.items() if each.group == "points"} | {"cpu", "task"}
"""Commands whose right arguments change what is kept beside the guest."""

SECOND_WORDS = (
    *(f"info {name}" for name in TOPICS), *(f"catch {name}" for name in (*CATCHES, *BESIDE)),
    "watch physical", "watch pte", "watch cr3", "awatch physical", "break physical", "run to fault", "goto fault",
    "goto", "next line", "who frame", "explain fault", "walk $eip as", "walk $eip cr3", "walk $eip mm", "dump cr3",
    "dump mm", "set $eax", "set byte", "set qword $esp", "break $eip if", "condition 1", "ignore 1", "help",
)  # fmt: skip
"""What goes on in a grammar of its own behind the first word."""
FEW = (
    "", "nonsense", "-1", "99999999999999999999", "0x", "$nope", "(", "1/0", "%s%n%x", "\x1b[2J", "é日本", "٣", "if",
    "if (", "x" * 5000, "1 2 3 4", "= =", "0xffffffffffffffff", "'; quit", "physical physical", "nowhere 4096",
)  # fmt: skip


@pytest.mark.parametrize("number", [0, 3], ids=[NAMES[0], NAMES[3]])
def test_wrong_second_words_are_one_line_and_change_nothing(number: int) -> None:
    """Behind each of these, too; what is no error may have made a point, which goes away again."""
    wrong: list[tuple[str, str, list[str]]] = []
    with stopped(*KINDS[number]) as made:
        made.execute("delete")
        before = made.call(everything)
        for first in SECOND_WORDS:
            for argument in FEW:
                answer = made.execute(f"{first} {argument}")
                if found := problems(answer.error):
                    wrong.append((f"{first} {argument}"[:60], answer.error[:200], found))
                if answer.stop is not None:
                    made.execute(f"goto {before[0].text()}")
                    before = made.call(everything)
                elif not answer.error:
                    made.execute("delete")
            after = made.call(everything)
            if (after[:2], after[3:]) != (before[:2], before[3:]):
                wrong.append((first, "changed", [str(after[0])]))
                before = after
    assert wrong == []
