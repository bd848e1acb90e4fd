"""Page faults all in, against what the engine's part of them costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks import programs
from benchmarks.bare import BareCpu
from benchmarks.kernelrun import marked_seconds
from benchmarks.measure import Row, interleaved

MICRO = 1e6 / programs.PAGES


def rows() -> Iterator[Row]:
    trip = BareCpu(programs.touching())
    clears = {f"clear by {how}": BareCpu(programs.clearing(how)).seconds for how in programs.CLEARS}
    copies = {f"copy by {how}": BareCpu(programs.copying(how)).seconds for how in programs.COPIES}
    zero, cow = programs.demand_zero(), programs.cow_copies()
    took = interleaved(
        {
            "trip": trip.faulting_seconds,
            **clears,
            **copies,
            "demand-zero": lambda: _warm(zero),
            "cow-copy": lambda: _warm(cow),
            "demand-zero, two-level": lambda: _warm(zero, "legacy"),
            "cow-copy, two-level": lambda: _warm(cow, "legacy"),
        },
        5,
        min,
    )
    micro = {name: value * MICRO for name, value in took.items()}
    clear, copy = min(micro[name] for name in clears), min(micro[name] for name in copies)
    for fault, work, word in (("demand-zero", clear, "clear"), ("cow-copy", copy, "copy")):
        yield Row(
            f"{fault} fault against trip + {word}", micro[fault] / (micro["trip"] + work), "x", 3.4, False,
            f"{micro[fault]:.1f} µs against {micro['trip']:.1f} + {work:.1f} µs",
        )  # fmt: skip
        two_level = micro[f"{fault}, two-level"]
        yield Row(f"{fault} fault, two-level", two_level / (micro["trip"] + work), "x", note=f"{two_level:.1f} µs")


def _warm(program: bytes, paging: str = "pae") -> float:
    """Seconds of one pass over the pages: the first pass, which is the host's faults too, is left out."""
    return statistics.median(marked_seconds(program, paging)[1:])
