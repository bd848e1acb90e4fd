"""Where another CPU may come in between two stores of a protocol, and the schedule that says when it does.

A protocol that other CPUs can watch half done calls ``point('name')`` between its stores.  Without a schedule nothing
happens there; with one, the flow may be left standing at that place while other CPUs go on.  A schedule decides by the
point's name and by how often it was passed, so that a run with the same schedule is the same run.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

POINTS = (
    "set_pte", "clear_pte", "change_pte", "install", "wp", "replace", "replace-flushed", "change", "remove", "protect",
    "moving", "move", "flush", "release", "suspend", "resume", "unmap", "unmap-flush", "read-in", "kva", "pkmap",
)  # fmt: skip
"""All names that are passed to ``point``; what is half done at each is in ``docs/races.md``."""
_PLACE = re.compile(r"([^:]+)(?::([1-9][0-9]{0,17}))?")
SWITCH_ONE_IN = 3
"""Share of the points at which a seed's schedule switches."""
LATE_ONE_IN = 3
"""Share of the turns that begin before a pending interrupt is taken."""
LONG_STAND = 8
"""Turns for which a flow stands where a list says so."""
SHORT_BLOCKS = 64
"""Blocks that such a turn may last."""


def parse_point(text: str) -> tuple[str, int]:
    """``POINT`` or ``POINT:K``, the passage counted from 1.  Raises ValueError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text}: give POINT or POINT:K, K counted from 1")
    return found[1], int(found[2] or "1")


class Schedule(Protocol):
    """Decides at each point."""

    def switches(self, name: str, times: int) -> bool:
        """Whether the flow that passes ``name`` for the ``times``-th time (from 1) stands still there."""
        ...

    def lateness(self) -> int:
        """Blocks that a CPU may go on before it takes an interrupt that is pending, 0 for none."""
        ...

    def standing(self) -> int:
        """Turns of its own for which a flow stands still: it takes interrupts in each, and does nothing else."""
        ...


class SeedSchedule:
    """Switches at random places, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"races {seed}")

    def switches(self, name: str, times: int) -> bool:
        return not self._random.randrange(SWITCH_ONE_IN)

    def lateness(self) -> int:
        late = not self._random.randrange(LATE_ONE_IN)
        return self._random.randrange(1, SHORT_BLOCKS) if late else 0

    def standing(self) -> int:
        return self._random.choice((1, 1, 2, 4))


class ListSchedule:
    """Switches where it is told: names of points, each with the passage that counts (from 1).

    Interrupts are taken as late as can be, so that what was begun at the point can be seen half done.
    """

    def __init__(self, places: Iterable[tuple[str, int]]) -> None:
        self._places = frozenset(places)

    def switches(self, name: str, times: int) -> bool:
        return (name, times) in self._places

    def lateness(self) -> int:
        return SHORT_BLOCKS

    def standing(self) -> int:
        return LONG_STAND


class Races:
    """The points of one kernel.  ``stand``, handed in by the scheduler, lets another CPU go on if one can."""

    __slots__ = ("_schedule", "active", "passed", "stand")

    def __init__(self, schedule: Schedule | None) -> None:
        self._schedule = schedule
        self.active = schedule is not None
        self.stand: Callable[[str, int], None] = lambda name, times: None
        self.passed: Counter[str] = Counter()
        """How often each point was passed."""

    def point(self, name: str) -> None:
        """A protocol is half done here."""
        if self._schedule is None:
            return
        self.passed[name] += 1
        times = self.passed[name]
        if self._schedule.switches(name, times):
            self.stand(name, times)

    def standing(self) -> int:
        """Turns for which the flow that passes a point stands there."""
        return 0 if self._schedule is None else self._schedule.standing()

    def lateness(self) -> int:
        """Blocks that the CPU whose turn begins may run before it takes its pending interrupts."""
        return 0 if self._schedule is None else self._schedule.lateness()
