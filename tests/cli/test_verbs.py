"""Every verb that looks takes every kind of target, or says in a line why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_cli import call

IMAGES = Path(__file__).resolve().parents[2] / "images"
KINDS = {"program": "cow-fork", "module": "vmalloc-sync", "rom": "rom-double-fault"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["explain", "walk", "maps", "frames", "tlb"])
def test_every_verb_on_every_kind(verb: str, kind: str, capfd) -> None:
    words = ["$eip", "x"] if verb == "walk" else []
    status, out, err = call([verb, str(IMAGES / KINDS[kind]), *words], capfd)
    assert (status, err) == (0, "")
    assert out.strip()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["walk", "cow-fork", "_start", "--symbols", "x"], "symbols are in its file"),
        (["explain", "vmalloc-sync", "--symbols", "x"], "symbols are in its file"),
        (["frames", "rom-double-fault", "--end"], "--at"),
        (["tlb", "rom-double-fault", "9"], "only 0 is there"),
        (["walk", "rom-double-fault", "$eip", "--mm", "3"], "no kernel under it"),
        (["walk", "cow-fork", "_start", "--mm", "99"], "no task 99"),
        (["walk", "cow-fork", "_start", "--cr3", "x y"], "neither a number nor"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(words: list[str], why: str, capfd) -> None:
    status, out, err = call([words[0], str(IMAGES / words[1]), *words[2:]], capfd)
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1


def test_walk_as_somebody_else_and_by_other_tables(capfd) -> None:
    image = str(IMAGES / "cow-fork")
    assert "supervisor page, user access" in call(["walk", image, "0xc0100000", "--as", "user"], capfd)[1]
    assert "physical 0x100000" in call(["walk", image, "0xc0100000", "--as", "supervisor"], capfd)[1]
    assert call(["walk", image, "_start", "--mm", "3"], capfd)[1] == call(["walk", image, "_start"], capfd)[1]


@pytest.mark.parametrize(
    ("image", "symbol", "end"),
    [("vmalloc", "vmalloc", "physical 0x"), ("cow-fork", "copy_page", "stops here: supervisor page")],
)
def test_whose_access_it_is_the_ring_of_the_cpu_says(image, symbol, end, capfd) -> None:
    """A module stops in ring 0, a program in ring 3, which may not reach the kernel's text (SDM 3A, 4.6.1)."""
    status, out, _ = call(["walk", str(IMAGES / image), symbol], capfd)
    assert status == 0 and out.splitlines()[-1].startswith(end)
