"""Every program that is measured does what its row says, under the kernel and bare."""

from __future__ import annotations

import pytest

from benchmarks import programs
from benchmarks.bare import BareCpu
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.run import run_program


def test_demand_zero_faults_once_a_page() -> None:
    result = run_program("demand-zero", programs.demand_zero(), (), KernelConfig(), record_faults=True)
    assert result.passed
    taken = [fault for fault in result.faults if fault.resolution == "demand-zero"]
    assert programs.PAGES * programs.FAULT_ROUNDS <= len(taken) < programs.PAGES * programs.FAULT_ROUNDS + 10


def test_children_copy_every_page() -> None:
    result = run_program("cow", programs.cow_copies(), (), KernelConfig())
    assert result.passed
    assert result.summary.cow_copies >= programs.PAGES * programs.FAULT_ROUNDS


def test_bare_trip_faults_on_every_data_page() -> None:
    bare = BareCpu(programs.touching())
    assert len(bare.bare.data_entries) >= programs.PAGES
    assert bare.faulting_seconds() > 0


def test_threads_are_made() -> None:
    result = run_program("threads", programs.threads_made(), (), KernelConfig())
    assert result.passed
    assert result.summary.switches >= programs.THREADS * programs.THREAD_ROUNDS


def test_threads_wake_each_other() -> None:
    result = run_program("wakes", programs.futex_wakes(), (), KernelConfig())
    assert result.passed
    assert result.summary.switches >= 2 * programs.WAKES * programs.THREAD_ROUNDS


@pytest.mark.parametrize("how", programs.COPIES)
def test_bare_copies_run_to_their_end(how: str) -> None:
    assert BareCpu(programs.copying(how)).seconds() > 0
