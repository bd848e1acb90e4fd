"""Frames in use that a module gives to free_page: refused with a name, and nothing of them is handed out (MM 2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm.gfp import GFP_ATOMIC, GFP_KERNEL
from sandbox.kernel.mm.mmap import MAP_FIXED, MAP_SHARED
from sandbox.kernel.mm.page import BadPage
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space


def table(made: Space) -> int:
    """The frame of a page table of the process, found in its directory by the manual's format (SDM 3A 4.3)."""
    entry = made.kernel.memory.words[(made.mm.pgd * PAGE >> 2) + (AREA >> 22)]
    return entry >> 12


def user_page(made: Space) -> int:
    return made.frame(AREA)


def file_page(made: Space) -> int:
    return made.kernel.pagecache.find_page(made.session._inode, 0)


def mapped_file_page(made: Space) -> int:
    at = AREA + 64 * PAGE
    made.kernel.mmap.do_mmap(made.task, at, PAGE, 1, MAP_SHARED | MAP_FIXED, made.session._inode, 0)
    made.read(at)
    return made.frame(at)


def vmalloc_page(made: Space) -> int:
    made.kernel.vmalloc.vmalloc(PAGE)
    return made.kernel.vmalloc.areas[-1].frames[0]


LIVE: dict[str, Callable[[Space], int]] = {
    "the page directory of process PID": lambda made: made.mm.pgd,
    "a page table": table,
    "the kernel stack of process PID": lambda made: made.task.stack_frames[0],
    "a page of process PID at 0x50000000": user_page,
    "a page of the page cache": file_page,
    "a page of process PID at 0x50040000": mapped_file_page,
    "in the vmalloc area at": vmalloc_page,
    "the kernel's own": lambda made: made.kernel.page_alloc.alloc_page(),
}


@pytest.mark.parametrize("what", LIVE)
def test_live_frames_are_refused(space: MakeSpace, what: str) -> None:
    made = space(paging="legacy", ram=16 << 20)
    made.map()
    made.write(AREA, 77)
    kernel = made.kernel
    pfn = LIVE[what](made)
    free, count = kernel.pgdat.free_frames, kernel.memmap.count(pfn)
    for _ in range(2):
        with pytest.raises(BadPage, match=f"freed while in use: it is {what.replace('PID', str(made.task.pid))}"):
            kernel.page_alloc.free_linear(PAGE_OFFSET + pfn * PAGE)
    assert (kernel.pgdat.free_frames, kernel.memmap.count(pfn)) == (free, count)
    taken = set()
    with pytest.raises(OutOfMemory):
        while True:
            taken.add(kernel.page_alloc.alloc_pages(GFP_ATOMIC))
    assert pfn not in taken
    assert made.read(AREA) == 77


def test_a_reference_of_ones_own_may_be_dropped(space: MakeSpace) -> None:
    """2.4: put_page is __free_page; who has taken a reference on a page of a program gives it back so."""
    made = space()
    made.map()
    made.write(AREA, 77)
    pfn = made.frame(AREA)
    made.kernel.memmap.get_page(pfn)
    made.kernel.page_alloc.free_pages(pfn)
    assert made.kernel.memmap.count(pfn) == 1
    with pytest.raises(BadPage, match="freed while in use"):
        made.kernel.page_alloc.free_pages(pfn)


def test_what_was_asked_for_can_be_freed_once(space: MakeSpace) -> None:
    pages = space().kernel.page_alloc
    for order in (0, 2):
        pfn = pages.alloc_pages(GFP_KERNEL, order)
        pages.free_pages(pfn, order)
        with pytest.raises(BadPage, match="freed twice"):
            pages.free_pages(pfn, order)
