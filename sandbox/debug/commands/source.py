"""Source lines: ``list``, ``line``, ``next line``; places as FILE:LINE are known everywhere."""

from __future__ import annotations

from sandbox.debug.commands import command
from sandbox.debug.commands.running import STEPS_OUT, go_out, next_instruction, told
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.lines import Line, source
from sandbox.debug.run_control import Steps
from sandbox.debug.stops import Stop, StopKind
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
    return Answer([line.place(), *rows], _data(line, [words for _, words in shown]))


def _data(line: Line, lines: list[str]) -> dict[str, object]:
    return {"file": line.path, "line": line.number, "source": lines}


@command("line [N]", "to another source line, N times (1); into calls of code that has lines", "running")
def line(debugger: Debugger, text: str) -> Answer:
    return by_lines(debugger, text, over=False)


def by_lines(debugger: Debugger, text: str, over: bool) -> Answer:
    """``line`` and ``next line``."""
    stop = debugger.stop
    for _ in range(debugger.number(text, 1, MOST_LINES) if text else 1):
        stop = _to_another(debugger, over)
        if stop.kind is not StopKind.STEP:
            break
    assert stop is not None
    return told(debugger, stop)


def _to_another(debugger: Debugger, over: bool) -> Stop:
    """Instruction by instruction until another line begins."""
    target, flow = debugger.target, debugger.flow
    began = target.source_at(target.context.linear_eip & WRAP)
    if began is None:
        raise Refused(NO_LINE)
    for _ in range(STEPS_OUT):
        stop = next_instruction(debugger) if over else debugger.go(Steps(1, flow))
        if stop.kind is not StopKind.STEP:
            return stop
        here = target.source_at(stop.moment.eip)
        if here is None and not over and _called(debugger):
            stop = go_out(debugger)
            here = target.source_at(stop.moment.eip)
            if stop.kind is not StopKind.STEP:
                return stop
        if here is not None and here != began and target.line_begins(stop.moment.eip):
            return stop
    raise Refused(f"no other line in {STEPS_OUT} instructions")


def _called(debugger: Debugger) -> bool:
    """The instruction before was a CALL from code that has lines: what is on top of the stack leads back there."""
    target = debugger.target
    back = int.from_bytes(target.read(target.context.esp & WRAP, 4), "little")
    return target.source_at(back - 1) is not None
