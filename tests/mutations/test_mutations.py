"""Each image notices when what it shows is broken: three ways an image, written down."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.mutations.__main__ import judge
from tests.mutations.table import ROOT, SPARED, Mutation, mutations

ALL = mutations()


@pytest.mark.parametrize("mutation", ALL, ids=lambda each: each.name)
def test_it_still_applies(mutation: Mutation) -> None:
    compile(mutation.source(), mutation.file, "exec")


def test_each_image_has_three() -> None:
    images = {path.parent.name for path in (ROOT / "images").glob("*/manifest.toml")}
    counts = Counter(each.image for each in ALL)
    assert counts.keys() <= images and SPARED.keys() <= images
    assert {name: counts[name] for name in images - SPARED.keys() if counts[name] < 3} == {}


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("mutation", ALL, ids=lambda each: each.name)
def test_it_is_noticed(mutation: Mutation) -> None:
    assert judge(mutation)[0] == "noticed"
