"""What is reported on a bare CPU: uses, and chances, with the flush that is missing; and what is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.engine import stubs
from sandbox.x86.paging import PAGE_SIZE, RW, US, A, D, G, P
from tests.sanitize.machine import DATA_LINEAR, DIRECTORY, FRAMES, ROOT, TABLE, Bench

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
OLD, NEW = FRAMES[0], FRAMES[1]
FULL = P | RW | US | A | D


@pytest.fixture(params=[True, False], ids=["pae", "legacy"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param, cpus=2)
    made.set_entry(0, OLD | FULL)
    yield made
    made.close()


def kinds(bench: Bench) -> list[tuple[str, int]]:
    return [(each.kind, each.cpu) for each in bench.tlb.reports]


def test_a_use_goes_on_stale_and_is_reported_with_its_instruction(bench: Bench) -> None:
    assert bench.load(0) == 1
    bench.set_entry(0, NEW | FULL)
    assert bench.load(0) == 1
    (report,) = bench.tlb.reports
    assert (report.kind, report.cpu, report.linear) == ("use", 0, DATA_LINEAR)
    assert (report.place, report.old & ~A, report.new) == (bench.place(0), OLD | FULL & ~A, NEW | FULL)
    assert report.instruction == f"mov eax, dword ptr [{DATA_LINEAR:#x}]"
    assert report.missing == f"INVLPG {DATA_LINEAR:#x} or a load of CR3 on CPU 0, before this access"


@pytest.mark.parametrize("flush", ["invlpg", "load_cr3", "toggle_pge"])
def test_a_flush_ends_it(bench: Bench, flush: str) -> None:
    bench.load(0)
    bench.set_entry(0, NEW | FULL)
    getattr(bench, flush)(*([0] if flush == "invlpg" else []))
    assert bench.load(0) == 2
    assert kinds(bench) == []


def test_a_flush_on_another_cpu_does_not(bench: Bench) -> None:
    bench.load(0, cpu=1)
    bench.set_entry(0, NEW | FULL)
    bench.invlpg(0, cpu=0)
    assert bench.load(0, cpu=0) == 2
    assert bench.load(0, cpu=1) == 1
    assert kinds(bench) == [("use", 1)]


def test_pythons_own_flush_does_not_either(bench: Bench) -> None:
    bench.load(0)
    bench.set_entry(0, NEW | FULL)
    bench.cpus[0].flush_tlb()
    assert bench.load(0) == 1
    assert kinds(bench) == [("use", 0)]


def test_a_global_page_outlives_a_load_of_cr3(bench: Bench) -> None:
    bench.set_entry(0, OLD | FULL | G)
    bench.load(0)
    bench.set_entry(0, NEW | FULL | G)
    bench.load_cr3()
    assert bench.load(0) == 1
    assert "a change of CR4.PGE" in bench.tlb.reports[0].missing
    bench.toggle_pge()
    assert bench.load(0) == 2


def test_an_entry_that_became_again_what_it_was_is_not_stale(bench: Bench) -> None:
    bench.load(0)
    bench.set_entry(0, 0)
    bench.set_entry(0, OLD | FULL)
    assert bench.load(0) == 1
    assert kinds(bench) == []


def test_a_relaxation_is_no_report(bench: Bench) -> None:
    bench.set_entry(0, OLD | P | US | A)
    bench.load(0)
    bench.set_entry(0, OLD | FULL)
    assert bench.store(0, 7)
    assert kinds(bench) == []


def test_while_a_shootdown_is_going_on_a_use_is_the_hardwares_right(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.load(0, cpu=1)
    bench.set_entry(0, NEW | FULL)
    monkeypatch.setattr(bench.world, "in_flight", lambda cpu, linear: True)
    assert bench.load(0, cpu=1) == 1
    assert kinds(bench) == []


def test_frames_that_are_given_away(bench: Bench) -> None:
    bench.load(0)
    bench.tlb.frames("released", OLD >> 12, 1)
    assert kinds(bench) == []
    bench.set_entry(0, 0)
    bench.tlb.frames("released", NEW >> 12, 1)
    bench.tlb.frames("released", OLD >> 12, 1)
    bench.tlb.frames("reused", OLD >> 12, 1)
    bench.tlb.frames("dma", (OLD >> 12) - 1, 2)
    assert kinds(bench) == [("released", 0), ("reused", 0), ("dma", 0)]
    assert bench.tlb.reports[0].frame == OLD >> 12


def test_what_may_stay_is_no_chance_but_still_a_use(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.load(0)
    bench.set_entry(0, 0)
    monkeypatch.setattr(bench.world, "may_stay", lambda cpu, linear: True)
    bench.tlb.frames("released", OLD >> 12, 1)
    assert kinds(bench) == []
    assert bench.load(0) == 1
    assert kinds(bench) == [("use", 0)]


def test_ring_3(bench: Bench) -> None:
    bench.load(0)
    bench.set_entry(0, 0)
    bench.tlb.enters(bench.cpus[0])
    assert kinds(bench) == []
    user = bench.cpus[0].context
    user.set_segment("ss", 0x23, 0, 0xFFFFFFFF, 0xCFF300)
    user.set_segment("cs", 0x1B, 0, 0xFFFFFFFF, 0xCFFB00)
    bench.tlb.enters(bench.cpus[0])
    assert kinds(bench) == [("ring3", 0)]


def test_a_frame_entered_writable_elsewhere(bench: Bench) -> None:
    bench.load(0, cpu=1)
    bench.set_entry(0, 0)
    bench.set_entry(1, OLD | FULL)
    user = bench.cpus[0].context
    user.set_segment("ss", 0x23, 0, 0xFFFFFFFF, 0xCFF300)
    user.set_segment("cs", 0x1B, 0, 0xFFFFFFFF, 0xCFFB00)
    bench.tlb.enters(bench.cpus[0])
    assert kinds(bench) == [("entered", 1)]


def test_a_table_that_may_be_walked(bench: Bench) -> None:
    bench.load(0)
    bench.set_entry(0, 0)
    bench.tlb.feed.drain()
    bench.tlb.table_released(NEW >> 12)
    assert kinds(bench) == []
    bench.tlb.table_released(TABLE >> 12)
    bench.tlb.table_released(ROOT >> 12)
    assert ("table", 0) in kinds(bench)
    assert bench.tlb.reports[0].missing.startswith("a load of CR3 or any INVLPG on CPU 0")
    before = len(bench.tlb.reports)
    bench.load_cr3()
    bench.tlb.table_released(TABLE >> 12)
    assert len(bench.tlb.reports) == before


def test_a_pdpte_that_changes_while_it_is_loaded() -> None:
    """SDM 3A, 4.4.1: hardware goes on with the register's; the engine reads memory, which is told."""
    bench = Bench(True)
    try:
        bench.set_entry(0, OLD | FULL)
        bench.load_cr3()
        bench.write(ROOT + 8, DIRECTORY | P, 8)
        bench.run("mov eax, dword ptr [0x40400000]")
        assert kinds(bench) == [("pdpte", 0)]
        bench.load_cr3()
        bench.run("mov eax, dword ptr [0x40400000]")
        assert len(bench.tlb.reports) == 1
    finally:
        bench.close()


def test_a_large_page() -> None:
    bench = Bench(True)
    try:
        bench.write(DIRECTORY + 24, 0x200000 | FULL | 0x80, 8)
        assert bench.run("mov eax, dword ptr [0x601000]") == 2
        bench.write(DIRECTORY + 24, 0, 8)
        bench.places.append(DIRECTORY + 24)
        assert bench.run("mov eax, dword ptr [0x602000]") == 3
        bench.run("invlpg [0x7ff000]")
        assert bench.run("mov eax, dword ptr [0x602000]") is None
        assert kinds(bench) == [("use", 0)]
    finally:
        bench.close()


def test_reports_say_where_pages_begin(bench: Bench) -> None:
    bench.load(0)
    bench.set_entry(0, 0)
    bench.tlb.frames("released", OLD >> 12, 1)
    (report,) = bench.tlb.reports
    assert report.linear % PAGE_SIZE == 0
    assert report.lines()[0] == "a frame was released while a CPU may still use it: CPU 0, 00400000"
    assert report.to_dict()["kind"] == "released"
