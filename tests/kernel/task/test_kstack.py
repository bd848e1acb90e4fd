"""Kernel stacks: a page each, and on both sides pages that are never there."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from sandbox.kernel.base.layout import KSTACK_BASE, KSTACK_END, KSTACKS, kstack_page
from sandbox.kernel.mm.vmscan import Need
from sandbox.x86.paging import PAGE_SIZE, P
from tests.conftest import MakeSession, Run

PASS = "_start: pass"


def test_every_number_has_a_page_of_its_own() -> None:
    pages = [kstack_page(number) for number in range(KSTACKS)]
    assert len(set(pages)) == KSTACKS == 512
    assert all(KSTACK_BASE < page < KSTACK_END and page % (2 * PAGE_SIZE) == PAGE_SIZE for page in pages)


@pytest.mark.parametrize("count", [2, 4, 16, 64])
def test_the_first_are_far_apart(count: int) -> None:
    pages = sorted(kstack_page(number) for number in range(count))
    assert {after - before for before, after in pairwise(pages)} == {(4 << 20) // count}


PAGE = (Path(__file__).resolve().parents[3] / "docs/modules.md").read_text()


@pytest.mark.parametrize(("count", "kilobytes"), re.findall(r"\n\| (\d+) \| (\d+) KB \|", PAGE))
def test_the_steps_that_are_caught(count: str, kilobytes: str) -> None:
    """From anywhere in a stack a step ends above the next page that is mapped: what docs/modules.md says."""
    pages = sorted(kstack_page(number) for number in range(int(count)))
    nearest = min(after - (before + PAGE_SIZE) for before, after in pairwise(pages))
    assert nearest == int(kilobytes) << 10


@pytest.mark.parametrize("cpus", [1, 3])
def test_guards_are_in_no_directory(session: MakeSession, paging: str, cpus: int) -> None:
    """Boot's, interrupts' and tasks', seen from the kernel's directory and from a program's."""
    made = session(PASS, paging=paging, cpus=cpus)
    kernel, task = made.kernel, made.load()
    stacks = [task.kstack, *(each for cpu in kernel.cpus for each in (cpu.idle, cpu.ipi))]
    assert len({stack.stack_top for stack in stacks}) == 2 * cpus + 1
    assert task.mm is not None
    for pgd in (kernel.tables.kernel_pgd, task.mm.pgd):
        for stack in stacks:
            there = [
                bool(kernel.tables.lookup_pte(pgd, stack.stack_top + page * PAGE_SIZE) & P) for page in (-3, -2, -1)
            ]
            assert there == [False, False, True]


def test_a_stack_that_is_given_back_is_mapped_no_more(session: MakeSession, paging: str) -> None:
    kernel = session(PASS, paging=paging).kernel
    free = kernel.pgdat.free_frames
    stack, frames = kernel.stacks.new_kstack()
    page = stack.stack_top - PAGE_SIZE
    assert kernel.tables.pte_pfn(kernel.tables.lookup_pte(kernel.tables.kernel_pgd, page)) == frames[0]
    kernel.this_cpu.store(page, b"x" * 128)
    kernel.stacks.put_kstack(stack, frames)
    flushes = kernel.tlb.counters.everything
    assert kernel.stacks.shrink(Need(tuple(kernel.pgdat.zones))) >= 2
    assert kernel.tlb.counters.everything == flushes + 1
    assert not kernel.tables.lookup_pte(kernel.tables.kernel_pgd, page)
    assert kernel.pgdat.free_frames == free
    assert kernel.stacks.new_kstack()[0].stack_top == stack.stack_top


def test_when_the_region_is_full_there_is_another(session: MakeSession, paging: str) -> None:
    """Every directory that is there knows of it: a push may not fault."""
    made = session(PASS, paging=paging, policies={"kernel_pmd": "process"})
    kernel, task = made.kernel, made.load()
    tops = {kernel.stacks.new_kstack()[0].stack_top for _ in range(KSTACKS + 100)}
    assert len(tops) == KSTACKS + 100
    assert task.mm is not None
    for top in tops:
        assert [kernel.tables.lookup_pte(task.mm.pgd, top - at * PAGE_SIZE) & P for at in (1, 2)] == [P, 0]


def test_more_processes_than_one_region_holds(run: Run) -> None:
    """600 at once, as Linux has them on a machine of this size (2.4: max_threads)."""
    text = """
_start: mov ebp, 600
1:      fork_to child
        dec ebp
        jnz 1b
        mov ebp, 600
2:      sys waitpid, -1, 0, 0
        test eax, eax
        js 3f
        dec ebp
        jnz 2b
        pass
3:      sys exit, 1
child:  sys nanosleep, "offset long", 0
        sys exit, 0
        .data
long:   .long 10, 0
"""
    assert run(text, ram=64 << 20).passed
