"""JSON of the views: the entries are those of the text, and levels lead from one to the next (SDM 3A, 4.4)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from tests.cli.test_cli import call

IMAGES = Path(__file__).resolve().parents[2] / "images"
FRAME = 0x000F_FFFF_FFFF_F000


def check_walk(walk: dict) -> None:
    levels = walk["levels"]
    assert [each["name"] for each in levels] == ["PDPTE", "PDE", "PTE"][: len(levels)]
    for above, below in pairwise(levels):
        assert below["physical"] == (above["entry"] & FRAME) + 8 * below["index"]
    shifts = {"PDPTE": (30, 3), "PDE": (21, 511), "PTE": (12, 511)}
    for each in levels:
        shift, mask = shifts[each["name"]]
        assert each["index"] == walk["linear"] >> shift & mask


def test_walk(capfd) -> None:
    path = str(IMAGES / "cow-fork")
    walk = json.loads(call(["walk", path, "_start", "--json"], capfd)[1])
    check_walk(walk)
    assert walk["physical"] == (walk["levels"][-1]["entry"] & FRAME) + (walk["linear"] & 0xFFF)
    assert (walk["reason"], walk["error_code"], walk["page_size"]) == ("mapped", None, 4096)
    walk = json.loads(call(["walk", path, "0", "--json"], capfd)[1])
    assert (walk["reason"], walk["physical"], walk["error_code"]) == ("not present", None, 4)


def test_explain(capfd) -> None:
    found = json.loads(call(["explain", str(IMAGES / "cow-fork"), "--fault", "4", "--json"], capfd)[1])
    check_walk(found["before"])
    check_walk(found["after"])
    assert (found["before"]["reason"], found["before"]["withheld_by"]) == ("read-only page, write", ["PTE"])
    assert found["after"]["physical"] is not None
    rom = str(IMAGES / "rom-large-pages")
    assert json.loads(call(["explain", rom, "--json"], capfd)[1])["before"]["reason"] == "reserved bit set"


def test_maps_and_frames(capfd) -> None:
    path = str(IMAGES / "cow-fork")
    shown = call(["maps", path], capfd)[1]
    found = json.loads(call(["maps", path, "--json"], capfd)[1])
    assert found["areas"]
    for each in (*found["areas"], *found["regions"]):
        assert f"{each['start']:08x}-{each['end']:08x}" in shown
    assert json.loads(call(["maps", "--json"], capfd)[1])["areas"] == []
    frames = json.loads(call(["frames", "--ram", "16M", "--json"], capfd)[1])
    for zone in frames["zones"]:
        listed = sum(count << order for order, count in enumerate(zone["blocks"]))
        assert zone["free"] == listed + zone["unopened"] + zone["on_cpus"]
    assert sum(zone["frames"] for zone in frames["zones"]) <= (16 << 20) >> 12
