"""Any order of kmap and kunmap on two slots and two CPUs: what holds after every step (MM 13)."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.kernel.base.layout import PKMAP_BASE
from sandbox.kernel.kernel import Kernel
from sandbox.x86.paging import PAGE_SIZE
from tests.kernel.mm.machines import high, load
from tests.kernel.mm.test_kmap import machine, present

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 1)), max_size=24)
"""Map or give back, which of four pages, on which CPU."""


@cache
def booted() -> tuple[Kernel, list[int]]:
    """A machine for all examples, each of which gives back what it took, and four frames of highmem."""
    kernel = machine(cpus=2)
    return kernel, high(kernel, 4)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_counts_entries_and_addresses(steps: list[tuple[bool, int, int]]) -> None:
    kernel, frames = booted()
    kmap, held = kernel.kmap, list[tuple[int, int]]()
    for mapping, which, cpu in steps:
        pfn = frames[which]
        if mapping and len({page for page, _ in held} | {pfn}) <= kmap.capacity:
            held.append((pfn, kmap.map(kernel.cpus[cpu], pfn)))
            assert load(kernel, held[-1][1], cpu) == pfn
        elif not mapping and held:
            kmap.unmap(kernel.cpus[cpu], *held.pop(which % len(held)))
        check(kernel, held)
    while held:
        kmap.unmap(kernel.cpus[0], *held.pop())


def check(kernel: Kernel, held: list[tuple[int, int]]) -> None:
    """count >= 1 where an entry is present and nowhere else; n is n - 1 users; a page has one address; CPUs see it."""
    for slot, count in enumerate(kernel.kmap.counts):
        users = [pfn for pfn, linear in held if linear == PKMAP_BASE + slot * PAGE_SIZE]
        assert present(kernel, slot) == (count >= 1) and max(count - 1, 0) == len(users)
    assert len(set(held)) == len({pfn for pfn, _ in held})
    for pfn, linear in set(held):
        assert [load(kernel, linear, cpu) for cpu in (0, 1)] == [pfn, pfn]
