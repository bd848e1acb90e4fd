"""Windows by the three policies: what each allows, and what the MMU shows behind them (MM 14, post 004)."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import FIXADDR_END
from sandbox.kernel.base.wait import might_sleep
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.kmap_atomic import (
    KM_SLOTS,
    KM_TYPE_NR,
    AtomicWindows,
    DirtySlot,
    HeapWindows,
    KmapError,
    KmType,
    LifoBreach,
    NotOpen,
    SlotClash,
    WindowsHeld,
    WindowsUsedUp,
    WrongCpu,
)
from sandbox.machine.memory import Reason
from sandbox.x86.paging import PAGE_SIZE
from tests.kernel.mm.machines import boot, load

POLICIES = ("stack", "slots", "heap")
SMALL = {"ram": 24 << 20, "boot": "highmem=12m"}


def made(policy: str, *switches: str, cpus: int = 2, paging: str = "pae") -> Kernel:
    return boot(**SMALL, cpus=cpus, paging=paging, policies={"kmap_atomic": policy}, switches=frozenset(switches))


def frames(kernel: Kernel, count: int) -> list[int]:
    return [kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(count)]


def mark(kernel: Kernel, pfns: list[int]) -> None:
    for pfn in pfns:
        kernel.memory.host_write(pfn * PAGE_SIZE, pfn.to_bytes(4, "little"), Reason.DMA)


@pytest.mark.parametrize("paging", ["pae", "legacy"])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_window_shows_its_frame(policy: str, paging: str) -> None:
    kernel = made(policy, paging=paging)
    pfns = frames(kernel, 6)
    mark(kernel, pfns)
    for turn in (pfns[:3], pfns[3:]):
        for cpu in kernel.cpus:
            types = (KmType.USER0, KmType.USER1, KmType.IRQ0)
            open_ = [kernel.highmem.kmap_atomic(cpu, pfn, each) for pfn, each in zip(turn, types, strict=True)]
            assert [load(kernel, linear, cpu.index) for linear in open_] == turn
            assert [kernel.highmem.windows.frame_at(cpu.index, linear + 8) for linear in open_] == turn
            for linear, each in list(zip(open_, types, strict=True))[::-1]:
                kernel.highmem.kunmap_atomic(cpu, linear, each)
    assert kernel.highmem.depth == [0, 0]


def test_the_place_of_a_slot() -> None:
    """MM 14: VA = FIXADDR_TOP - index * 4K, index = type + KM_TYPE_NR * cpu, descending."""
    kernel = made("slots")
    (pfn,) = frames(kernel, 1)
    top = kernel.highmem.kmap_atomic(kernel.cpus[0], pfn, KmType.BOUNCE_READ)
    assert top == FIXADDR_END - PAGE_SIZE
    for cpu in kernel.cpus:
        for each in (KmType.USER0, KmType.SOFTIRQ1):
            assert kernel.highmem.kmap_atomic(cpu, pfn, each) == top - (each + KM_TYPE_NR * cpu.index) * PAGE_SIZE


@pytest.mark.parametrize(("policy", "stays"), [("stack", False), ("slots", True), ("heap", False)])
def test_what_is_left_behind(policy: str, stays: bool) -> None:
    """2.4 leaves the entry until the next use; 2.6.24 and later clear it and flush."""
    kernel = made(policy)
    cpu, (first, second) = kernel.this_cpu, frames(kernel, 2)
    mark(kernel, [first, second])
    linear = kernel.highmem.kmap_atomic(cpu, first)
    assert load(kernel, linear, cpu.index) == first
    kernel.highmem.kunmap_atomic(cpu, linear)
    assert bool(kernel.tables.lookup_pte(kernel.tables.kernel_pgd, linear)) is stays
    assert kernel.highmem.kmap_atomic(cpu, second) == linear
    assert load(kernel, linear, cpu.index) == second
    counters = kernel.highmem.windows.counters
    assert (counters.windows, counters.invlpg) == (2, 2 if stays else 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_without_the_flush_a_window_shows_the_last_frame(policy: str) -> None:
    kernel = made(policy, "no-window-flush")
    cpu, pfns = kernel.this_cpu, frames(kernel, 2)
    mark(kernel, pfns)
    said = []
    for pfn in pfns:
        linear = kernel.highmem.kmap_atomic(cpu, pfn)
        said.append(load(kernel, linear, cpu.index))
        kernel.highmem.kunmap_atomic(cpu, linear)
    assert said == [pfns[0], pfns[0]], "the CPU's TLB still has the first translation"


def test_the_stack_is_last_in_first_out() -> None:
    kernel = made("stack")
    cpu, (first, second) = kernel.this_cpu, frames(kernel, 2)
    lower, upper = kernel.highmem.kmap_atomic(cpu, first), kernel.highmem.kmap_atomic(cpu, second)
    with pytest.raises(LifoBreach, match=f"{lower:#010x} on frame {first:#x}, which is not its last") as caught:
        kernel.highmem.kunmap_atomic(cpu, lower)
    assert f"{upper:#010x} on frame {second:#x}" in caught.value.detail
    kernel.highmem.kunmap_atomic(cpu, upper)
    kernel.highmem.kunmap_atomic(cpu, lower)


@pytest.mark.parametrize("policy", ["slots", "heap"])
def test_slots_and_heap_close_in_any_order(policy: str) -> None:
    """2.6.11's copy helper closes first what it opened first (MM 14), wrong for the stack only."""
    kernel = made(policy)
    cpu, (first, second) = kernel.this_cpu, frames(kernel, 2)
    windows = [
        (kernel.highmem.kmap_atomic(cpu, first, KmType.USER0), KmType.USER0),
        (kernel.highmem.kmap_atomic(cpu, second, KmType.USER1), KmType.USER1),
    ]
    for linear, each in windows:
        kernel.highmem.kunmap_atomic(cpu, linear, each)
    assert kernel.highmem.depth == [0, 0]


