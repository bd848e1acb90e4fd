"""docs/highmem.md and its picture say what the kernel lays out; post 001's numbers are those of the post."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.kernel.base.inject import SWITCHES
from sandbox.kernel.base.layout import DIRECT_MAP, LARGEST_DIRECT_MAP, Layout, plan, scaled_direct_map

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "highmem.md").read_text()
MB, GB = 1 << 20, 1 << 30
POST_001 = {"direct map": 800, "kva pool": 100}
"""Megabytes; vmalloc has the rest."""


def told() -> list[dict[str, tuple[int, int]]]:
    """Start and megabytes of each region, by column of the table."""
    rows = re.findall(r"^\| ([a-z ]+) \| (.*) \|$", PAGE.split("## Options")[0], re.M)
    found: list[dict[str, tuple[int, int]]] = [{}, {}, {}]
    for name, cells in rows:
        for column, cell in zip(found, cells.split(" | "), strict=False):
            if place := re.match(r"([0-9A-F]{8}), (\d+) MB", cell):
                column[name] = int(place[1], 16), int(place[2])
    return found


def laid_out(layout: Layout) -> dict[str, tuple[int, int]]:
    return {each.name: (each.start, -(-each.size // MB)) for each in layout.regions}


def test_the_table_is_the_layout() -> None:
    first, second, third = told()
    assert first == laid_out(plan(GB, DIRECT_MAP))
    assert second == laid_out(plan(GB, LARGEST_DIRECT_MAP))
    assert third == laid_out(plan(64 * MB, scaled_direct_map(64 * MB)))
    assert {name: first[name][1] for name in POST_001} == POST_001


def test_the_picture_is_made_of_it() -> None:
    script = [sys.executable, str(DOCS / "highmem_picture.py")]
    made = subprocess.run(script, cwd=DOCS.parent, capture_output=True, text=True, check=True, timeout=60).stdout
    assert made == (DOCS / "highmem.svg").read_text()


@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_picture_shows_the_table(column: int) -> None:
    """Names, sizes and addresses, as text of the picture."""
    text = (DOCS / "highmem.svg").read_text()
    for name, (start, size) in told()[column].items():
        assert f">{name} {size} MB<" in text and f">{start:08X}<" in text


MISTAKES = re.findall(
    r"^\| (?!\*\*|mistake|---)([^|]+) \| ([^|]+) \| ([^|]+) \|$",
    PAGE.split("## The mistakes that kernels made")[1],
    re.M,
)


def test_all_bug_classes_have_a_row() -> None:
    assert len(MISTAKES) > 30


@pytest.mark.parametrize(("what", "shown", "left_out"), MISTAKES, ids=[each[0][:40] for each in MISTAKES])
def test_a_mistake_names_what_there_is(what: str, shown: str, left_out: str) -> None:
    """Images with their manifests, tests, and switches that the images' manifests or the tests use."""
    names = re.findall(r"`([^`]+)`", shown)
    for name in names:
        path, _, function = name.partition("::")
        if function:
            assert f"def {function}(" in (ROOT / path).read_text()
        else:
            assert (ROOT / "images" / name / "manifest.toml").exists()
    assert names or "(flushes.md)" in shown
    for switch in re.findall(r"`([^`]+)`", left_out):
        assert switch in SWITCHES
        assert any(switch in text for text in texts(names)), f"{switch}: not used there"


def texts(names: list[str]) -> Iterator[str]:
    for name in names:
        path = ROOT / name.partition("::")[0]
        yield (path if path.exists() else ROOT / "images" / name / "manifest.toml").read_text()
    yield from ((ROOT / "tests/sanitize" / file).read_text() for file in ("test_kmap.py", "test_kernel.py"))
