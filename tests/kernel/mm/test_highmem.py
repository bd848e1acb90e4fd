"""Windows on frames, on a booted machine with highmem."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.layout import FIXADDR_END, FIXADDR_START, PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.highmem import SLOTS, KmapError
from tests.conftest import MakeSession


@pytest.fixture
def kernel(session: MakeSession, paging: str) -> Kernel:
    return session("_start: pass", paging=paging, ram=1 << 30, cpus=2).kernel


def test_lowmem_is_the_direct_map(kernel: Kernel) -> None:
    pfn = kernel.alloc_frame()
    assert kernel.kmap.kmap(kernel.this_cpu, pfn) == PAGE_OFFSET + (pfn << 12)
    kernel.kmap.kunmap(kernel.this_cpu, PAGE_OFFSET + (pfn << 12))
    assert kernel.kmap.depth == [0, 0]


def test_windows_show_their_frames(kernel: Kernel) -> None:
    """Each window reaches its own frame, by the CPU's own stores and loads; a reused one is not stale."""
    cpu, kmap = kernel.cpus[1], kernel.kmap
    frames = [kernel.alloc_frame(highmem=True) for _ in range(2 * SLOTS)]
    assert min(frames) >= kernel.layout.direct_frames
    for half in (frames[:SLOTS], frames[SLOTS:]):
        windows = [kmap.kmap(cpu, pfn) for pfn in half]
        assert len(set(windows)) == SLOTS
        assert all(FIXADDR_START <= each < FIXADDR_END for each in windows)
        for pfn, window in zip(half, windows, strict=True):
            cpu.store(window, pfn.to_bytes(128, "little"))
        for window in reversed(windows):
            kmap.kunmap(cpu, window)
    for pfn in frames:
        assert kernel.memory.read(pfn << 12, 128) == pfn.to_bytes(128, "little")


def test_two_cpus_have_windows_of_their_own(kernel: Kernel) -> None:
    first, second = kernel.alloc_frame(highmem=True), kernel.alloc_frame(highmem=True)
    windows = [kernel.kmap.kmap(kernel.cpus[0], first), kernel.kmap.kmap(kernel.cpus[1], second)]
    assert windows[0] != windows[1]
    assert kernel.kmap.depth == [1, 1]


def test_too_many_and_out_of_order(kernel: Kernel) -> None:
    cpu, kmap, pfn = kernel.this_cpu, kernel.kmap, kernel.alloc_frame(highmem=True)
    windows = [kmap.kmap(cpu, pfn) for _ in range(SLOTS)]
    with pytest.raises(KmapError):
        kmap.kmap(cpu, pfn)
    with pytest.raises(KmapError):
        kmap.kunmap(cpu, windows[0])
    for window in reversed(windows):
        kmap.kunmap(cpu, window)
    with pytest.raises(KmapError):
        kmap.kunmap(cpu, windows[0])


def test_closed_windows_are_unmapped(kernel: Kernel) -> None:
    window = kernel.kmap.kmap(kernel.this_cpu, kernel.alloc_frame(highmem=True))
    kernel.kmap.kunmap(kernel.this_cpu, window)
    assert kernel.tables.lookup_pte(kernel.kernel_pgd, window) == 0
