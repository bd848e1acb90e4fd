"""Commands that go back: to instructions, to stops, to moments, to faults."""

from __future__ import annotations

import re
from typing import NoReturn

from sandbox.debug.back import call_sites
from sandbox.debug.commands import command
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.journey import Journey, breaks_at
from sandbox.debug.returns import return_slot
from sandbox.debug.stops import Moment
from sandbox.debug.target import WRAP, Refused
from sandbox.debug.travel import Traveller

_PAST = "going back"
_MOMENT = re.compile(r"(\d{1,18}):([0-9a-fA-F]{1,8})(?:@(\d{1,2}))?", re.ASCII)
MOST_BACK = 1_000_000


def _ready(debugger: Debugger) -> tuple[Traveller, Moment]:
    """Who goes back, and where from.  Raises Refused where nobody can."""
    if debugger.traveller is None:
        raise Refused("no checkpoints are made: there is no going back")
    if debugger.stop is None:
        raise Refused("nothing has run yet")
    return debugger.traveller, debugger.stop.moment


def _steps(debugger: Debugger, text: str, over: bool = False) -> NoReturn:
    traveller, here = _ready(debugger)
    count = debugger.number(text, 1, MOST_BACK) if text else 1
    traveller.leave(Journey(here, debugger.snapshot(), "step", count, debugger.flow_back, over))


@command("reverse-step [N]", "back by N instructions of this flow of control (1)", _PAST)
def reverse_step(debugger: Debugger, text: str) -> Answer:
    _steps(debugger, text)


@command("reverse-next [N]", "the same, over calls", _PAST)
def reverse_next(debugger: Debugger, text: str) -> Answer:
    _steps(debugger, text, over=True)


@command("reverse-continue", "back to the last stop before this: a breakpoint, a catch", _PAST)
def reverse_continue(debugger: Debugger, text: str) -> Answer:
    traveller, here = _ready(debugger)
    traveller.leave(Journey(here, debugger.snapshot(), "hit"))


@command("reverse-finish", "back to the call of this function", _PAST)
def reverse_finish(debugger: Debugger, text: str) -> Answer:
    traveller, here = _ready(debugger)
    target = debugger.target
    name = target.name_of(target.context.linear_eip & WRAP).split(" ")[0]
    function = name.partition("+")[0].partition(".cold")[0]
    start, slot = target.address_of(function) if function else None, return_slot(target)
    if start is None and slot is None:
        raise Refused("nobody knows where this function begins: no symbol")
    if start is not None and "+" not in name:
        _steps(debugger, "")
    if start is not None:
        esp = f"$esp == {slot:#x}" if slot is not None else f"$esp >= {target.context.esp & WRAP:#x}"
        places = [start]
    else:
        assert slot is not None
        esp, places = f"$esp == {slot + 4:#x}", call_sites(target, int.from_bytes(target.read(slot, 4), "little"))
    seek = breaks_at(places, f"{esp} && $pid == {target.pid_on(target.cpu)}")
    traveller.leave(Journey(here, debugger.snapshot(), "hit", seek=seek))


@command("goto MOMENT|fault N|start", "to a moment as stops print it, to a page fault, to the beginning", _PAST)
def goto(debugger: Debugger, text: str) -> Answer:
    traveller, here = _ready(debugger)
    if text == "start":
        traveller.leave(Journey(Moment(0, 0, 0), debugger.snapshot()))
    if text.startswith("fault "):
        traveller.leave_for_fault(Journey(here, debugger.snapshot(), count=debugger.number(text[6:], 1)))
    stood = debugger.bookmarks.get(text) or debugger.places.get(text)
    if stood is not None:
        traveller.leave(Journey(stood, debugger.snapshot(), back=here))
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise Refused(f"goto {text or 'what'}: a moment (21217:080480b4), fault N, start, or a bookmark")
    where = Moment(int(found[1]), int(found[3] or 0), int(found[2], 16))
    traveller.leave(Journey(where, debugger.snapshot(), back=here))


@command("bookmark [NAME]", "give this moment a name for goto; alone, all that have one", _PAST)
def bookmark(debugger: Debugger, text: str) -> Answer:
    _, here = _ready(debugger)
    if text:
        debugger.bookmarks[text] = here
    told = {name: moment.text() for name, moment in debugger.bookmarks.items()}
    return Answer([f"{name}  {moment}" for name, moment in told.items()], {"bookmarks": told})
