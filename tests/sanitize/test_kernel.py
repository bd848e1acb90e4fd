"""The kernel under the sanitizer: silent as it is, loud with its flushes left out.

What a TLB may hold and who must be told is the manual's (SDM 3A, 4.10) and MM 18's, not what this kernel does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from sandbox.engine import stubs
from sandbox.engine.cpu import Cpu
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.vmscan import Need
from sandbox.runner.result import Result
from sandbox.runner.run import run_target
from sandbox.runner.session import MachineSession
from sandbox.runner.target import resolve
from sandbox.sanitize.deferrals import AtomicSlots
from sandbox.sanitize.kernel import KernelSanitizer
from sandbox.x86.paging import RW, US, A, D, P
from tests.campaign import seeds

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
TLB = frozenset({"tlb"})
SMP = ("smp-truncate", "smp-reclaim", "smp-refill", "fork-tree")
THREADS = ("race-cow", "thread-join", "thread-mprotect", "robust-mutex")
RACING = (*SMP, *THREADS, "smp-hole", "isa-hole-clear", "shared-tree")
LONG = ("smp-reclaim", "smp-hole", "isa-hole-clear")
"""Seconds a run."""
SEEDS = {image: (0, 2, 4) if image in LONG else range(6) for image in RACING}
"""Of ``make test``: six in a row have each number of CPUs with either paging, these three each of both."""


def run(image: str, **changes: object) -> Result:
    target = resolve(f"images/{image}")
    return run_target(target, target.config(sanitize=TLB, **changes))


@pytest.fixture(params=["pae", "legacy"])
def session(request: pytest.FixtureRequest) -> Iterator[MachineSession]:
    with MachineSession.idle(KernelConfig(ram=16 << 20, cpus=2, paging=request.param, sanitize=TLB)) as made:
        yield made


@pytest.mark.parametrize("image", ["cow-fork", "munmap-middle", "move-map", "vmalloc", *SMP])
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_it_is_silent(image: str, cpus: int) -> None:
    result = run(image, cpus=cpus)
    assert (result.status, result.error, result.sanitizer) == (0, "", [])


def racing(image: str, seed: int) -> None:
    """Under a schedule that lets other CPUs come in between the stores of each protocol."""
    result = run(image, cpus=2 + seed % 3, seed=seed, races=(), paging=("pae", "legacy")[seed // 3 % 2])
    assert (result.status, result.error, result.sanitizer) == (0, "", [])


@pytest.mark.slow
@pytest.mark.parametrize(("image", "seed"), [(image, seed) for image in RACING for seed in SEEDS[image]])
def test_it_is_silent_whoever_comes_in_between(image: str, seed: int) -> None:
    racing(image, seed)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize(
    ("image", "seed"), [(image, seed) for image in RACING for seed in range(20) if seed not in SEEDS[image]]
)
def test_it_is_silent_whoever_else_comes_in_between(image: str, seed: int) -> None:
    racing(image, seed)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(range(20, 1020), 110))
def test_it_is_silent_for_a_thousand_seeds(seed: int) -> None:
    racing(RACING[seed % len(RACING)], seed)


@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize(
    ("image", "switch", "kind"),
    [
        ("cow-fork", "no-flush", "ring3"),
        ("fork-flush", "no-flush", "use"),
        ("mprotect-flush", "no-flush", "use"),
        ("map-over", "no-flush", "released"),
        ("vmalloc", "no-flush", "released"),
        ("vmalloc", "early-free", "released"),
        ("smp-truncate", "no-shootdown", "released"),
        ("smp-truncate", "no-shootdown", "ring3"),
        ("smp-reclaim", "no-shootdown", "reused"),
    ],
)
def test_it_is_loud_without_flushes(paging: str, image: str, switch: str, kind: str) -> None:
    result = run(image, paging=paging, switches=frozenset({switch}))
    assert kind in {each.kind for each in result.sanitizer}
    assert not result.passed


@pytest.mark.parametrize(
    ("switches", "told"), [((), set()), (("early-free",), {"released"})], ids=["whole", "early-free"]
)
@pytest.mark.parametrize("image", ["cow-mprotect", "cow-chain"])
def test_a_page_that_was_copied_is_released_behind_the_flush(
    image: str, switches: tuple[str, ...], told: set[str]
) -> None:
    """1.2 and 2.0 released it before (MM 11): that shows where its other owner lets go of it while it is copied."""
    seeds_ = (1, 4, 5, 21)
    found = [run(image, cpus=2, seed=seed, races=(), switches=frozenset(switches)).sanitizer for seed in seeds_]
    assert {each.kind for reports in found for each in reports} == told


def test_a_report_names_everything() -> None:
    """The truncated page of smp-truncate, which a process on CPU 1 reads in a loop."""
    result = run("smp-truncate", switches=frozenset({"no-shootdown"}))
    released = next(each for each in result.sanitizer if each.kind == "released")
    assert released.cpu == 1 and released.pid > 1
    assert released.symbol.startswith(" <main+") and released.instruction
    assert released.old & 1 and released.new == 0
    assert released.owner == "free"
    assert released.missing == f"INVLPG {released.linear:#x} or a load of CR3 on CPU 1, before the frame was released"


def test_kernel_stacks_that_reclaim_takes(session: MachineSession) -> None:
    """Their translations are global: a load of CR3 would not do."""
    kernel = session.kernel
    cpu = kernel.this_cpu
    stack, frames = kernel.stacks.new_kstack()
    cpu.kstack = stack
    cpu.call(kernel.routines.flush_tlb)
    cpu.kstack = cpu.idle
    kernel.stacks.put_kstack(stack, frames)
    assert kernel.stacks.shrink(Need(kernel.pgdat.zones, 1)) == len(frames)
    assert session.reports() == []


def test_an_mm_that_another_cpu_has_loaded(session: MachineSession) -> None:
    """It goes away: its directory may be walked no more."""
    kernel = session.kernel
    mm = kernel.mmu.mm_alloc()
    kernel.mmu.switch_mm(kernel.cpus[1], mm)
    kernel.mmu.mmput(kernel.cpus[0], mm)
    assert session.reports() == []


def test_a_directory_that_is_released_while_it_is_loaded(session: MachineSession) -> None:
    kernel = session.kernel
    mm = kernel.mmu.mm_alloc()
    kernel.mmu.switch_mm(kernel.cpus[1], mm)
    kernel.mmlist.remove(mm)
    kernel.tables.free_user_tables(mm.pgd)
    assert {(each.kind, each.cpu) for each in session.reports()} == {("table", 1)}


@pytest.mark.parametrize("flush", [None, "flush_tlb", "flush_tlb_all"])
def test_a_kernel_mapping_that_goes(session: MachineSession, flush: str | None) -> None:
    """Not global, so that either flush does; with none its frame must not be released."""
    kernel = session.kernel
    cpu, tables = kernel.this_cpu, kernel.tables
    area = kernel.vmalloc.vmalloc(4096)
    (pfn,) = kernel.vmalloc.areas[-1].frames
    cpu.call_c(kernel.image.symbols["readl"], area)
    tables.map_page(tables.kernel_pgd, area, 0, user=False)
    if flush is not None:
        cpu.call(getattr(kernel.routines, flush))
    kernel.page_alloc.put_page(pfn)
    assert [each.kind for each in session.reports()] == ([] if flush else ["released"])


def test_what_a_flush_is_about_is_in_flight_while_it_lasts(session: MachineSession) -> None:
    kernel, seen = session.kernel, []
    call = kernel.cpus[0].call

    class Watched:
        index, vcpu = 0, kernel.cpus[0].vcpu

        @staticmethod
        def call(routine: int, eax: int = 0) -> int:
            seen.append(kernel.tlb.flights)
            return call(routine)

    kernel.tlb.flush_tlb_all(Watched())  # type: ignore[arg-type]
    assert seen == [1] and kernel.tlb.flights == 0


PAGE = 0x40000000
RIGHTS = P | RW | US | A | D


def stale_page(session: MachineSession) -> Mm:
    """An address space that CPU 1 has loaded, with a page whose entry went and of which CPU 1 was told nothing."""
    kernel = session.kernel
    mm, cpu = kernel.mmu.mm_alloc(), kernel.cpus[1]
    place = kernel.tables.pte_alloc(mm.pgd, PAGE)
    assert kernel.entries.install(mm, place, kernel.tables.pfn_pte(kernel.page_alloc.alloc_page(), RIGHTS))
    kernel.mmu.switch_mm(cpu, mm)
    cpu.call_c(kernel.image.symbols["readl"], PAGE)
    kernel.tables.set_pte(place, 0)
    return mm


@pytest.mark.parametrize("whose", ["nobody's", "another's", "the kernel half's", "its own"])
def test_a_flush_excuses_its_own_address_space_only(session: MachineSession, whose: str) -> None:
    """Each moment that matters, while a gather of one or the other is open: what it is about says nothing of the rest.

    Its own may live until its flush is done (SDM 3A, 4.10.5: the requirement is met when the last has answered).
    """
    kernel, sanitizer = session.kernel, session.sanitizer
    assert isinstance(sanitizer, KernelSanitizer)
    mm, other = stale_page(session), kernel.mmu.mm_alloc()
    if whose == "the kernel half's":
        kernel.tlb.flights += 1
    elif whose != "nobody's":
        kernel.entries.gather(kernel.cpus[0], mm if whose == "its own" else other)
    sanitizer.tlb.enters(cast(Cpu, SimpleNamespace(index=1, context=SimpleNamespace(cpl=3))))
    cpu = kernel.cpus[1]
    cpu.call_c(kernel.image.symbols["readl"], PAGE)
    kinds = [(each.kind, each.cpu) for each in session.reports()]
    assert kinds == ([] if whose == "its own" else [("ring3", 1), ("use", 1)])


@pytest.mark.parametrize(
    ("covers", "linear", "expected"),
    [
        (AtomicSlots().covers, 0xFFFFE000, True),
        (AtomicSlots().covers, 0xB7FFF000, False),
    ],
)
def test_deferrals(covers: Callable[[int, int], bool], linear: int, expected: bool) -> None:
    assert covers(0, linear) is expected


def test_a_window_of_another_cpu_is_not_deferred(session: MachineSession) -> None:
    """Windows of a CPU lie together, the first CPU's at the top (MM 14: KM_TYPE_NR 13)."""
    mine = [at for at in range(0xFFF00000, 1 << 32, 4096) if AtomicSlots().covers(0, at)]
    others = [at for at in range(0xFFF00000, 1 << 32, 4096) if AtomicSlots().covers(1, at)]
    assert len(mine) == len(others) == 13 and not set(mine) & set(others)


@pytest.mark.parametrize("seed", [1, 2])
def test_torn_entries_are_seen_and_only_under_the_switch(seed: int) -> None:
    """A present entry that changes with no flush behind it, which the wrong order of words makes (MM 17)."""
    assert run("torn-entry", seed=seed, races=()).sanitizer == []
    loud = run("torn-entry", seed=seed, races=(), switches=frozenset({"pae-low-first"}))
    assert loud.sanitizer or loud.error
