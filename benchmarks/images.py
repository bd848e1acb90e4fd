"""Images a second, each on a fresh machine: a small one, the collection's programs, ``sandbox test`` of all."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import programs
from benchmarks.measure import Row, children_seconds, interleaved, seconds
from sandbox.image.build import ROOT, manifests
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program, run_target
from sandbox.runner.target import Target, resolve

EACH = 20
LEAST = 150
"""Images a second on one core."""


def rows() -> Iterator[Row]:
    program = programs.small()
    took = interleaved({"small": lambda: _processor(lambda: _small(program)) / EACH}, 9)["small"]
    yield Row(
        "images a second, a small one", 1 / took, "/s", LEAST, True, f"{1e3 * took:.2f} ms of processor time each"
    )
    targets = [resolve(each.path) for each in manifests() if each.kind == "program"]
    times = sorted(_collection(targets))
    half = times[: len(times) // 2]
    yield Row(
        "images a second, the programs of the collection", len(times) / sum(times), "/s", note=f"{len(times)} programs"
    )
    yield Row(
        "images a second, the quicker half of these", len(half) / sum(half), "/s",
        note=f"median of all {1e3 * statistics.median(times):.1f} ms",
    )  # fmt: skip
    for jobs in (1, 2):
        spent: list[float] = []
        took = seconds(lambda jobs=jobs, spent=spent: spent.append(children_seconds(partial(_suite, jobs))))  # type: ignore[misc]
        yield Row(
            f"`sandbox test` of all images, -j {jobs}", took, "s",
            note=f"{spent[0]:.0f} s of processor time: whole and broken, in every paging mode",
        )  # fmt: skip


def _small(program: bytes) -> None:
    for _ in range(EACH):
        assert run_program("small", program, (), KernelConfig()).passed


def _collection(targets: list[Target]) -> list[float]:
    """Seconds of processor time of each image's whole run, once warm: the quickest of three."""
    rounds = [[_processor(partial(run_target, each, each.config())) for each in targets] for _ in range(3)]
    return [min(each) for each in zip(*rounds, strict=True)]


def _processor(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def _suite(jobs: int) -> None:
    command = [sys.executable, "-m", "sandbox", "test", "-j", str(jobs)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
