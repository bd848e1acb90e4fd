"""``backtrace``: who called."""

from __future__ import annotations

from sandbox.debug.commands import command
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.unwind import Frame, frames

_HOW = {"stack": "  (a guess: it looks like a return address)"}


@command(
    "backtrace", "who called: by call frame information, by EBP, or by what looks like a return address", "looking"
)
def backtrace(debugger: Debugger, text: str) -> Answer:
    target = debugger.target
    found = list(frames(target, target.frame_info()))
    lines = [_line(debugger, number, each) for number, each in enumerate(found)]
    return Answer(lines, {"frames": [each.address for each in found], "found_by": [each.by for each in found]})


def _line(debugger: Debugger, number: int, frame: Frame) -> str:
    target = debugger.target
    line = target.source_at(frame.address - (number > 0))
    where = "" if line is None else f"  {line.place()}"
    return f"#{number:<3} {frame.address:08x} {target.name_of(frame.address)}{where}".rstrip() + _HOW.get(frame.by, "")
