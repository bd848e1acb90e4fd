"""The nth request for frames fails, for every n that matters: an error, a signal or success, and nothing leaks."""

from __future__ import annotations

import pytest

from sandbox.image.build import IMAGES
from sandbox.kernel.module.owners import FRAMES
from sandbox.runner.modules import ModuleSession
from sandbox.runner.run import Session, open_session
from sandbox.runner.session import TAINTED
from sandbox.runner.target import resolve
from sandbox.x86.errors import SandboxError
from tests.campaign import part

MODULES = ("boot-mem", "buddy", "kmalloc", "vmalloc", "card", "page-clear", "module-asm", "module-nasm", "module-user")
PROGRAMS = (
    "user-access",
    "use-mm",
    "verify-area",
    "module-busy",
    "vmalloc-sync",
    "swap-daemon",
    "cow-fork",
    "fork-tree",
)
MOST = 400


def held(session: Session | ModuleSession) -> int:
    """Frames that somebody holds when everything has ended, but for what is kept for the next."""
    kernel = session.kernel
    kept = (
        kernel.table_frames.held
        + kernel.stacks.spare_frames
        + len(list(kernel.pagecache.frames()))
        + kernel.kmalloc.pages
    )
    kept += sum(len(area.frames) for area in kernel.vmalloc.areas)
    return kernel.pgdat.total_frames - kernel.pgdat.free_frames - kept


def assert_no_users(session: Session | ModuleSession, number: int) -> None:
    """Whoever failed in the middle of a copy has given its address of a pool back; modules answer for theirs."""
    kernel = session.kernel
    if not session.modules.tainted:
        assert not [slot for slot in kernel.kva.slots if slot.users], f"request {number}: a kva is held for ever"
        assert all(count < 2 for count in kernel.kmap.counts), f"request {number}: a slot of kmap is held for ever"
        assert not any(kernel.highmem.depth), f"request {number}: a window is open for ever"


def run_with_failure(name: str, number: int, **more: object) -> bool:
    """False when the image has fewer requests; ``more`` is of its KernelConfig."""
    target = resolve(IMAGES / name)
    paging = target.manifest.paging[0] if target.manifest else "pae"
    config = target.config(paging=paging, fail_allocation=number, time_limit=20.0, block_limit=3_000_000, **more)
    with open_session(target, config) as session:
        kernel = session.kernel
        areas = len(kernel.vmalloc.areas)
        try:
            result = session.finish()
        except SandboxError as error:
            assert error.exit_status != 3, f"request {number}: {error.summary}"
            modules = len(session.system.gate.owners.held([FRAMES]))
            assert held(session) - modules <= 2, f"request {number}: {error.summary}"
            assert_no_users(session, number)
            return True
        failed = bool(kernel.page_alloc.pressure.injected)
        assert TAINTED not in result.detail, f"request {number}: {result.error}\n{result.detail}"
        assert failed or result.passed, f"nothing failed and yet: {result.headline()}"
        assert_no_users(session, number)
        if not result.error:
            assert held(session) == 0, f"request {number} ({result.headline()}): frames were left"
            assert not session.modules.loaded
            assert all(area.kind == "vmalloc" for area in kernel.vmalloc.areas[areas:])
        return failed


@pytest.mark.parametrize("dense", part((5, 12), 1))
@pytest.mark.parametrize("name", MODULES + PROGRAMS)
def test_every_failure(name: str, dense: int) -> None:
    """The first ``dense`` one by one, then as many in each multiple of e: the campaign goes in smaller steps."""
    number = 1
    while number < MOST and run_with_failure(name, number):
        number += max(1, number // dense)
    assert number > 4, "the first few requests are the loader's own"


TWO_SLOTS = ("kva-threads", "kva-sleep", "kva-recycle", "cow-fork", "cow-kernel-write", "fork-tree", "group-exit")
"""Reads by threads, sleeping, a module, copy on write, writes by the kernel, fork, exec, by way of two addresses."""


@pytest.mark.parametrize("pool", ["kva", "kmap"])
@pytest.mark.parametrize("name", TWO_SLOTS)
def test_every_failure_with_two_slots(name: str, pool: str) -> None:
    number = 1
    while number < MOST and run_with_failure(
        name, number, boot="highmem=8m pkmap=2 kva=8k", policies={"high_pages": pool}
    ):
        number += max(1, number // 6)
    assert number > 4


@pytest.mark.parametrize("name", ["cow-fork", "fork-tree"])
def test_every_failure_with_the_tasks_own_addresses(name: str) -> None:
    """The pair's table is a frame that may be missing in the middle of a page fault."""
    number = 1
    while number < MOST and run_with_failure(name, number, boot="highmem=8m", policies={"high_pages": "task"}):
        number += max(1, number // 12)
    assert number > 4
