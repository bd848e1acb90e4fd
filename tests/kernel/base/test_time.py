"""The machine's clock: blocks of all CPUs, and what was skipped."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.kernel.base.time import EPOCH, Clock


@dataclass
class Counter:
    clock: int


def test_blocks_of_all_cpus_and_skipped_time_add_up() -> None:
    first, second = Counter(10), Counter(32)
    clock = Clock([first, second])
    clock.skipped = 100
    assert clock.now == 142
    second.clock += 1
    assert clock.now == 143
    assert clock.nanoseconds == EPOCH + 143
