"""A verdict: what counts as noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.debug.explain import RESOLUTIONS as EXPLAINED
from sandbox.image import manifest
from sandbox.kernel.mm.fault import Resolution
from sandbox.runner.target import resolve
from sandbox.suite.check import check_image

IMAGE = Path(__file__).resolve().parents[2] / "images" / "arguments" / "manifest.toml"


@pytest.mark.parametrize("switch", ["no-auxw", "no-auxv "])
def test_a_misspelt_switch_breaks_nothing(switch: str) -> None:
    verdict = check_image(resolve(IMAGE), "pae", switch)
    assert not verdict.passed and switch in verdict.failures[0]


def test_manifests_and_explanations_know_every_resolution() -> None:
    """Written down where the kernel cannot be imported; an oops ends the run and resolves nothing."""
    assert set(manifest.RESOLUTIONS) == {str(each) for each in Resolution}
    assert EXPLAINED.keys() == {*manifest.RESOLUTIONS, "oops"}
