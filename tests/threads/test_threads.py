"""Threads: the same output as on this host's Linux, on one CPU and on several, whatever the scheduler decides."""

from __future__ import annotations

import pytest

from sandbox.engine.stubs import native_host
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program
from tests.campaign import seeds
from tests.threads.programs import NAMES, build, native

LONG_TURNS: dict[str, object] = {}
SHORT_TURNS: dict[str, object] = {"quantum": 10_000, "turn": 400}
RACES: dict[str, object] = {"races": ()}
"""Other CPUs come in between two stores of the kernel's protocols, where the seed says."""
SCHEDULES = [
    pytest.param(cpus, seed, turns, id=f"{cpus} CPUs, seed {seed}")
    for cpus, seed, turns in (
        (1, 0, SHORT_TURNS),
        (2, 0, LONG_TURNS),
        (2, 1, RACES),
        (4, 2, SHORT_TURNS),
        (4, 3, RACES),
    )
]
MUSL = ("sync", "cancel", "forks", "futexes", "futexpi", "many", "memory", "proc")


def same(name: str, libc: str, cpus: int, seed: int, turns: dict[str, object]) -> None:
    program, wanted = build(name, libc), native(name, libc)
    if isinstance(program, str) or isinstance(wanted, str):
        pytest.skip(program if isinstance(program, str) else str(wanted))
    config = KernelConfig(cpus=cpus, seed=seed, time_limit=120, **turns)  # type: ignore[arg-type]
    result = run_program(name, program, (), config)
    assert (result.error, result.sanitizer) == ("", []), result.headline()
    assert (result.status, result.stdout.decode()) == wanted


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.skipif(not native_host(), reason="the sanitizer's feed is x86-64 Linux code")
@pytest.mark.parametrize("seed", seeds(range(50), 6))
@pytest.mark.parametrize("name", NAMES)
def test_fifty_seeds(name: str, seed: int) -> None:
    """And no CPU goes on with a translation that it should have forgotten."""
    same(name, "glibc", 2 + seed % 2 * 2, seed, {**RACES, "sanitize": frozenset({"tlb"})})


@pytest.mark.parametrize(("cpus", "seed", "turns"), SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_glibc(name: str, cpus: int, seed: int, turns: dict[str, object]) -> None:
    same(name, "glibc", cpus, seed, turns)


@pytest.mark.parametrize(("cpus", "seed", "turns"), SCHEDULES[2:])
@pytest.mark.parametrize("name", MUSL)
def test_musl(name: str, cpus: int, seed: int, turns: dict[str, object]) -> None:
    same(name, "musl", cpus, seed, turns)
