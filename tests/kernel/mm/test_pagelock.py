"""Page locks: who finds a page locked sleeps, and what was waited for is looked at again."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.wait import WrongContext
from sandbox.kernel.mm.page import PG_LOCKED, BadPage
from sandbox.kernel.mm.pagelock import QUEUES, PageLocks
from tests.kernel.mm.conftest import MakeSpace, Space


class Sleeping:
    """A scheduler under which whoever sleeps lets ``others`` go on."""

    current = None

    def __init__(self) -> None:
        self.others: list[object] = []
        self.slept: list[object] = []
        self.atomic = False

    def schedule(self, queues: object, what: str, until: int | None = None) -> None:
        self.slept.append(tuple(queues))  # type: ignore[call-overload]
        self.others.pop(0)()  # type: ignore[operator]

    def wake_up(self, queue: object) -> None:
        """Nobody else is there."""

    def in_atomic(self) -> bool:
        return self.atomic

    def check_sleep(self, what: str) -> None:
        """No window is open."""


def made(space: MakeSpace) -> tuple[Space, Sleeping, PageLocks, int]:
    bench, sched = space(), Sleeping()
    locks = PageLocks(bench.kernel.memmap, sched)  # type: ignore[arg-type]
    return bench, sched, locks, bench.kernel.page_alloc.alloc_page()


def test_a_lock_is_a_flag_of_the_frame(space: MakeSpace) -> None:
    bench, _, locks, pfn = made(space)
    locks.lock_page(pfn)
    assert bench.kernel.memmap.flags(pfn) & PG_LOCKED and locks.locked(pfn) and locks.held == 1
    locks.unlock_page(pfn)
    assert not bench.kernel.memmap.flags(pfn) & PG_LOCKED and not locks.held
    with pytest.raises(BadPage, match="was not locked"):
        locks.unlock_page(pfn)


def test_the_second_sleeps_until_the_first_is_done(space: MakeSpace) -> None:
    _, sched, locks, pfn = made(space)
    locks.lock_page(pfn)
    sched.others = [lambda: None, lambda: locks.unlock_page(pfn)]
    locks.lock_page(pfn)
    assert len(sched.slept) == 2, "woken for nothing, it looked and slept again"
    assert locks.held == 1


def test_frames_share_few_queues(space: MakeSpace) -> None:
    _, sched, locks, first = made(space)
    for pfn in range(first, first + 3 * QUEUES):
        sched.others = [lambda: None, lambda pfn=pfn: locks.unlock_page(pfn)]  # type: ignore[misc]
        locks.lock_page(pfn)
        locks.wait_on_page(pfn)
    assert 1 < len(set(sched.slept)) <= QUEUES


def test_in_an_interrupt_nobody_waits(space: MakeSpace) -> None:
    _, sched, locks, pfn = made(space)
    locks.lock_page(pfn)
    sched.atomic = True
    with pytest.raises(WrongContext, match="nothing may sleep"):
        locks.wait_on_page(pfn)


def test_a_page_that_is_read_in_makes_others_wait(space: MakeSpace) -> None:
    """One reads from below and is left standing there; the other finds the page locked, and gets the same one."""
    bench = space()
    kernel, cache = bench.kernel, bench.kernel.pagecache
    inode = kernel.files.add("/tmp/file", b"x" * 5000)
    waited = []
    read = inode.read_block

    def slow(index: int) -> bytes:
        pfn = cache.cached(inode, index)
        assert pfn is not None and kernel.memmap.flags(pfn) & PG_LOCKED
        waited.append(pfn)
        return read(index)

    inode.read_block = slow  # type: ignore[method-assign]
    pfn = cache.find_page(inode, 0)
    assert waited == [pfn] and not kernel.memmap.flags(pfn) & PG_LOCKED
    assert cache.find_page(inode, 0) == pfn and cache.reads == 1


def test_a_page_that_is_cut_off_while_it_is_read_is_looked_up_again(space: MakeSpace) -> None:
    bench = space()
    kernel, cache = bench.kernel, bench.kernel.pagecache
    inode = kernel.files.add("/tmp/file", b"x" * 5000)
    read, frames = inode.read_block, kernel.pgdat.free_frames

    def cut(index: int) -> bytes:
        inode.read_block = read  # type: ignore[method-assign]
        cache.truncate_inode_pages(inode, 0)
        return read(index)

    inode.read_block = cut  # type: ignore[method-assign]
    pfn = cache.find_page(inode, 0)
    assert cache.cached(inode, 0) == pfn and kernel.memmap.count(pfn) == 1
    assert kernel.pgdat.free_frames == frames - 1
