"""Every image does what its manifest says, in both paging modes, and fails on the kernel that is broken for it."""

from __future__ import annotations

import pytest

from sandbox.image.build import manifests
from sandbox.image.manifest import Manifest
from sandbox.runner.target import resolve
from sandbox.suite.check import check_image

RUNS = [(each, paging) for each in manifests() if not each.helper for paging in each.paging]
IDS = [f"{each.name}-{paging}" for each, paging in RUNS]


@pytest.mark.parametrize(("manifest", "paging"), RUNS, ids=IDS)
def test_whole(manifest: Manifest, paging: str) -> None:
    verdict = check_image(resolve(manifest.path), paging)
    assert not verdict.failures


@pytest.mark.parametrize(("manifest", "paging"), RUNS, ids=IDS)
def test_broken(manifest: Manifest, paging: str) -> None:
    assert manifest.switch, f"{manifest.name} names no switch under which it must fail"
    verdict = check_image(resolve(manifest.path), paging, manifest.switch)
    assert verdict.passed, f"{manifest.name} passes with --break {manifest.switch}"


def test_there_are_enough() -> None:
    assert len({manifest.name for manifest, _ in RUNS}) >= 20
    assert {paging for _, paging in RUNS} == {"pae", "legacy"}