def test_an_interrupt_clashes_with_the_task_in_the_same_slot() -> None:
    kernel = made("slots")
    cpu, (first, second) = kernel.this_cpu, frames(kernel, 2)
    kernel.highmem.kmap_atomic(cpu, first, KmType.USER0)
    cpu.in_interrupt = True
    with pytest.raises(SlotClash, match="an interrupt opens KM_USER0 of CPU 0, which is open") as caught:
        kernel.highmem.kmap_atomic(cpu, second, KmType.USER0)
    assert "opened by the kernel" in caught.value.detail
    linear = kernel.highmem.kmap_atomic(cpu, second, KmType.IRQ0)
    kernel.highmem.kunmap_atomic(cpu, linear, KmType.IRQ0)
    kernel.highmem.kmap_atomic(kernel.cpus[1], second, KmType.USER0)


@pytest.mark.parametrize("policy", POLICIES)
def test_who_closes_what_is_not_his(policy: str) -> None:
    kernel = made(policy)
    cpu, other = kernel.cpus
    (pfn,) = frames(kernel, 1)
    linear = kernel.highmem.kmap_atomic(other, pfn)
    with pytest.raises(WrongCpu, match=f"closes {linear:#010x} on frame {pfn:#x}, a kmap_atomic window of CPU 1"):
        kernel.highmem.kunmap_atomic(cpu, linear)
    kernel.highmem.kunmap_atomic(other, linear)
    for address in (linear, 0xFF800000):
        with pytest.raises(NotOpen):
            kernel.highmem.kunmap_atomic(other, address)


def test_a_slot_is_closed_as_what_it_was_opened() -> None:
    kernel = made("slots")
    linear = kernel.highmem.kmap_atomic(kernel.this_cpu, frames(kernel, 1)[0], KmType.USER0)
    with pytest.raises(NotOpen, match="is closed as KM_USER1"):
        kernel.highmem.kunmap_atomic(kernel.this_cpu, linear, KmType.USER1)


@pytest.mark.parametrize(("policy", "room"), [("stack", KM_SLOTS), ("heap", KM_SLOTS), ("slots", 1)])
def test_one_cpus_windows_full(policy: str, room: int) -> None:
    """The other CPU's are free, and what was refused has taken nothing."""
    kernel = made(policy)
    (pfn,) = frames(kernel, 1)
    for _ in range(room):
        kernel.highmem.kmap_atomic(kernel.cpus[0], pfn)
    with pytest.raises(SlotClash if policy == "slots" else WindowsUsedUp):
        kernel.highmem.kmap_atomic(kernel.cpus[0], pfn)
    assert kernel.highmem.depth == [room, 0]
    kernel.highmem.kunmap_atomic(kernel.cpus[1], kernel.highmem.kmap_atomic(kernel.cpus[1], pfn))


@pytest.mark.parametrize("policy", POLICIES)
def test_copies_with_one_cpus_windows_full_are_refused(policy: str) -> None:
    kernel = made(policy)
    cpu, (first, second) = kernel.this_cpu, frames(kernel, 2)
    for each in range(KM_TYPE_NR if policy == "slots" else KM_SLOTS):
        kernel.highmem.kmap_atomic(cpu, first, each)
    before = kernel.highmem.depth[0]
    with pytest.raises(KmapError):
        kernel.highmem.copy_highpage(cpu, second, first)
    assert kernel.highmem.depth[0] == before


