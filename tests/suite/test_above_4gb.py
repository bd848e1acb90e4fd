"""Every program and module with frames above 4 GB, under the shadow TLB: as its manifest says, and silent.

What is expected are the manifests' own expectations, which say nothing of where frames lie.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.image.build import IMAGES
from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.target import resolve
from sandbox.suite.check import Limits, check_image, manifest_of

DEFAULT = KernelConfig().ram


def suited() -> list[str]:
    """Images that run under PAE and ask for no RAM of their own."""
    found = []
    for folder in sorted(path.parent for path in IMAGES.glob("*/manifest.toml")):
        target = resolve(folder)
        manifest = manifest_of(target)
        if target.kind != "rom" and "pae" in manifest.paging and manifest.ram == DEFAULT:
            found.append(folder.name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", suited())
def test_image_above_4_gb(name: str) -> None:
    target = resolve(IMAGES / name)
    target.manifest = replace(manifest_of(target), ram=6 << 30)
    verdict = check_image(target, "pae", limits=Limits(None, 30.0), sanitize=frozenset({"tlb"}))
    assert verdict.passed, verdict.failures
