"""A verdict: what counts as noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.debug.explain import RESOLUTIONS as EXPLAINED
from sandbox.image import manifest
from sandbox.image.manifest import ExpectedFault
from sandbox.kernel.mm.fault import Resolution
from sandbox.runner.result import Summary
from sandbox.runner.target import Target, resolve
from sandbox.suite.check import LEAST_SECONDS, Limits, check_both, check_image

IMAGES = Path(__file__).resolve().parents[2] / "images"
IMAGE = IMAGES / "arguments" / "manifest.toml"


@pytest.mark.parametrize("switch", ["no-auxw", "no-auxv "])
def test_a_misspelt_switch_breaks_nothing(switch: str) -> None:
    verdict = check_image(resolve(IMAGE), "pae", switch)
    assert not verdict.passed and switch in verdict.failures[0]


def test_manifests_and_explanations_know_every_resolution() -> None:
    """Written down where the kernel cannot be imported; an oops ends the run and resolves nothing."""
    assert set(manifest.RESOLUTIONS) == {str(each) for each in Resolution}
    assert EXPLAINED.keys() == {*manifest.RESOLUTIONS, "oops"}


def demand_zero(*faults: ExpectedFault, **counters: int | str) -> Target:
    """The image whose one write to ``fresh`` memory is a demand-zero fault, with other expectations."""
    target = resolve(IMAGES / "demand-zero")
    assert target.manifest is not None
    target.manifest.faults = list(faults)
    target.manifest.counters = dict(counters)
    return target


def test_the_nearest_fault_is_shown() -> None:
    """Two of three things agree in a demand-zero write that was expected to be a copy (SDM 3A 4.7: error 6)."""
    target = demand_zero(ExpectedFault("fresh+0x120", "user write not-present", "cow-copy"))
    missed, nearest = check_image(target, "pae").failures
    assert missed == "expected fault 1 at fresh+0x120 (user write not-present cow-copy) was not seen"
    assert nearest.startswith("nearest: fault ")
    assert nearest.endswith("<fresh+0x120> (user write not-present demand-zero)")


def test_a_fault_in_the_wrong_order_is_shown_as_such() -> None:
    wanted = ExpectedFault("fresh+0x120", "user write not-present", "demand-zero")
    _, nearest = check_image(demand_zero(wanted, wanted), "pae").failures
    assert "<fresh+0x120>" in nearest
    assert nearest.endswith(", before the one expected ahead of it")


@pytest.mark.parametrize("name", ["fork-tree", "demand-zero"])
def test_frames_that_nobody_gives_back_are_a_failure(name: str, paging: str) -> None:
    """Each task that ends has at least a page of its own, its stack's."""
    target = resolve(IMAGES / name)
    assert check_image(target, paging).passed
    (lost,) = [each for each in check_image(target, paging, "no-exit-free").failures if "lost frames" in each]
    assert int(lost.split()[2].rstrip(",")) >= 1


@pytest.mark.parametrize("switch", ["", "no-clear"])
def test_names_that_nothing_has_are_no_failure_of_the_kernel(switch: str) -> None:
    """A misspelt symbol would let every broken run pass."""
    verdict = check_image(demand_zero(ExpectedFault("freshh+4"), page_fault=1, faults_by_kind=1), "pae", switch)
    assert not verdict.passed
    assert verdict.failures == [
        "expected fault 1: no such symbol: freshh+4 (did you mean fresh?)",
        "no counter is called 'page_fault' (did you mean page_faults?)",
        "no counter is called 'faults_by_kind'",
    ]


@pytest.mark.parametrize(
    ("wanted", "met"), [(4, True), (3, False), (">=4", True), (">=5", False), ("<=4", True), ("<=3", False)]
)
def test_counters_have_bounds(wanted: int | str, met: bool) -> None:
    """Its source makes four calls: mmap2, munmap, write, exit."""
    assert (not check_image(demand_zero(system_calls=wanted), "pae").failures) is met


def test_limits_follow_from_the_whole_run() -> None:
    long = Limits.after(Summary(blocks=1_000_000, seconds=1.0), 60.0)
    assert long.blocks is not None and long.seconds is not None
    assert 1_000_000 < long.blocks < 50_000_000
    assert 1 < long.seconds < 60
    assert Limits.after(Summary(seconds=1.0), 3.0).seconds == 3.0
    assert Limits.after(Summary(), 60.0).seconds == LEAST_SECONDS


def test_a_fault_that_is_retried_for_ever_is_cut_off_soon() -> None:
    """Its broken kernel sends no signal, so the program faults until the run is stopped; a minute before."""
    whole, broken = check_both(resolve(IMAGES / "fault-info"), "pae")
    assert whole.passed and broken.passed
    assert whole.result is not None and broken.result is not None
    limit = Limits.after(whole.result.summary, 60.0).seconds
    assert limit is not None and broken.result.summary.seconds < limit + 3