@pytest.mark.parametrize("policy", POLICIES)
def test_a_copy_whose_second_address_is_refused_gives_the_first_back(policy: str) -> None:
    kernel = made(policy)
    cpu, (first, second) = kernel.this_cpu, frames(kernel, 2)
    for each in [KmType.USER1] if policy == "slots" else [KmType.IRQ0] * (KM_SLOTS - 1):
        kernel.highmem.kmap_atomic(cpu, first, each)
    before = dict(kernel.highmem.windows.live[0])
    with pytest.raises(SlotClash if policy == "slots" else WindowsUsedUp):
        kernel.highmem.copy_highpage(cpu, second, first)
    assert kernel.highmem.windows.live[0] == before and kernel.highmem.depth == [len(before), 0]


@pytest.mark.parametrize("what", ["vmalloc", "vremap"])
def test_what_may_sleep_is_refused_though_it_would_not(what: str) -> None:
    """might_sleep() of 2.6 complains in any atomic section, and kmap_atomic begins one."""
    kernel = made("stack")
    ask = (
        partial(kernel.vmalloc.vmalloc, 4096) if what == "vmalloc" else partial(kernel.ioremap.vremap, 0x80000000, 4096)
    )
    linear = kernel.highmem.kmap_atomic(kernel.this_cpu, frames(kernel, 1)[0])
    areas = len(kernel.vmalloc.areas)
    with pytest.raises(WindowsHeld, match=f"{what}.* with 1 kmap_atomic window of CPU 0 open"):
        ask()
    assert len(kernel.vmalloc.areas) == areas
    kernel.highmem.kunmap_atomic(kernel.this_cpu, linear)
    assert ask()


@pytest.mark.parametrize("wait", ["kmap", "sleep_on", "use_mm"])
def test_the_door_of_every_sleep_asks(wait: str) -> None:
    kernel = made("stack")
    kernel.highmem.kmap_atomic(kernel.this_cpu, frames(kernel, 1)[0])
    with pytest.raises(WindowsHeld, match=f"{wait} with 1 kmap_atomic window of CPU 0 open"):
        might_sleep(kernel.sched, wait)


def test_a_window_given_up_before_it_is_cleared_is_an_interrupts_trap() -> None:
    """The race that 2.6.37 fixed (MM 14): an interrupt between pop and clear meets the dirty slot."""
    for switches, meets in (((), False), (("no-clear-before-pop",), True)):
        kernel = made("stack", *switches)
        cpu, (mine, its) = kernel.this_cpu, frames(kernel, 2)
        linear = kernel.highmem.kmap_atomic(cpu, mine)
        windows = kernel.highmem.windows
        clear = windows._unmap_all

        def interrupted(
            cpu: KernelCpu, window: Any, windows: AtomicWindows = windows, clear: Any = clear, its: int = its
        ) -> None:
            windows._unmap_all = clear  # type: ignore[method-assign]
            taken = windows.open(cpu, (its,), KmType.IRQ0)
            windows.close(cpu, taken, KmType.IRQ0)
            clear(cpu, window)

        windows._unmap_all = interrupted  # type: ignore[method-assign]
        if meets:
            with pytest.raises(DirtySlot, match="still has its entry"):
                kernel.highmem.kunmap_atomic(cpu, linear)
        else:
            kernel.highmem.kunmap_atomic(cpu, linear)
            assert kernel.highmem.depth == [0, 0]


def test_runs_of_the_heap_and_its_fragmentation() -> None:
    """Post 004: "hand out how ever much is requested"; "I guess you could get fragmentation that way"."""
    kernel = made("heap")
    cpu, pfns, heap = kernel.this_cpu, frames(kernel, 4), kernel.highmem.windows
    assert isinstance(heap, HeapWindows)
    mark(kernel, pfns)
    run = heap.open(cpu, pfns, KmType.USER0)
    assert [load(kernel, run + number * PAGE_SIZE, cpu.index) for number in range(4)] == pfns
    assert heap.runs(0) == [KM_SLOTS - 4]
    heap.close(cpu, run)
    singles = [heap.open(cpu, pfns[:1], KmType.USER0) for _ in range(KM_SLOTS)]
    for linear in singles[::2]:
        heap.close(cpu, linear)
    with pytest.raises(WindowsUsedUp, match="2 in a row asked for, 8 free in 8 runs, 1 in a row at most"):
        heap.open(cpu, pfns[:2], KmType.USER0)
    counters = heap.counters
    assert counters.refused_by_fragmentation == counters.longest_when_refused == 1
    assert counters.free_when_refused == counters.runs_when_refused == 8 and heap.runs(0) == [1] * 8
    for policy in ("stack", "slots"):
        with pytest.raises(WindowsUsedUp, match="need the policy kmap_atomic=heap"):
            made(policy).highmem.windows.open(cpu, pfns[:2], KmType.USER0)


