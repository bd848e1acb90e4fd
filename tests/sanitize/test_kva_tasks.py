"""The kva pool with real tasks: ``images/kva-threads`` with three ways to flush, on 1 to 4 CPUs (post 001, MM 12)."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from sandbox.engine import stubs
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.mm import tlb
from sandbox.kernel.mm.kva_flush import KvaCounters
from sandbox.kernel.mm.kva_seq import FlushSequence, Ticket
from sandbox.runner.result import Result
from sandbox.runner.run import Session
from sandbox.sanitize.watch import TlbWatch
from tests.campaign import seeds

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
PROGRAM = (Path(__file__).resolve().parents[2] / "images/kva-threads/kva-threads.elf").read_bytes()
POLICIES = ("sequence", "everywhere", "use")
SMALL = "highmem=8m kva=8k"


def config(cpus: int, flush: str, *switches: str, **more: object) -> KernelConfig:
    """Two slots; ``high_pages=kva``."""
    return KernelConfig(
        ram=16 << 20, boot=SMALL, cpus=cpus, policies={"high_pages": "kva", "kva_flush": flush}, time_limit=60.0,
        switches=frozenset(switches), **more,
    )  # type: ignore[arg-type]  # fmt: skip


def run(made: KernelConfig, how: str = "threads", rounds: int = 8) -> tuple[Result, KvaCounters, Session]:
    with Session("kva-threads", PROGRAM, [how, "4", "3", str(rounds)], made) as session:
        return session.finish(), session.kernel.kva.counters, session


@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("flush", POLICIES)
def test_no_cpu_reads_another_page(flush: str, cpus: int, paging: str) -> None:
    result, counters, _ = run(config(cpus, flush, paging=paging, sanitize=frozenset({"tlb"})), rounds=4)
    assert result.passed and not result.sanitizer, result.headline()
    assert counters.recycles > 10 and counters.hits


@pytest.mark.parametrize(
    ("flush", "switch"), [("sequence", "kva-lazy-switch"), ("sequence", "no-flush"), ("everywhere", "no-shootdown")]
)
def test_a_stale_address_is_told(flush: str, switch: str) -> None:
    result, _, _ = run(config(2, flush, switch, sanitize=frozenset({"tlb"})))
    assert {each.kind for each in result.sanitizer} & {"use", "ring3"}


def test_what_the_three_ways_cost_threads() -> None:
    """One address space on four CPUs: no CR3 is loaded between threads, and still nobody has to be interrupted."""
    found = {flush: run(config(4, flush))[1] for flush in POLICIES}
    sequence, everywhere, use = (found[flush] for flush in POLICIES)
    assert (sequence.ipis, sequence.global_flushes, sequence.conflicts) == (0, 0, 0)
    assert everywhere.local_invlpg == 0 and everywhere.ipis == 3 * everywhere.global_flushes > 0
    assert everywhere.global_flushes == everywhere.recycles + everywhere.given_back
    assert use.local_invlpg == use.hits + use.misses > sequence.local_invlpg
    assert use.ipis == 0


def test_loads_of_cr3_save_invalidations() -> None:
    """Processes: many a first use of a changed address finds that its CPU has switched address spaces since."""
    threads, forks = run(config(2, "sequence"))[1], run(config(2, "sequence"), "forks")[1]
    assert forks.avoided > threads.avoided == 0


class Noted:
    """How often each CPU has noted a number, beside what the feed of its MMU has seen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_cpu: Counter[int] = Counter()
        flushed = FlushSequence.flushed

        def count(numbers: FlushSequence, cpu: int, began: Ticket) -> None:
            self.by_cpu[cpu] += 1
            flushed(numbers, cpu, began)

        monkeypatch.setattr(FlushSequence, "flushed", count)

    def compare(self, made: KernelConfig) -> tuple[int, int, int]:
        """Numbers noted, flushes that the MMUs saw, and switches of tasks, in one run of threads."""
        with Session("kva-threads", PROGRAM, ["threads", "4", "3", "4"], made) as session:
            watch = TlbWatch(session.machine.cpus)
            self.by_cpu.clear()
            assert session.finish().error in ("", None) or made.switches
            watch.feed.drain()
            seen = sum((Counter(each) for each in watch.stream.counters()), Counter[str]())
            return self.by_cpu.total(), seen["CR3 loads"] - seen["CR4 loads"] // 2, session.kernel.sched.switches


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_only_a_load_of_cr3_notes_a_number(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    """From thread to thread of one mm nothing is loaded (2.x: lazy), so nothing is noted: SDM 3A 4.10.4.1."""
    noted, loads, switches = Noted(monkeypatch).compare(config(cpus, "sequence"))
    assert 0 < noted <= loads < switches / 2


def test_a_lazy_switch_that_notes_one_is_seen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    noted, loads, _ = Noted(monkeypatch).compare(config(2, "sequence", "kva-lazy-switch"))
    assert noted > loads


@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("how", ["threads", "forks"])
def test_the_numbers_begin_again(monkeypatch: pytest.MonkeyPatch, cpus: int, how: str) -> None:
    """Three bits instead of 32: every seventh change is a wrap."""
    monkeypatch.setattr(tlb, "FlushSequence", partial(FlushSequence, bits=3))
    result, _, session = run(config(cpus, "sequence", sanitize=frozenset({"tlb"})), how)
    assert result.passed and not result.sanitizer
    assert session.kernel.tlb.sequence.wraps > 5


def test_without_the_care_at_the_wrap_a_stale_address_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tlb, "FlushSequence", partial(FlushSequence, bits=3))
    result, _, _ = run(config(2, "sequence", "kva-no-wrap", sanitize=frozenset({"tlb"})), "forks")
    assert result.sanitizer


def test_another_cpu_comes_between_a_cleared_entry_and_its_count() -> None:
    """Nobody has the address then: that a CPU may be stale for it is no finding."""
    result, _, _ = run(config(4, "sequence", seed=1, races=(), sanitize=frozenset({"tlb"})), rounds=4)
    assert result.passed and not result.sanitizer


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(range(50), 6))
@pytest.mark.parametrize("flush", POLICIES)
def test_fifty_seeds(flush: str, seed: int) -> None:
    """On 1 to 4 CPUs, others come in between two stores of the kernel's protocols, where the seed says."""
    made = config(1 + seed % 4, flush, seed=seed, races=(), sanitize=frozenset({"tlb"}))
    result, _, _ = run(made, ("threads", "forks")[seed // 4 % 2], rounds=3)
    assert result.passed and not result.sanitizer, (result.headline(), [each.kind for each in result.sanitizer])
