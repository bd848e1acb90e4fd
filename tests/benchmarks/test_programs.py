"""Every program that is measured does what its row says, under the kernel and bare."""

from __future__ import annotations

import pytest

from benchmarks import programs
from benchmarks.bare import BareCpu
from benchmarks.highmem import HIGHMEM
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.mm.highmem import Highmem
from sandbox.runner.run import Session, run_program


def test_demand_zero_faults_once_a_page() -> None:
    result = run_program("demand-zero", programs.demand_zero(), (), KernelConfig(), record_faults=True)
    assert result.passed
    taken = [fault for fault in result.faults if fault.resolution == "demand-zero"]
    assert programs.PAGES * programs.FAULT_ROUNDS <= len(taken) < programs.PAGES * programs.FAULT_ROUNDS + 10


def test_children_copy_every_page() -> None:
    result = run_program("cow", programs.cow_copies(), (), KernelConfig())
    assert result.passed
    assert result.summary.cow_copies >= programs.PAGES * programs.FAULT_ROUNDS


def test_children_copy_from_highmem_to_highmem(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the machine of the row: source and target lie above the direct map."""
    copies: list[bool] = []
    copy = Highmem.copy_user_highpage

    def seen(highmem: Highmem, cpu: KernelCpu, target: int, linear: int) -> None:
        assert cpu.active_mm is not None
        source = tables.pte_pfn(tables.lookup_pte(cpu.active_mm.pgd, linear))
        copies.append(not highmem.is_low(source) and not highmem.is_low(target))
        copy(highmem, cpu, target, linear)

    monkeypatch.setattr(Highmem, "copy_user_highpage", seen)
    with Session("cow", programs.cow_copies(), (), KernelConfig(boot=HIGHMEM)) as session:
        tables = session.kernel.tables
        assert session.finish().passed
    assert copies.count(True) >= programs.PAGES * programs.FAULT_ROUNDS and all(copies)


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
