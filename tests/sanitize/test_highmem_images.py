"""The other images of high memory under the shadow TLB: silent on one to four CPUs and fifty seeds, loud when broken.

kmap's are in ``test_kmap``, windows and ``kmap-work`` in ``test_windows``, ``kva-threads`` in ``test_kva_tasks``.  Who
may be stale is the shadow's to say (SDM 3A, 4.10); a switch that makes nothing stale is what the image itself must see.
"""

from __future__ import annotations

import pytest

from sandbox.engine import stubs
from sandbox.image.build import IMAGES
from sandbox.image.manifest import load
from sandbox.runner.result import Result
from sandbox.runner.run import run_target
from sandbox.runner.target import resolve
from tests.campaign import seeds
from tests.sanitize import test_kmap, test_windows

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
SILENT = ("kva-recycle", "kva-freed", "kva-io", "kva-sleep", "above-4g", "torn-entry", "poke-cow", "kmap-share")
STALE = [
    ("kva-recycle", "no-flush"),
    ("kva-freed", "no-flush"),
    ("kva-io", "no-flush"),
    ("kva-sleep", "no-flush"),
    ("above-4g", "no-flush"),
    ("above-4g", "no-window-flush"),
    ("kmap-pointers", "no-window-flush"),
    ("poke-cow", "no-flush"),
    ("kmap-share", "no-flush"),
    ("kmap-share", "no-shootdown"),
]
WRONG = [
    ("kva-recycle", "kva-recycle-used"),
    ("kva-freed", "kva-keep-freed"),
    ("kva-io", "kva-recycle-io"),
    ("kva-sleep", "no-kva-wake"),
    ("above-4g", "narrow-pfn"),
    ("poke-cow", "poke-shared"),
    ("kmap-pointers", "kernel-directory"),
]
"""Another page or none, not an old translation of it: the image sees it."""
ELSEWHERE = {*test_kmap.IMAGES, *test_windows.SOUND, *test_windows.STOPPED, "kmap-work", "kva-threads"}
HELPERS = {"kva-device", "kmap-device", "kmaps", "share-device"}
"""Devices of the images above."""


def run(image: str, seed: int, *switches: str) -> Result:
    """A CPU more with each seed, up to four; with ``no-shootdown`` there are two at least."""
    target = resolve(f"images/{image}")
    assert target.manifest is not None
    config = target.config(
        sanitize=frozenset({"tlb"}), cpus=1 + seed % 4 if "no-shootdown" not in switches else 2 + seed % 3, seed=seed,
        races=(), paging=target.manifest.paging[seed // 4 % len(target.manifest.paging)], switches=frozenset(switches),
        time_limit=20.0,
    )  # fmt: skip
    return run_target(target, config)


def silent(image: str, seed: int) -> None:
    result = run(image, seed)
    assert (result.status, result.signal, result.error, result.sanitizer) == (0, 0, "", [])


def loud(image: str, switch: str, seed: int) -> None:
    assert {"use", "ring3", "released"} & {each.kind for each in run(image, seed, switch).sanitizer}


def wrong(image: str, switch: str, seed: int) -> None:
    assert not run(image, seed, switch).passed


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("image", SILENT)
def test_silent(image: str, seed: int) -> None:
    silent(image, seed)


@pytest.mark.parametrize("seed", [2, 5])
@pytest.mark.parametrize(("image", "switch"), STALE)
def test_a_stale_address_is_told(image: str, switch: str, seed: int) -> None:
    loud(image, switch, seed)


@pytest.mark.parametrize("seed", [2, 5])
@pytest.mark.parametrize(("image", "switch"), WRONG)
def test_another_page_is_seen(image: str, switch: str, seed: int) -> None:
    wrong(image, switch, seed)


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(range(50), 6))
def test_fifty_seeds(seed: int) -> None:
    for image in SILENT:
        silent(image, seed)
    for image, switch in STALE:
        loud(image, switch, seed)
    for image, switch in WRONG:
        wrong(image, switch, seed)


def test_no_image_of_high_memory_is_forgotten() -> None:
    named = {path.parent.name for name in ("kmap*", "kva*") for path in IMAGES.glob(f"{name}/manifest.toml")}
    assert named | {"above-4g", "torn-entry", "poke-cow"} == {*SILENT, *ELSEWHERE, *HELPERS} - {"share-device"}


def test_each_switch_of_theirs_is_in_a_campaign() -> None:
    """``torn-entry``'s own needs the points of its manifest, which the suite gives it."""
    for image in SILENT:
        switch = load(IMAGES / image / "manifest.toml").switch
        assert (image, switch) in [*STALE, *WRONG, ("torn-entry", "pae-low-first")]
