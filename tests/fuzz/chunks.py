"""Chunks of inputs, each in a process of its own: a death, a hang or a leak is a finding, and the rest goes on."""

from __future__ import annotations

import mmap
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.engine.worker import WorkerDied, run_contained
from tests.fuzz import kinds

CHUNK = 250
HANG = 1800.0
"""Seconds after which a chunk's process is given up; each input has limits of its own, this is for what passes them."""
WARM = 60
"""Inputs after which what a process keeps for the next ones is there."""
LEAK = 64 << 10
"""Kilobytes by which a process may grow over the rest of a chunk."""


@dataclass(slots=True)
class Finding:
    """An input that shows a fault of ours."""

    kind: str
    seed: int
    what: str


@dataclass(slots=True)
class Seen:
    """What the inputs of a chunk came to."""

    ends: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def run_chunk(kind: str, seeds: range) -> Seen:
    """Every input of a chunk, in order; one that ends the process is named, and the others follow in a new one."""
    seen, left = Seen(), seeds
    with mmap.mmap(-1, 8) as at, tempfile.TemporaryDirectory() as folder:
        root = kinds.world(Path(folder))
        before = kinds.tree(root)
        while left:
            try:
                part = run_contained(lambda left=left: _inside(kind, left, root, at), HANG)  # type: ignore[misc]
            except WorkerDied as died:
                dead = int.from_bytes(at[:8], "little")
                ends = Counter({f"BUG {died.cause}": 1, "before a death": dead - left.start})
                part, left = Seen(ends), range(dead + 1, left.stop)
                part.findings.append(Finding(kind, dead, f"{died.summary}\n{died.detail}"))
            else:
                left = range(0)
            seen.ends += part.ends
            seen.findings += part.findings
        if kinds.tree(root) != before:
            seen.findings.append(Finding(kind, seeds[0], f"a file outside the root has changed: {seeds}"))
    return seen


def _inside(kind: str, seeds: range, root: Path, at: mmap.mmap) -> Seen:
    seen, descriptors, size = Seen(), 0, 0
    for number, seed in enumerate(seeds):
        at[:8] = seed.to_bytes(8, "little")
        if number == WARM:
            descriptors, size = kinds.held()[0], kinds.resident()
        end, wrong = kinds.outcome(kind, kinds.draw(kind, seed), root)
        seen.ends[end] += 1
        if wrong:
            seen.findings.append(Finding(kind, seed, wrong))
    if len(seeds) > WARM:
        more, larger = kinds.held()[0] - descriptors, kinds.resident() - size
        if more:
            seen.findings.append(Finding(kind, seeds[0], f"{more} file descriptors left open by {seeds}"))
        if larger > LEAK:
            seen.findings.append(Finding(kind, seeds[0], f"{larger >> 10} MB more after {seeds}"))
    return seen


def chunks(kind: str, first: int, count: int) -> Iterator[range]:
    """The seeds of a kind, piece by piece."""
    for at in range(first, first + count, CHUNK):
        yield range(at, min(at + CHUNK, first + count))
