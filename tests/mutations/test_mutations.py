"""Each image notices when what it shows is broken: three ways an image, written down."""

from __future__ import annotations

from collections import Counter

import pytest

from sandbox.sanitize.report import HEADLINES
from tests.mutations.__main__ import judge
from tests.mutations.flushes import ELSEWHERE, flush_table, without_row
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


def test_the_page_of_flushes_is_the_list() -> None:
    assert flush_table() in (ROOT / "docs" / "flushes.md").read_text(), "python -m tests.mutations --flushes"


def test_each_flush_of_the_kernel_has_a_row() -> None:
    assert without_row() == []
    lines = {
        line.strip() for path in (ROOT / "sandbox" / "kernel").rglob("*.py") for line in path.read_text().splitlines()
    }
    assert set(ELSEWHERE) <= lines


def test_reports_are_of_kinds_that_there_are() -> None:
    assert {kind for each in ALL for kind in each.reports} <= HEADLINES.keys()
    assert not [each.name for each in ALL if each.reports and not (each.sanitize or each.test)]


@pytest.mark.parametrize("name", ["flip-1", "cow-fork-1"])
def test_they_reach_the_code_that_runs(name: str) -> None:
    """By a test that is named, and by the image itself: pytest rewrites our modules, and once read them elsewhere."""
    assert judge(next(each for each in ALL if each.name == name))[0] == "noticed"


@pytest.mark.slow
@pytest.mark.campaign
@pytest.mark.parametrize("mutation", ALL, ids=lambda each: each.name)
def test_it_is_noticed(mutation: Mutation) -> None:
    assert judge(mutation)[0] == "noticed"
