"""Requests for frames fail on machines with highmem, under every way to reach a page, with pools of a slot or two.

Each outcome is typed: success, an error of the program's, a signal, or one line of the sandbox's; nothing is left over:
no frame, no window, no user of a slot.
"""

from __future__ import annotations

import pytest

from sandbox.image.build import IMAGES
from sandbox.kernel.kernel import Kernel
from sandbox.runner.run import open_session
from sandbox.runner.session import TAINTED
from sandbox.runner.target import resolve
from sandbox.x86.errors import SandboxError
from tests.campaign import part
from tests.robustness.test_fault_injection import held

MB = 1 << 20
WAYS = [
    *({"high_pages": way} for way in ("atomic", "kva", "kmap", "local", "task")),
    *({"kmap_atomic": kind} for kind in ("slots", "heap")),
]
PROGRAMS = ("cow-fork", "file-private", "fork-tree", "bss-tail")
MODULES = ("above-4g", "kva-recycle", "kmap-irq", "vmalloc")
"""Where a check fails, what the module had is not given back: only the kernel's own part is looked at."""
MOST = 300


def at_rest(kernel: Kernel) -> None:
    """Nobody uses a window or a slot."""
    assert not any(kernel.highmem.depth)
    assert not any(slot.users for slot in kernel.kva.mapped.values())
    assert not any(count > 1 for count in kernel.kmap.counts)


def run_with_failure(name: str, policies: dict[str, str], number: int) -> bool:
    """False when the image has fewer requests."""
    target = resolve(IMAGES / name)
    words: dict[str, object] = {"ram": 64 * MB, "direct_map": 40 * MB, "boot": "kva=8k pkmap=2"}
    if name == "above-4g":
        words = {"boot": "kva=8k pkmap=2"}
    config = target.config(
        paging="pae", policies=policies, fail_allocation=number, time_limit=20.0, block_limit=3_000_000, **words
    )
    with open_session(target, config) as session:
        kernel = session.kernel
        try:
            result = session.finish()
        except SandboxError as error:
            assert error.exit_status != 3, f"request {number}: {error.summary}"
            assert name in MODULES or held(session) <= 2, f"request {number}: {error.summary}"
            return True
        failed = bool(kernel.page_alloc.pressure.injected)
        assert TAINTED not in result.detail, f"request {number}: {result.error}\n{result.detail}"
        assert failed or result.passed, f"nothing failed and yet: {result.headline()}"
        if not result.error:
            at_rest(kernel)
            assert held(session) == 0, f"request {number} ({result.headline()}): frames were left"
        return failed


def every_failure(name: str, policies: dict[str, str], dense: int) -> None:
    """The first ``dense`` one by one, then as many in each multiple of e."""
    number = 1
    while number < MOST and run_with_failure(name, policies, number):
        number += max(1, number // dense)
    assert number > 4, "the first few requests are the loader's own"


@pytest.mark.parametrize("dense", part((4, 10), 1))
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("policies", WAYS, ids=lambda each: "-".join(each.values()))
def test_a_program_finds_no_frame(name: str, policies: dict[str, str], dense: int) -> None:
    """COW of a highmem page, demand-zero, page cache, and the tables that a pool or a task's window needs."""
    every_failure(name, policies, dense)


@pytest.mark.parametrize("dense", part((4, 10), 1))
@pytest.mark.parametrize("name", MODULES)
def test_a_module_finds_no_frame(name: str, dense: int) -> None:
    every_failure(name, {}, dense)
