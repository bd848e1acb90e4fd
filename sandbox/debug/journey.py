"""A journey to a moment of the past: what one process asks of the copy of a checkpoint, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from sandbox.debug.back import Ran
from sandbox.debug.points import Point
from sandbox.debug.stops import Moment, Stop
from sandbox.records import dataclass, field, replace

if TYPE_CHECKING:
    from sandbox.debug.debugger import Debugger

FIRST_BACK, FARTHER, FARTHEST = 64, 32, 1 << 26
"""Blocks to go back for the instructions before one, the factor when that was not far enough, and where it ends."""


@dataclass(frozen=True, slots=True)
class Journey:
    """To ``where``; or to what came last before it.

    ``search`` is ``hit`` (of any point), ``step`` (the ``count``-th instruction before it, of ``flow``, or with None of
    its CPU; ``over`` calls, or into them), ``fault`` (number ``count``), or empty.  ``distance`` in blocks is how far
    back a search for steps begins.  ``then`` is how many more steps over calls lead on from there.  ``points`` are the
    debugger's.  A search for hits ends at ``where``, or at ``until``, the checkpoint behind the present one.
    ``edits`` is how much of what a person has set is in the machine at ``where``, ``edits_there`` where it began.
    ``arrival`` is what the stop at the end says; ``note`` is why it is not what was asked for.
    """

    where: Moment
    points: list[Point]
    search: str = ""
    count: int = 1
    flow: Hashable = None
    over: bool = False
    then: int = 0
    distance: int = FIRST_BACK
    until: Moment | None = None
    edits: int | None = None
    edits_there: int = 0
    at: int = 0
    """Index of the checkpoint where it begins."""
    arrival: Stop | None = None
    note: str = ""
    face: Callable[[Debugger], Any] | None = None
    """What the face wants to hear at the end, in the place of an answer."""
    back: Moment | None = None
    """Where to be when there is no such moment."""
    prepare: Callable[[Debugger], Any] | None = None
    """Called where it begins, before anything runs."""
    seek: list[Point] | None = None
    """What to search for in the place of the debugger's points."""
    known: tuple[dict[str, Moment], dict[str, Moment], int] = field(default_factory=lambda: ({}, {}, 0))
    """Bookmarks, the places of stops, and the number of the last point."""
    began: Moment | None = None
    """Where it began, and where Ctrl-C leads back to."""


def to_place(journey: Journey, there: Ran) -> Journey:
    """To an instruction that ran."""
    return replace(journey, search="", where=there.moment, edits=there.edits)


def breaks_at(places: list[int], condition: str) -> list[Point]:
    """What a journey looks for: the last time that one of these instructions was about to run so."""
    return [Point(number, "break", f"{at:#x}", address=at, condition=condition) for number, at in enumerate(places, 1)]
