"""The machine's clock as people read it: a block of code is a nanosecond, and the machine starts in January 1999."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

BLOCK_NANOSECONDS = 1
SECOND = 1_000_000_000
TICK = SECOND // 100
"""Nanoseconds of a ``clock_t``."""
EPOCH_SECONDS = 915_148_800
"""1 January 1999, the month of post 001: what the clock shows when the machine starts."""
EPOCH = EPOCH_SECONDS * SECOND


@dataclass(slots=True, eq=False)
class Timer:
    """Something that happens at a time in blocks."""

    at: int
    action: Callable[[], None]


class Counter(Protocol):
    """A CPU's own clock, in blocks."""

    @property
    def clock(self) -> int: ...


class Clock:
    """Machine time in blocks: what all CPUs ran, and what was skipped while all slept."""

    __slots__ = ("_counters", "skipped")

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = tuple(counters)
        self.skipped = 0

    @property
    def now(self) -> int:
        now = self.skipped
        for each in self._counters:
            now += each.clock
        return now

    @property
    def nanoseconds(self) -> int:
        """The guest's time since 1970."""
        return EPOCH + self.now * BLOCK_NANOSECONDS
