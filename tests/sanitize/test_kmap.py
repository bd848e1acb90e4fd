"""kmap's images under the shadow TLB and a schedule that lets other CPUs come in between the stores of each protocol.

Fifty seeds on one to four CPUs, silent as they are and loud under each switch; twenty in ``make test``.
Who may be stale is the shadow's to say (SDM 3A, 4.10): a slot at count 1 may, until the flush of the next lap (MM 13).
"""

from __future__ import annotations

import pytest

from sandbox.engine import stubs
from sandbox.runner.result import Result
from sandbox.runner.run import run_target
from sandbox.runner.target import resolve
from tests.campaign import seeds

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
DEADLOCK = "kmap: all 2 slots are held by those who wait for one"
IMAGES = {"kmap-laps": "", "kmap-turns": "", "kmap-cpus": "", "kmap-nested": DEADLOCK}
"""Each with the error that it must end with."""
STALE = [
    ("kmap-laps", "no-pkmap-flush"),
    ("kmap-cpus", "no-pkmap-flush"),
    ("kmap-laps", "pkmap-global"),
    ("kmap-cpus", "pkmap-global"),
    ("kmap-cpus", "no-shootdown"),
]
WRONG = [
    ("kmap-turns", "no-pkmap-wake", "every task sleeps"),
    ("kmap-nested", "no-pkmap-deadlock", "every task sleeps"),
]
"""What no TLB can tell: the error with which the image ends."""
FEW, ALL = range(20), range(50)


def run(image: str, seed: int, *switches: str) -> Result:
    """A CPU more with each seed, up to four; with ``no-shootdown`` there are two at least."""
    target = resolve(f"images/{image}")
    cpus = 1 + seed % 4 if "no-shootdown" not in switches else 2 + seed % 3
    config = target.config(
        sanitize=frozenset({"tlb"}), cpus=cpus, seed=seed, races=(), paging=("pae", "legacy")[seed // 4 % 2],
        switches=frozenset(switches),
    )  # fmt: skip
    return run_target(target, config)


def silent(image: str, seed: int) -> None:
    result = run(image, seed)
    assert (result.status, result.sanitizer) == (0, [])
    assert result.error.startswith(IMAGES[image]) and bool(result.error) == bool(IMAGES[image])


def loud(image: str, switch: str, seed: int) -> None:
    assert {"use", "ring3"} & {each.kind for each in run(image, seed, switch).sanitizer}


@pytest.mark.parametrize("seed", FEW)
@pytest.mark.parametrize("image", IMAGES)
def test_silent(image: str, seed: int) -> None:
    silent(image, seed)


@pytest.mark.parametrize("seed", FEW[:5])
@pytest.mark.parametrize(("image", "switch"), STALE)
def test_a_stale_address_is_told(image: str, switch: str, seed: int) -> None:
    loud(image, switch, seed)


@pytest.mark.parametrize("seed", FEW[:5])
@pytest.mark.parametrize(("image", "switch", "error"), WRONG)
def test_what_is_left_out_is_missed(image: str, switch: str, error: str, seed: int) -> None:
    result = run(image, seed, switch)
    assert error in result.error and not result.sanitizer


def recheck_missed(seed: int) -> bool:
    """A page got a second slot, which the image sees when both of its users are there."""
    return run("kmap-turns", seed, "no-pkmap-recheck").status != 0


def test_a_page_with_two_slots_is_noticed() -> None:
    assert all(map(recheck_missed, FEW[:5]))


@pytest.mark.slow
@pytest.mark.campaign
def test_most_schedules_meet_it() -> None:
    """Two that want one page must both be woken before one of them has it: chance says when."""
    assert sum(map(recheck_missed, ALL)) > len(ALL) * 3 / 4


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(ALL[20:], 6))
def test_fifty_seeds(seed: int) -> None:
    for image in IMAGES:
        silent(image, seed)
    for image, switch in STALE:
        loud(image, switch, seed)
    for image, switch, error in WRONG:
        test_what_is_left_out_is_missed(image, switch, error, seed)
