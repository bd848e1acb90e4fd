"""Windows on frames, on a booted machine with highmem."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.layout import FIXADDR_END, FIXADDR_START, PAGE_OFFSET
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER, GFP_USER
from sandbox.kernel.mm.kmap_atomic import KM_SLOTS, KmapError
from sandbox.x86.paging import PAGE_SIZE
from tests.conftest import MakeSession


@pytest.fixture
def kernel(session: MakeSession, paging: str) -> Kernel:
    return session("_start: pass", paging=paging, ram=1 << 30, cpus=2).kernel


def test_lowmem_is_the_direct_map(kernel: Kernel) -> None:
    pfn = kernel.page_alloc.alloc_page()
    assert kernel.highmem.kmap_atomic(kernel.this_cpu, pfn) == PAGE_OFFSET + (pfn << 12)
    kernel.highmem.kunmap_atomic(kernel.this_cpu, PAGE_OFFSET + (pfn << 12))
    assert kernel.highmem.depth == [0, 0]


def test_windows_show_their_frames(kernel: Kernel) -> None:
    """Each window reaches its own frame, by the CPU's own stores and loads; a reused one is not stale."""
    cpu, kmap = kernel.cpus[1], kernel.highmem
    frames = [kernel.page_alloc.alloc_page(GFP_HIGHUSER) for _ in range(2 * KM_SLOTS)]
    assert min(frames) >= kernel.layout.direct_frames
    for half in (frames[:KM_SLOTS], frames[KM_SLOTS:]):
        windows = [kmap.kmap_atomic(cpu, pfn) for pfn in half]
        assert len(set(windows)) == KM_SLOTS
        assert all(FIXADDR_START <= each < FIXADDR_END for each in windows)
        for pfn, window in zip(half, windows, strict=True):
            cpu.store(window, pfn.to_bytes(128, "little"))
        for window in reversed(windows):
            kmap.kunmap_atomic(cpu, window)
    for pfn in frames:
        assert kernel.memory.read(pfn << 12, 128) == pfn.to_bytes(128, "little")


def test_two_cpus_have_windows_of_their_own(kernel: Kernel) -> None:
    first, second = kernel.page_alloc.alloc_page(GFP_HIGHUSER), kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    windows = [kernel.highmem.kmap_atomic(kernel.cpus[0], first), kernel.highmem.kmap_atomic(kernel.cpus[1], second)]
    assert windows[0] != windows[1]
    assert kernel.highmem.depth == [1, 1]


def test_too_many_and_out_of_order(kernel: Kernel) -> None:
    cpu, kmap, pfn = kernel.this_cpu, kernel.highmem, kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    windows = [kmap.kmap_atomic(cpu, pfn) for _ in range(KM_SLOTS)]
    with pytest.raises(KmapError):
        kmap.kmap_atomic(cpu, pfn)
    with pytest.raises(KmapError):
        kmap.kunmap_atomic(cpu, windows[0])
    for window in reversed(windows):
        kmap.kunmap_atomic(cpu, window)
    with pytest.raises(KmapError):
        kmap.kunmap_atomic(cpu, windows[0])


def test_closed_windows_are_unmapped(kernel: Kernel) -> None:
    window = kernel.highmem.kmap_atomic(kernel.this_cpu, kernel.page_alloc.alloc_page(GFP_HIGHUSER))
    kernel.highmem.kunmap_atomic(kernel.this_cpu, window)
    assert kernel.tables.lookup_pte(kernel.tables.kernel_pgd, window) == 0


@pytest.mark.parametrize("highmem", [(True, True), (True, False), (False, True), (False, False)])
def test_copies_and_clears_by_the_cpu(kernel: Kernel, highmem: tuple[bool, bool]) -> None:
    cpu, windows = kernel.this_cpu, kernel.highmem
    source, target = (kernel.page_alloc.alloc_page(GFP_HIGHUSER if each else GFP_USER) for each in highmem)
    window = windows.kmap_atomic(cpu, source)
    for at in range(0, PAGE_SIZE, 128):
        cpu.store(window + at, bytes(range(at % 96, at % 96 + 128)))
    windows.kunmap_atomic(cpu, window)
    before = kernel.stats.bytes_by_guest
    windows.copy_highpage(cpu, target, source)
    assert kernel.stats.bytes_by_guest == before + PAGE_SIZE
    assert kernel.memory.read(target * PAGE_SIZE, PAGE_SIZE) == kernel.memory.read(source * PAGE_SIZE, PAGE_SIZE)
    windows.clear_tail(target, 4000)
    assert kernel.memory.read(target * PAGE_SIZE + 3999, 97) == b"\x3f" + bytes(96)
    windows.clear_highpage(target)
    assert kernel.memory.read(target * PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)
    assert windows.depth == [0, 0]