def test_what_is_held() -> None:
    kernel = made("stack")
    kernel.highmem.windows.check_released(kernel.this_cpu, "schedule")
    linear = kernel.highmem.kmap_atomic(kernel.this_cpu, frames(kernel, 1)[0])
    with pytest.raises(WindowsHeld, match="schedule with 1 kmap_atomic window of CPU 0 open") as caught:
        kernel.highmem.windows.check_released(kernel.this_cpu, "schedule")
    assert f"{linear:#010x}" in caught.value.detail


def test_the_scheduler_asks_before_a_task_sleeps(paging: str) -> None:
    """The task is still what it was; under no-window-check it is put aside with its window open."""
    for switches, wchan in (((), ""), (("no-window-check",), "a test")):
        kernel = made("stack", *switches, paging=paging)
        kernel.highmem.kmap_atomic(kernel.this_cpu, frames(kernel, 1)[0])
        task = SimpleNamespace(cpu=kernel.this_cpu, wchan="")
        kernel.sched._leave = lambda task: None  # type: ignore[method-assign]
        with nullcontext() if switches else pytest.raises(WindowsHeld, match="a task sleeps"):
            kernel.sched.sleep(cast(Any, task), "a test")
        assert task.wchan == wchan


class Windows(RuleBasedStateMachine):
    """Any order of opening and closing on 1 to 4 CPUs, beside a table of what must be seen."""

    @initialize(policy=st.sampled_from(POLICIES), cpus=st.integers(1, 4), paging=st.sampled_from(["pae", "legacy"]))
    def start(self, policy: str, cpus: int, paging: str) -> None:
        self.kernel, self.policy = made(policy, cpus=cpus, paging=paging), policy
        self.frames = frames(self.kernel, 8)
        mark(self.kernel, self.frames)
        self.open: list[list[tuple[int, list[int], int]]] = [[] for _ in range(cpus)]

    def cpu(self, number: int) -> KernelCpu:
        return self.kernel.cpus[number % len(self.kernel.cpus)]

    @rule(number=st.integers(0, 3), first=st.integers(0, 5), pages=st.integers(1, 3), km_type=st.integers(0, 12))
    def take(self, number: int, first: int, pages: int, km_type: int) -> None:
        cpu, run = self.cpu(number), self.frames[first : first + (pages if self.policy == "heap" else 1)]
        mine = self.open[cpu.index]
        try:
            linear = self.kernel.highmem.windows.open(cpu, run, km_type)
        except KmapError as error:
            full = sum(len(each[1]) for each in mine) + len(run) > KM_SLOTS
            clash = self.policy == "slots" and any(each[2] == km_type for each in mine)
            assert full or clash or (self.policy == "heap" and isinstance(error, WindowsUsedUp))
            return
        assert self.policy != "slots" or all(each[2] != km_type for each in mine), "one live slot per (type, cpu)"
        mine.append((linear, run, km_type))

    @rule(number=st.integers(0, 3), which=st.integers(0, 15))
    @precondition(lambda self: any(self.open))
    def give(self, number: int, which: int) -> None:
        cpu = self.cpu(number)
        mine = self.open[cpu.index]
        if mine:
            at = which % len(mine)
            linear, _, km_type = mine[at]
            if self.policy == "stack" and at != len(mine) - 1:
                with pytest.raises(LifoBreach):
                    self.kernel.highmem.kunmap_atomic(cpu, linear, km_type)
            else:
                self.kernel.highmem.kunmap_atomic(cpu, linear, km_type)
                del mine[at]

    @rule(number=st.integers(0, 3), nested=st.integers(1, 2))
    def interrupt(self, number: int, nested: int) -> None:
        """A handler opens windows over whatever is open, and another one comes while it has them."""
        cpu = self.cpu(number)
        before, its = cpu.in_interrupt, [(KmType.IRQ0, 6), (KmType.IRQ1, 7)][:nested]
        cpu.in_interrupt = True
        opened = []
        try:
            for each, frame in its:
                opened.append((self.kernel.highmem.kmap_atomic(cpu, self.frames[frame], each), frame, each))
            assert [load(self.kernel, linear, cpu.index) for linear, _, _ in opened] == [
                self.frames[frame] for _, frame, _ in opened
            ]
        except KmapError:
            mine = self.open[cpu.index]
            types = {each[2] for each in mine}
            full = sum(len(each[1]) for each in mine) + nested > KM_SLOTS
            assert types & {KmType.IRQ0, KmType.IRQ1} if self.policy == "slots" else full
        finally:
            for linear, _, each in reversed(opened):
                self.kernel.highmem.kunmap_atomic(cpu, linear, each)
            cpu.in_interrupt = before

    @rule(number=st.integers(0, 3))
    def fill(self, number: int) -> None:
        """One CPU's windows full: what is refused then changes nothing, and the others go on."""
        cpu = self.cpu(number)
        windows, mine = self.kernel.highmem.windows, self.open[cpu.index]
        for km_type in range(KM_TYPE_NR) if self.policy == "slots" else [KmType.USER0] * KM_SLOTS:
            try:
                mine.append((windows.open(cpu, self.frames[:1], km_type), self.frames[:1], km_type))
            except KmapError:
                continue
        before = dict(windows.live[cpu.index])
        for refused in (
            lambda: windows.open(cpu, self.frames[:1], KmType.USER0),
            lambda: self.kernel.highmem.copy_highpage(cpu, self.frames[1], self.frames[0]),
            lambda: (
                self.kernel.highmem.clear_highpage(self.frames[0]) if cpu is self.kernel.this_cpu else self.full(cpu)
            ),
        ):
            with pytest.raises(KmapError):
                refused()
        assert windows.live[cpu.index] == before

    def full(self, cpu: KernelCpu) -> None:
        self.kernel.highmem.windows.open(cpu, self.frames[:1], KmType.USER0)

    @rule(number=st.integers(0, 3), keep=st.integers(0, 3))
    def drain(self, number: int, keep: int) -> None:
        """Close the latest, down to a few."""
        cpu = self.cpu(number)
        mine = self.open[cpu.index]
        while len(mine) > keep:
            linear, _, km_type = mine.pop()
            self.kernel.highmem.kunmap_atomic(cpu, linear, km_type)

    @invariant()
    def the_heaps_bitmap_is_what_is_not_open(self) -> None:
        if not hasattr(self, "kernel") or self.policy != "heap":
            return
        heap = self.kernel.highmem.windows
        assert isinstance(heap, HeapWindows)
        for cpu, mine in enumerate(self.open):
            end = FIXADDR_END - cpu * KM_SLOTS * PAGE_SIZE
            taken = {(end - linear) // PAGE_SIZE - 1 - page for linear, run, _ in mine for page in range(len(run))}
            assert heap.free[cpu] == sum(1 << n for n in range(KM_SLOTS) if n not in taken)
            gaps = "".join(" " if n in taken else "#" for n in range(KM_SLOTS)).split()
            assert sorted(heap.runs(cpu)) == sorted(map(len, gaps))

    @invariant()
    def nothing_is_mapped_that_is_not_open(self) -> None:
        """The slots leave their entries (2.4); the others clear before they give a window up."""
        if not hasattr(self, "kernel") or self.policy == "slots":
            return
        tables, windows = self.kernel.tables, self.kernel.highmem.windows
        counters = windows.counters
        for cpu, mine in enumerate(self.open):
            end = FIXADDR_END - cpu * KM_SLOTS * PAGE_SIZE
            places = {end - (n + 1) * PAGE_SIZE for n in range(KM_SLOTS)}
            mapped = {at for at in places if tables.lookup_pte(tables.kernel_pgd, at)}
            assert mapped == {linear + page * PAGE_SIZE for linear, run, _ in mine for page in range(len(run))}
        assert counters.pte_stores == counters.pages + counters.invlpg
        assert counters.pages - counters.invlpg == sum(len(run) for mine in self.open for _, run, _ in mine)

    @invariant()
    def the_mmu_shows_the_frames(self) -> None:
        if not hasattr(self, "kernel"):
            return
        every = [linear + page * PAGE_SIZE for mine in self.open for linear, run, _ in mine for page in range(len(run))]
        assert len(every) == len(set(every))
        assert self.kernel.highmem.depth == [len(mine) for mine in self.open]
        for cpu, mine in zip(self.kernel.cpus, self.open, strict=True):
            for linear, run, _ in mine:
                assert [load(self.kernel, linear + n * PAGE_SIZE, cpu.index) for n in range(len(run))] == run


Windows.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestWindows = Windows.TestCase
