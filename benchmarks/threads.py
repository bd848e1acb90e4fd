"""Threads, against the bare cost of a trap: one made, run and joined; one that wakes another and sleeps."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks import programs
from benchmarks.bare import BareCpu
from benchmarks.kernelrun import marked_seconds
from benchmarks.measure import Row, interleaved


def rows() -> Iterator[Row]:
    trip = BareCpu(programs.touching())
    made, woken = programs.threads_made(), programs.futex_wakes()
    took = interleaved(
        {
            "trip": lambda: trip.faulting_seconds() / programs.PAGES,
            "made": lambda: _warm(made) / programs.THREADS,
            "woken": lambda: _warm(woken) / (2 * programs.WAKES),
        },
        5,
    )
    for what, name, bar in (("made", "a thread made and joined", 120), ("woken", "a futex wake and a sleep", 22)):
        note = f"{took[what] * 1e6:.1f} µs against {took['trip'] * 1e6:.2f} µs"
        yield Row(f"{name} against the bare trap", took[what] / took["trip"], "x", bar, False, note)


def _warm(program: bytes) -> float:
    """Seconds of one pass; the first is left out."""
    return statistics.median(marked_seconds(program)[1:])
