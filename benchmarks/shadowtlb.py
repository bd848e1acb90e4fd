"""What ``--sanitize tlb`` costs on page faults: the kernel with it against the kernel without, by turns."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial

from benchmarks import programs
from benchmarks.kernelrun import marked_seconds
from benchmarks.measure import Row, interleaved
from sandbox.cli import COLLECT_AFTER

MICRO = 1e6 / programs.PAGES
TLB = frozenset({"tlb"})
BAR = 1.5


def rows() -> Iterator[Row]:
    gc.set_threshold(COLLECT_AFTER)  # as every command does
    faults = {"demand-zero": programs.demand_zero(), "cow-copy": programs.cow_copies()}
    samplers = {}
    for name, program in faults.items():
        samplers[name] = partial(_warm, program, frozenset())
        samplers[f"{name}, watched"] = partial(_warm, program, TLB)
    micro = {name: seconds * MICRO for name, seconds in interleaved(samplers, 5).items()}
    for name in faults:
        on, off = micro[f"{name}, watched"], micro[name]
        note = f"{on:.1f} µs against {off:.1f} µs"
        yield Row(f"{name} fault: --sanitize tlb against none", on / off, "x", BAR, False, note)


def _warm(program: bytes, sanitize: frozenset[str]) -> float:
    """Seconds of the fastest pass over the pages but the first; what the sanitizer has put off is in it."""
    return min(marked_seconds(program, sanitize=sanitize)[1:])
