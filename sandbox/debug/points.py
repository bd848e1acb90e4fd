"""Breakpoints, watchpoints and catchpoints: what they are called, when they count, how often they did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.debug.expression import Scope, evaluate
from sandbox.debug.target import Refused
from sandbox.records import dataclass, field

ONLY = "1 && "
"""How the conditions of gdb's own points begin."""


@dataclass(slots=True)
class Point:
    """One of them.  ``what`` is the word of its kind, ``text`` what was asked for, as it was typed."""

    number: int
    what: str
    text: str
    address: int | None = None
    """Linear, for a breakpoint."""
    condition: str = ""
    ignore: int = 0
    """So many hits do not count any more."""
    hits: int = 0
    temporary: bool = False
    enabled: bool = True
    argument: Any = None
    """What its kind needs besides."""

    @property
    def watches(self) -> bool:
        """It is one for ``watching``: a watch, or the catch of CR3 loads."""
        return self.what != "break" and self.argument is not None and not isinstance(self.argument, str)

    def admits(self, scope: Scope) -> bool:
        """Count a hit: the guest stops for it, or not.  A condition that cannot be evaluated stops, as gdb's do."""
        if not self.enabled or not self._holds(scope):
            return False
        self.hits += 1
        if self.ignore:
            self.ignore -= 1
            return False
        return True

    def _holds(self, scope: Scope) -> bool:
        if not self.condition:
            return True
        try:
            return bool(evaluate(self.condition, scope))
        except Refused:
            return True

    def line(self) -> str:
        """One line of ``info points``."""
        place = "" if self.address is None else f" at {self.address:08x}"
        told = f"{self.number:>3}  {self.what} {self.text}{place}"
        told += f" if {self.condition}" if self.condition else ""
        marks = [f"{self.hits} hits" if self.hits != 1 else "1 hit"]
        marks += ["temporary"] * self.temporary + ["disabled"] * (not self.enabled)
        marks += [f"the next {self.ignore} ignored"] if self.ignore else []
        return f"{told}  ({', '.join(marks)})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("number", "what", "text", "address", "condition", "ignore", "hits", "temporary", "enabled")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Points:
    """All of them, by number from 1."""

    all: dict[int, Point] = field(default_factory=dict)
    last: int = 0
    """The number that was given last; none is given twice."""

    def __iter__(self) -> Iterator[Point]:
        return iter(list(self.all.values()))

    def add(self, what: str, text: str, **rest: Any) -> Point:
        """A new one."""
        self.last += 1
        made = self.all[self.last] = Point(self.last, what, text, **rest)
        return made

    def put(self, point: Point) -> None:
        """One that has its number already."""
        self.all[point.number] = point
        self.last = max(self.last, point.number)

    def at(self, address: int) -> list[Point]:
        """The breakpoints at a linear address."""
        return [each for each in self.all.values() if each.address == address and each.what == "break"]

    def of(self, what: str) -> list[Point]:
        """All of a kind that are not disabled."""
        return [each for each in self.all.values() if each.what == what and each.enabled]

    def numbered(self, text: str) -> Point:
        """The one with a number, given as text.  Raises Refused."""
        if not text:
            raise Refused("the number of a point is missing: info points")
        found = self.all.get(int(text)) if text.isascii() and text.isdecimal() and len(text) < 9 else None
        if found is None:
            raise Refused(f"no point {text}")
        return found

    def remove(self, point: Point) -> None:
        """Forget one; its number is not given again."""
        self.all.pop(point.number, None)

    def addresses(self) -> set[int]:
        """Where breakpoints are, linear."""
        return {
            each.address
            for each in self.all.values()
            if each.address is not None and each.enabled and each.what == "break"
        }


def field_of(fields: Mapping[str, Any], name: str) -> int | None:
    """A field that is a number; ``access``, of what has a ``write``, is the letter that ``walk`` takes: r, w or x."""
    if name == "access" and "write" in fields:
        return ord("x" if fields.get("fetch") else "w" if fields["write"] else "r")
    found = fields.get(name)
    return int(found) if isinstance(found, int) else None


class WithFields:
    """A scope in which the fields of an event are registers: ``$address``, ``$error_code``, ``$pid``."""

    def __init__(self, scope: Scope, fields: Mapping[str, Any]) -> None:
        self._scope, self._fields = scope, fields

    def register(self, name: str) -> int | None:
        found = field_of(self._fields, name)
        return self._scope.register(name) if found is None else found

    def symbol(self, name: str) -> int | None:
        return self._scope.symbol(name)

    def memory(self, linear: int, size: int) -> bytes:
        return self._scope.memory(linear, size)


class AtStop(WithFields):
    """A scope in which what a stop has told of is there besides the registers; these come first."""

    def register(self, name: str) -> int | None:
        found = self._scope.register(name)
        return field_of(self._fields, name) if found is None else found
