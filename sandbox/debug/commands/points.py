"""Commands about breakpoints and catchpoints."""

from __future__ import annotations

from sandbox.debug.commands import command, split_condition
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.expression import evaluate
from sandbox.debug.points import Point
from sandbox.debug.target import Refused

_POINTS = "points"


def _told(point: Point) -> Answer:
    return Answer([point.line()], {"point": point.to_dict()})


def _checked(debugger: Debugger, condition: str) -> str:
    """A condition that can be read; what it needs may be missing now.  Raises Refused."""
    if condition:
        try:
            evaluate(condition, debugger)
        except Refused as error:
            if "mapped" not in error.summary and "register" not in error.summary:
                raise
    return condition


def _break(debugger: Debugger, text: str, temporary: bool) -> Answer:
    where, condition = split_condition(text)
    if not where:
        raise Refused("break: a place is missing")
    address = debugger.address(where)
    made = debugger.points.add(
        "break", where, address=address, condition=_checked(debugger, condition), temporary=temporary
    )
    return _told(made)


@command("break WHERE [if CONDITION]", "stop before an instruction", _POINTS)
def break_(debugger: Debugger, text: str) -> Answer:
    return _break(debugger, text, False)


@command("tbreak WHERE [if CONDITION]", "the same, once", _POINTS)
def tbreak(debugger: Debugger, text: str) -> Answer:
    return _break(debugger, text, True)


@command("catch EVENT [if CONDITION]", "stop at faults, system calls, signals, flushes …", _POINTS)
def catch(debugger: Debugger, text: str) -> Answer:
    event, condition = split_condition(text)
    word, _, argument = event.partition(" ")
    return _told(debugger.catch(word or "fault", argument.strip(), condition=_checked_event(debugger, condition)))


def _checked_event(debugger: Debugger, condition: str) -> str:
    return _checked(debugger, condition)


@command("delete [N|WHERE]", "remove one point, or all", _POINTS)
def delete(debugger: Debugger, text: str) -> Answer:
    if not text:
        for each in debugger.points:
            debugger.remove(each)
        return Answer(["no points"])
    if text.isdecimal() and len(text) < 8:
        debugger.remove(debugger.points.numbered(text))
        return Answer()
    address = debugger.address(text)
    found = debugger.points.at(address)
    if not found:
        raise Refused(f"no breakpoint at {address:08x}")
    for each in found:
        debugger.remove(each)
    return Answer()


@command("condition N [CONDITION]", "a point counts only where this holds", _POINTS)
def condition(debugger: Debugger, text: str) -> Answer:
    number, _, rest = text.partition(" ")
    point = debugger.points.numbered(number)
    point.condition = _checked(debugger, rest.strip())
    return _told(point)


@command("ignore N COUNT", "the next COUNT hits of a point do not count", _POINTS)
def ignore(debugger: Debugger, text: str) -> Answer:
    number, _, rest = text.partition(" ")
    point = debugger.points.numbered(number)
    point.ignore = debugger.number(rest, 0)
    return _told(point)


@command("enable N", "let a point count", _POINTS)
def enable(debugger: Debugger, text: str) -> Answer:
    point = debugger.points.numbered(text)
    point.enabled = True
    return _told(point)


@command("disable N", "let a point stand, but not count", _POINTS)
def disable(debugger: Debugger, text: str) -> Answer:
    point = debugger.points.numbered(text)
    point.enabled = False
    return _told(point)
