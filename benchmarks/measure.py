"""Rows of the table, and how a number comes about: medians of interleaved repetitions, everything warm."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

REPETITIONS = 7


@dataclass(slots=True)
class Row:
    """One measured value.  ``bar`` is what it must reach (``least``) or not exceed; None is reported only."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, ``short``, or nothing for a row without a bar."""
        if self.bar is None:
            return ""
        reached = self.value >= self.bar if self.least else self.value <= self.bar
        return "ok" if reached else "short"

    @property
    def bar_text(self) -> str:
        if self.bar is None:
            return ""
        return f"{'>=' if self.least else '<='} {self.bar:g} {self.unit}"

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "verdict": self.verdict}


def seconds(action: Callable[[], object]) -> float:
    """Host seconds of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def children_seconds(action: Callable[[], object]) -> float:
    """Processor seconds of the processes that one call starts and waits for, whatever else the machine does."""
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    action()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def interleaved(
    samplers: Mapping[str, Callable[[], float]],
    repetitions: int = REPETITIONS,
    pick: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """The median sample of each sampler; one round warms up, then all take turns.

    ``pick=min`` is for what others on the machine can only make slower, and a bar is to hold under load.
    """
    samples: dict[str, list[float]] = {name: [] for name in samplers}
    for round_ in range(repetitions + 1):
        for name, sample in samplers.items():
            taken = sample()
            if round_:
                samples[name].append(taken)
    return {name: pick(taken) for name, taken in samples.items()}


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    cells = [("measured", "value", "bar", "", "")]
    cells += [(row.name, f"{row.value:.3g} {row.unit}", row.bar_text, row.verdict, row.note) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = []
    for name, value, bar, verdict, note in cells:
        lines.append(
            f"{name:{widths[0]}}  {value:>{widths[1]}}  {bar:>{widths[2]}}  {verdict:{widths[3]}}  {note}".rstrip()
        )
    return "\n".join(lines)
