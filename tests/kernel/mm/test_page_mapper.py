"""The two addresses by which pages are copied and cleared: post 001's fifth point, in both readings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from sandbox.kernel.arch.cpu import Thread
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.kmap_atomic import SlotClash
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.page_mapper import NoTaskContext, TaskAddress
from sandbox.machine.memory import Reason
from sandbox.x86.paging import PAGE_SIZE
from tests.conftest import MakeSession, Run

COW = """
_start:
        mov dword ptr [data], 5
        mov eax, 2                              # fork
        int 0x80
        mov dword ptr [data], eax               # both write: one copies
        mov ebx, 0
        test eax, eax
        jz out
        or ebx, -1                              # waitpid(-1, 0, 0)
        xor ecx, ecx
        xor edx, edx
        mov eax, 7
        int 0x80
        xor ebx, ebx
        cmp dword ptr [data + 4], 77
        je out
        inc ebx
out:    mov eax, 1
        int 0x80
        .data
data:   .long 0, 77
"""
FIRST_USES = """
_start:
        mov dword ptr [page], 5                 # the program's first page is cleared
        mov eax, 2                              # fork
        int 0x80
        test eax, eax
        jnz parent
        mov dword ptr [page], 6                 # the child's first is copied
        xor ebx, ebx
        jmp out
parent: or ebx, -1                              # waitpid(-1, 0, 0)
        xor ecx, ecx
        xor edx, edx
        mov eax, 7
        int 0x80
        xor ebx, ebx
        cmp dword ptr [page], 5
        je out
        inc ebx
out:    mov eax, 1
        int 0x80
        .bss
        .balign 4096
page:   .skip 4096
"""


@pytest.mark.parametrize("policy", ["atomic", "local", "task"])
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_cow_copy_opens_one_window(session: MakeSession, paging: str, policy: str, cpus: int) -> None:
    """The source is read through the faulting process's own mapping; nothing but the destination is mapped."""
    made = session(COW, paging=paging, ram=32 << 20, boot="highmem=16m", cpus=cpus, policies={"high_pages": policy})
    kernel = made.kernel
    opened: list[tuple[int, int]] = []
    kernel.stats.cow_copies = 0
    copy = kernel.highmem._copy_page

    def counted() -> int:
        return kernel.highmem.windows.counters.windows + kernel.highmem.counters.maps

    class Spy:
        def __call__(self, *arguments: object) -> None:
            before = counted()
            copy(*arguments)  # type: ignore[arg-type]
            opened.append((before, counted()))

    type(kernel.highmem)._copy_page, kept = Spy(), type(kernel.highmem)._copy_page  # type: ignore[method-assign,assignment]
    try:
        result = made.finish()
    finally:
        type(kernel.highmem)._copy_page = kept  # type: ignore[method-assign]
    assert result.status == 0 and kernel.stats.cow_copies >= 1
    assert all(after - before == 1 for before, after in opened) and opened
    assert kernel.highmem.depth == [0] * cpus
    assert (kernel.highmem.counters.maps > 0) is (policy != "atomic")


def booted(session: MakeSession, policy: str, paging: str = "pae") -> tuple[Kernel, list[int]]:
    machine = {"ram": 32 << 20, "boot": "highmem=16m", "cpus": 2, "paging": paging}
    kernel = session("_start: pass", **machine, policies={"high_pages": policy}).kernel
    return kernel, [kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(2)]


def test_local_addresses_of_two_cpus(session: MakeSession) -> None:
    kernel, (first, second) = booted(session, "local")
    for cpu in kernel.cpus:
        source, target = kernel.highmem.mappers(cpu)
        pair = source.map(cpu, first), target.map(cpu, second)
        assert [kernel.tables.pte_pfn(kernel.tables.lookup_pte(kernel.tables.kernel_pgd, at)) for at in pair] == [
            first,
            second,
        ]
        with pytest.raises(SlotClash):
            source.map(cpu, second)
        for mapper, pfn, at in zip((source, target), (first, second), pair, strict=True):
            mapper.unmap(cpu, pfn, at)
    assert kernel.highmem.counters.maps == kernel.highmem.counters.invlpg == 4
    kernel.memory.host_write(first * PAGE_SIZE, (4711).to_bytes(4, "little"), Reason.DMA)
    kernel.highmem.copy_highpage(kernel.cpus[1], second, first)
    assert kernel.memory.words[second << 10] == 4711


