"""Every image does what its manifest says, in both paging modes, and fails on the kernel that is broken for it."""

from __future__ import annotations

import pytest

from sandbox.image.build import manifests
from sandbox.image.manifest import Manifest
from sandbox.runner.target import resolve
from sandbox.suite.check import Limits, Verdict, check_image

RUNS = [(each, paging) for each in manifests() if not each.helper for paging in each.paging]
IDS = [f"{each.name}-{paging}" for each, paging in RUNS]


@pytest.fixture(scope="module", params=RUNS, ids=IDS)
def image(request: pytest.FixtureRequest) -> tuple[Manifest, str, Verdict]:
    """An image, its paging mode and its whole run, which says how long a broken one may take: made once for both."""
    manifest, paging = request.param
    return manifest, paging, check_image(resolve(manifest.path), paging)


def test_whole(image: tuple[Manifest, str, Verdict]) -> None:
    assert not image[2].failures


def test_broken(image: tuple[Manifest, str, Verdict]) -> None:
    manifest, paging, whole = image
    assert manifest.switch, f"{manifest.name} names no switch under which it must fail"
    assert whole.result is not None, whole.failures
    limits = Limits.after(whole.result.summary, manifest.time_limit)
    verdict = check_image(resolve(manifest.path), paging, manifest.switch, limits)
    assert verdict.passed, f"{manifest.name} passes with --break {manifest.switch}"


def test_there_are_enough() -> None:
    assert len({manifest.name for manifest, _ in RUNS}) >= 20
    assert {paging for _, paging in RUNS} == {"pae", "legacy"}
