"""Source lines: ``list``, ``line``, ``next line``; places as FILE:LINE are known everywhere."""

from __future__ import annotations

from sandbox.debug import legs
from sandbox.debug.commands import command
from sandbox.debug.commands.running import told
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.lines import Line, source
from sandbox.debug.target import WRAP, Refused

AROUND = 5
NO_LINE = "no source line is known here: compile with -g"
MOST_LINES = 100_000


@command("list [WHERE]", "the source around a place", "looking")
def list_(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    at = debugger.address(text) if text else target.context.linear_eip & WRAP
    line = target.source_at(at)
    if line is None:
        raise Refused(NO_LINE if not text else f"no source line is known of {at:08x}")
    lines = source(line.path)
    if not lines:
        return Answer([f"{line.place()}  ({line.path} is not on this host)"], _data(line, []))
    first = max(1, line.number - AROUND)
    shown = list(enumerate(lines[first - 1 : line.number + AROUND], first))
    rows = [f"{'->' if number == line.number else '  '} {number:>5}  {words}" for number, words in shown]
    return Answer([line.place(), *rows], _data(line, [words for _, words in shown]), verbatim=True)


def _data(line: Line, lines: list[str]) -> dict[str, object]:
    return {"file": line.path, "line": line.number, "source": lines}


@command("line [N]", "to another source line, N times (1); into calls of code that has lines", "running")
def line(debugger: Debugger, text: str) -> Answer:
    return by_lines(debugger, text, over=False)


def by_lines(debugger: Debugger, text: str, over: bool) -> Answer:
    """``line`` and ``next line``."""
    count = debugger.number(text, 1, MOST_LINES) if text else 1
    if debugger.target.source_at(debugger.target.context.linear_eip & WRAP) is None:
        raise Refused(NO_LINE)
    return told(debugger, legs.lines(debugger, count, over))