def test_the_tasks_pair_is_in_its_own_table_and_nowhere_else(session: MakeSession) -> None:
    kernel, (pfn, _) = booted(session, "task")
    cpu, mm, mapper = kernel.this_cpu, kernel.mmu.mm_alloc(), kernel.highmem._mappers[1]
    assert isinstance(mapper, TaskAddress)
    with pytest.raises(NoTaskContext, match="by the task's own addresses, and no task's page table"):
        kernel.highmem.clear_highpage(pfn, strict=True)
    kernel.highmem.clear_highpage(pfn)
    assert kernel.highmem.counters.strays == 1, "the kernel clears pages outside of tasks, other than the post thinks"
    cpu.current, cpu.active_mm, cpu.cr3 = cast(Thread, SimpleNamespace(pid=7, pending=0)), mm, mm.cr3
    linear = mapper.map(cpu, pfn)
    assert linear < 0x10000, "below mmap's lowest address"
    assert kernel.tables.pte_pfn(kernel.tables.lookup_pte(mm.pgd, linear)) == pfn
    assert not kernel.tables.lookup_pte(mm.pgd, linear) & 4, "not for ring 3"
    assert kernel.tables.lookup_pte(kernel.tables.kernel_pgd, linear) == 0
    mapper.unmap(cpu, pfn, linear)
    assert kernel.tables.lookup_pte(mm.pgd, linear) == 0
    kernel.memory.host_write(pfn * PAGE_SIZE, b"\1", Reason.DMA)
    kernel.highmem.clear_highpage(pfn, strict=True)
    assert kernel.memory.read(pfn * PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)
    cpu.in_interrupt = True
    with pytest.raises(NoTaskContext, match="an interrupt"):
        kernel.highmem.clear_highpage(pfn, strict=True)
    cpu.in_interrupt, cpu.current = False, None


def in_a_task(session: MakeSession, paging: str = "pae") -> tuple[Kernel, list[int]]:
    """On a CPU that runs a task in an address space of its own, whose table for the two addresses is not there yet."""
    kernel, pfns = booted(session, "task", paging)
    cpu, mm = kernel.this_cpu, kernel.mmu.mm_alloc()
    kernel.mmu.switch_mm(cpu, mm)
    cpu.current = cast(Thread, SimpleNamespace(pid=7, pending=0))
    return kernel, pfns


def test_without_a_frame_for_its_table_the_tasks_pair_takes_nothing(session: MakeSession, paging: str) -> None:
    kernel, (first, second) = in_a_task(session, paging)
    held = kernel.table_frames.held
    for copy in (
        lambda: kernel.highmem.copy_highpage(kernel.this_cpu, second, first, strict=True),
        lambda: kernel.highmem.clear_highpage(second, strict=True),
    ):
        kernel.page_alloc.failing.arm(1)
        with pytest.raises(OutOfMemory, match="request 1 for frames fails"):
            copy()
        kernel.page_alloc.failing.arm(0)
        assert (kernel.table_frames.held, kernel.highmem.counters.maps) == (held, 0)
    kernel.memory.host_write(first * PAGE_SIZE, (4711).to_bytes(4, "little"), Reason.DMA)
    kernel.highmem.copy_highpage(kernel.this_cpu, second, first, strict=True)
    assert kernel.memory.words[second << 10] == 4711 and kernel.table_frames.held > held
    kernel.this_cpu.current = None


def test_a_refused_target_gives_the_source_back(session: MakeSession) -> None:
    """The second address has no table: by then the first has its entry.  Next time both are free."""
    kernel, (first, second) = in_a_task(session)
    cpu, (source, target) = kernel.this_cpu, kernel.highmem._mappers
    assert isinstance(source, TaskAddress) and isinstance(target, TaskAddress)
    kernel.highmem.clear_highpage(first, strict=True)
    target._busy[cpu.index] = "an interrupt"
    with pytest.raises(SlotClash):
        kernel.highmem.copy_highpage(cpu, second, first, strict=True)
    assert source._busy[cpu.index] == ""
    assert not kernel.tables.lookup_pte(cast(Mm, cpu.active_mm).pgd, source.address(cpu.index))
    cpu.current = None


@pytest.mark.parametrize("text", [COW, FIRST_USES], ids=["cow", "first"])
@pytest.mark.parametrize("policy", ["task", "atomic"])
def test_a_page_that_gets_no_address_is_not_lost(run: Run, paging: str, policy: str, text: str) -> None:
    """Every request for a frame fails once, that for the table of the task's pair among them: SIGKILL, nothing lost."""
    config = {"paging": paging, "ram": 32 << 20, "boot": "highmem=16m", "policies": {"high_pages": policy}}
    ends = set()
    for number in range(7 if paging == "pae" else 4, 26):
        result = run(text, **config, fail_allocation=number)
        assert not result.error and result.summary.frames_lost == 0
        ends.add((result.status, result.signal))
    assert ends == {(0, 0), (0, 9)}
