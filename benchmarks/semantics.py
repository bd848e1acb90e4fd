"""Vectors a second of each side of ``sandbox semantics``, on one core, and of the whole on two."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmarks.measure import Row, interleaved, seconds
from sandbox.engine import mends
from sandbox.semantics import campaign, generate
from sandbox.semantics.campaign import Plan, State
from sandbox.semantics.emulated import SandboxCpu
from sandbox.semantics.host import HostCpu, NoHost
from sandbox.semantics.vector import Vector

BATCH, ROUNDS = 4096, 8
JOBS = 2


def rows() -> Iterator[Row]:
    try:
        host, ours = campaign.oracles()
    except NoHost:
        return
    vectors = {family: list(generate.vectors(family, 1, 0, BATCH)) for family in generate.FAMILIES}
    rates = {family: BATCH / _natively(host, batch) for family, batch in vectors.items()}
    yield Row("vectors by the host, CPU time", min(rates.values()), "a second", 50_000, True, _each(rates))
    took = interleaved({name: _timed(ours, batch) for name, batch in vectors.items()}, 3)
    rates = {name: BATCH / each for name, each in took.items()}
    yield Row("vectors by the sandbox", min(rates.values()), "a second", None, True, _each(rates))
    plan = Plan(generate.FAMILIES, 1, 2 * BATCH, mends.chosen())
    began = time.perf_counter()
    done = sum(campaign.run(plan, State(None, plan), JOBS))
    rate = 60 * done / (time.perf_counter() - began)
    yield Row("vectors made, executed by both and compared, two cores", rate, "a minute", 200_000, True)


def _natively(host: HostCpu, batch: list[Vector]) -> float:
    """The runner's CPU seconds for a batch that lies in shared memory."""
    host.run(batch)
    began = host.cpu_seconds()
    for _ in range(ROUNDS):
        host.start_batch(BATCH)
    return (host.cpu_seconds() - began) / ROUNDS


def _timed(ours: SandboxCpu, batch: list[Vector]) -> Callable[[], float]:
    return lambda: seconds(lambda: ours.run(batch))


def _each(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
