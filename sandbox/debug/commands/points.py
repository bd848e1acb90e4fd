"""Commands about breakpoints and catchpoints."""

from __future__ import annotations

from collections.abc import Collection

from sandbox.debug.catches import FAULT, fields_of
from sandbox.debug.commands import command, split_condition
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.expression import evaluate
from sandbox.debug.points import Point, WithFields
from sandbox.debug.target import Refused
from sandbox.debug.touches import FIELDS
from sandbox.debug.watching import PHYSICAL, Wanted
from sandbox.engine.watchcode import MOST_BREAKS
from sandbox.machine.memory import PHYSICAL_LIMIT

_POINTS = "points"


def told(point: Point) -> Answer:
    """A point as an answer."""
    return Answer([point.line()], {"point": point.to_dict()})


def checked(debugger: Debugger, condition: str, fields: Collection[str] = ()) -> str:
    """A condition that can be read; what it needs of memory may be missing now, ``fields`` come.  Raises Refused."""
    if condition:
        try:
            evaluate(condition, WithFields(debugger, dict.fromkeys(fields, 1)))
        except Refused as error:
            if "mapped" not in error.summary and "division" not in error.summary:
                known = f"; this tells ${', $'.join(sorted(fields))}" if fields and "register" in error.summary else ""
                raise Refused(error.summary + known) from None
    return condition


def _break(debugger: Debugger, text: str, temporary: bool) -> Answer:
    where, condition = split_condition(text)
    if not where:
        raise Refused("break: a place is missing")
    kind, _, rest = where.partition(" ")
    wanted = _at_physical(debugger, rest) if kind == "physical" else None
    address = debugger.address(where) if wanted is None else None
    condition = checked(debugger, condition)
    return told(
        debugger.points.add("break", where, address=address, argument=wanted, condition=condition, temporary=temporary)
    )


def _at_physical(debugger: Debugger, text: str) -> Wanted:
    """Raises Refused."""
    if not text.strip():
        raise Refused("break physical: an address is missing")
    wanted = Wanted(PHYSICAL, debugger.number(text, 0, PHYSICAL_LIMIT - 1))
    places = {each.argument.first for each in debugger.points if each.what == "break" and each.argument is not None}
    if len(places | {wanted.first}) > MOST_BREAKS:
        raise Refused(f"at most {MOST_BREAKS} breakpoints can be at physical addresses")
    return wanted


@command("break WHERE|physical ADDRESS [if CONDITION]", "stop before an instruction", _POINTS)
def break_(debugger: Debugger, text: str) -> Answer:
    return _break(debugger, text, False)


@command("tbreak WHERE|physical ADDRESS [if CONDITION]", "the same, once", _POINTS)
def tbreak(debugger: Debugger, text: str) -> Answer:
    return _break(debugger, text, True)


@command("tcatch EVENT [if CONDITION]", "catch, once", _POINTS)
def tcatch(debugger: Debugger, text: str) -> Answer:
    return _catch(debugger, text, True)


@command("catch EVENT [if CONDITION]", "stop at faults, system calls, signals, flushes …", _POINTS)
def catch(debugger: Debugger, text: str) -> Answer:
    return _catch(debugger, text, False)


def _catch(debugger: Debugger, text: str, temporary: bool) -> Answer:
    event, condition = split_condition(text)
    word, _, argument = event.partition(" ")
    fields = fields_of(word or FAULT, debugger.target.kind)
    condition = checked(debugger, condition, fields)
    return told(debugger.catch(word or "fault", argument.strip(), condition=condition, temporary=temporary))


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


def _fields_at(debugger: Debugger, point: Point) -> Collection[str]:
    if point.what == "catch":
        return fields_of(point.text.split()[0], debugger.target.kind)
    return FIELDS if point.watches else ()


@command("condition N [CONDITION]", "a point counts only where this holds", _POINTS)
def condition(debugger: Debugger, text: str) -> Answer:
    number, _, rest = text.partition(" ")
    point = debugger.points.numbered(number)
    point.condition = checked(debugger, rest.strip(), _fields_at(debugger, point))
    return told(point)


@command("ignore N COUNT", "the next COUNT hits of a point do not count", _POINTS)
def ignore(debugger: Debugger, text: str) -> Answer:
    number, _, rest = text.partition(" ")
    if not rest.strip():
        raise Refused(f"ignore: {'how many hits' if number else 'the number of a point, and how many hits'}?")
    point = debugger.points.numbered(number)
    point.ignore = debugger.number(rest, 0)
    return told(point)


@command("enable N", "let a point count", _POINTS)
def enable(debugger: Debugger, text: str) -> Answer:
    point = debugger.points.numbered(text)
    point.enabled = True
    return told(point)


@command("disable N", "let a point stand, but not count", _POINTS)
def disable(debugger: Debugger, text: str) -> Answer:
    point = debugger.points.numbered(text)
    point.enabled = False
    return told(point)
