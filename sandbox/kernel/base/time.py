"""The machine's clock as people read it: a block of code is a nanosecond, a trap ten microseconds.

The machine starts in January 1999, unless its configuration names another epoch or takes the host's clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from sandbox.kernel.base.tape import HostTimes
from sandbox.records import dataclass

BLOCK_NANOSECONDS = 1
TRAP_BLOCKS = 10_000
"""What a trap or a system call takes besides the blocks that it runs: about what it takes here on the host, so that a
program that waits by asking for the time gets to the end of it."""
SECOND = 1_000_000_000
LONGEST_WAIT = 0.05
"""Seconds that are slept at a time with the host's clock: limits are looked at between."""
TICK = SECOND // 100
"""Nanoseconds of a ``clock_t``."""
EPOCH_SECONDS = 915_148_800
"""1 January 1999, the month of post 001: what the clock shows when the machine starts."""
EPOCH = EPOCH_SECONDS * SECOND


LEFT_IN_HEAP = 64
"""Removed deadlines that may stay in a heap, besides as many as there are live ones."""
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Timer:
    """Something that happens at a time in blocks."""

    at: int
    action: Callable[[], None]


class Deadlines(Generic[T]):
    """Things by the time in blocks at which something happens to them: the first is known at once.

    Adding and removing costs the logarithm of their number: a heap, in which what was removed stays until it comes up
    or makes half of it.
    """

    __slots__ = ("_heap", "_live", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._live: dict[T, int] = {}
        """The number of each thing's entry: how many were added before it."""
        self._number = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, what: T) -> bool:
        return what in self._live

    def add(self, at: int, what: T) -> None:
        """One more; it must not be there yet."""
        self._number += 1
        self._live[what] = self._number
        heappush(self._heap, (at, self._number, what))

    def remove(self, what: T) -> None:
        """It is there no more.  Raises KeyError when it was not."""
        del self._live[what]
        if len(self._heap) > 2 * len(self._live) + LEFT_IN_HEAP:
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapify(self._heap)

    @property
    def first(self) -> int | None:
        """The next time, None when there is none."""
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][2]) != heap[0][1]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: int) -> list[T]:
        """Take those out whose time has come, in the order in which they were added."""
        found = []
        while (at := self.first) is not None and at <= now:
            _, number, what = heappop(self._heap)
            del self._live[what]
            found.append((number, what))
        return [what for _, what in sorted(found, key=lambda each: each[0])]


class Counter(Protocol):
    """A CPU's own clock, in blocks."""

    @property
    def clock(self) -> int: ...


class Clock:
    """Machine time in blocks: what all CPUs ran, a fixed time for each trap, and what was skipped while all slept.

    With ``host`` it is the host's: nanoseconds since the machine was built.  ``epoch`` is the guest's time at the
    start, in nanoseconds since 1970.  ``times`` keep what the host's clock showed, and show it again.
    """

    __slots__ = ("_counters", "_host_start", "_times", "charged", "epoch", "skipped")

    def __init__(
        self, counters: Sequence[Counter], epoch: int = EPOCH, host: bool = False, times: HostTimes | None = None
    ) -> None:
        self._counters = tuple(counters)
        self._host_start = time.monotonic_ns() if host else 0
        self._times = times
        self.epoch = epoch
        self.skipped = 0
        self.charged = 0

    @property
    def blocks(self) -> int:
        """What limits of a run count: blocks run, and those that were slept through."""
        now = self.skipped
        for each in self._counters:
            now += each.clock
        return now

    @property
    def now(self) -> int:
        if self._host_start:
            return self._shown() if self._times is None else self._times.at(self.machine, self._shown)
        return self.machine

    def _shown(self) -> int:
        return time.monotonic_ns() - self._host_start

    @property
    def machine(self) -> int:
        """The machine's own time, whatever its clock shows: what names a moment of a run."""
        now = self.skipped + self.charged
        for each in self._counters:
            now += each.clock
        return now

    def skip(self, blocks: int) -> None:
        """Everybody sleeps for so long; the host's clock cannot be pushed, so a piece of it is waited for."""
        if self._host_start:
            if self._times is None or not self._times.before_end(self.machine):
                time.sleep(min(blocks / SECOND, LONGEST_WAIT))
            self.skipped += 1  # each look at the clock has a time of its own
        else:
            self.skipped += blocks

    def passed(self, blocks: int) -> None:
        """Everybody slept for so long, while somebody waited for the host."""
        if not self._host_start:
            self.skipped += blocks

    @property
    def nanoseconds(self) -> int:
        """The guest's time since 1970."""
        return self.epoch + self.now * BLOCK_NANOSECONDS
