"""Windows and the addresses for copies under the shadow TLB: silent in every policy, loud with a flush left out.

Every change of a window is told to its own CPU and to no other (MM 14 and 18): what the shadow holds says whether that
is enough (SDM 3A, 4.10).
"""

from __future__ import annotations

import pytest

from sandbox.engine import stubs
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.policies import POLICIES
from sandbox.runner.result import Result
from sandbox.runner.run import run_target
from sandbox.runner.session import MachineSession
from sandbox.runner.target import resolve
from tests.campaign import seeds
from tests.kernel.mm.machines import high, load

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
TLB = frozenset({"tlb"})
WAYS = [(atomic, pages) for atomic in POLICIES["kmap_atomic"] for pages in POLICIES["high_pages"]]
SMALL = {"copy": ("copy", "24", "2"), "storm": ("storm", "16", "2"), "read": ("read", "24", "2")}
WORKS = tuple(SMALL)
SOUND = ("kmap-irq", "kmap-local", "kmap-nasm", "kmap-task", "kmap-pointers")
STOPPED = (
    "kmap-order", "kmap-clash", "kmap-full", "kmap-by-page", "kmap-sleep", "kmap-heap", "kmap-no-task",
    "kmap-elsewhere",
)  # fmt: skip
"""Images that a mistake of their own ends: nothing is stale when it is told."""


def run(image: str, arguments: tuple[str, ...] | None = None, **changes: object) -> Result:
    target = resolve(f"images/{image}")
    if arguments is not None:
        target.arguments = list(arguments)
    return run_target(target, target.config(sanitize=TLB, **changes))


def work(way: tuple[str, str], seed: int, *switches: str) -> Result:
    """Copies, copies on write or reads on one to four CPUs, others coming in where the seed says."""
    return run(
        "kmap-work", SMALL[WORKS[seed % 3]], cpus=1 + seed % 4, seed=seed, races=(), ram=24 << 20, boot="highmem=12m",
        paging=("pae", "legacy")[seed // 4 % 2], policies=dict(zip(("kmap_atomic", "high_pages"), way, strict=True)),
        switches=frozenset(switches), time_limit=2.0 if switches else 60.0,
    )  # fmt: skip


def silent(way: tuple[str, str], seed: int) -> None:
    result = work(way, seed)
    assert (result.status, result.error, result.sanitizer) == (0, "", [])
    windows, addresses = result.summary.kmap_atomic["windows"], result.summary.high_pages["maps"]
    assert (bool(windows), bool(addresses)) == {
        "atomic": (True, False), "local": (bool(windows), True), "task": (True, True),
    }.get(way[1], (False, False)), "the policy has done the work"  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_every_way_is_silent(way: tuple[str, str]) -> None:
    silent(way, WAYS.index(way))


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(range(50), 6))
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_fifty_seeds_are_silent(way: tuple[str, str], seed: int) -> None:
    silent(way, seed)


@pytest.mark.parametrize("cpus", [1, 2, 4])
@pytest.mark.parametrize("image", SOUND)
def test_images_are_silent(image: str, cpus: int) -> None:
    result = run(image, cpus=cpus, seed=cpus, races=())
    assert (result.status, result.error, result.sanitizer) == (0, "", [])


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(range(50), 6))
@pytest.mark.parametrize("image", SOUND)
def test_fifty_seeds_of_the_images(image: str, seed: int) -> None:
    result = run(image, cpus=1 + seed % 4, seed=seed, races=(), paging=("pae", "legacy")[seed // 4 % 2])
    assert (result.status, result.error, result.sanitizer) == (0, "", [])


@pytest.mark.parametrize("image", STOPPED)
def test_a_mistake_that_is_told_leaves_nothing_stale(image: str, paging: str) -> None:
    result = run(image, paging=paging)
    assert result.error and not result.sanitizer


@pytest.mark.parametrize(
    "way", [("stack", "atomic"), ("heap", "atomic"), ("slots", "atomic"), ("stack", "local"), ("stack", "task")]
)
@pytest.mark.parametrize("seed", [1, 5])
def test_without_the_flush_it_is_loud(way: tuple[str, str], seed: int) -> None:
    assert any(each.kind == "use" for each in work(way, seed, "no-window-flush").sanitizer)


@pytest.mark.parametrize("image", ["kmap-irq", "kmap-local", "kmap-nasm", "kmap-task"])
def test_images_are_loud(image: str, paging: str) -> None:
    result = run(image, paging=paging, switches=frozenset({"no-window-flush"}))
    assert any(each.kind == "use" for each in result.sanitizer)


def test_a_window_that_another_cpu_closes_stays_behind(paging: str) -> None:
    """CPU 0 tells itself, and CPU 1 goes on in a page that its window has no more."""
    result = run("kmap-elsewhere", paging=paging, switches=frozenset({"no-window-owner"}))
    (kind,) = {each.kind for each in result.sanitizer}
    assert kind == "use"


@pytest.mark.parametrize("policy", POLICIES["kmap_atomic"])
def test_a_window_that_another_cpu_uses_is_told(policy: str, paging: str) -> None:
    """Its address is the other CPU's too, whose TLB nobody tells when it is closed."""
    config = KernelConfig(
        ram=24 << 20, boot="highmem=12m", paging=paging, cpus=2, sanitize=TLB, policies={"kmap_atomic": policy}
    )
    with MachineSession.idle(config) as session:
        kernel = session.kernel
        mine, (first, second) = kernel.cpus[0], high(kernel, 2)
        linear = kernel.highmem.kmap_atomic(mine, first)
        assert load(kernel, linear, 1) == first
        kernel.highmem.kunmap_atomic(mine, linear)
        assert kernel.highmem.kmap_atomic(mine, second) == linear
        assert load(kernel, linear, 0) == second
        assert load(kernel, linear, 1) == first, "what the other CPU has kept"
        kernel.highmem.kunmap_atomic(mine, linear)
        assert "use" in {each.kind for each in session.reports()}
