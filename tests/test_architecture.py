"""The picture of the kernel's floors has every room, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import sandbox.kernel

ROOT = Path(__file__).resolve().parents[1]
KERNEL = Path(sandbox.kernel.__file__).parent
IN_WORDS = {"abi", "syscalls"}
"""Rooms whose modules are told of, not listed."""


def rooms() -> dict[str, set[str]]:
    """The modules of every floor in the picture, from top to bottom, by the floor's name."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = page.partition("## The kernel's floors")[2].split("```")[1]
    found: dict[str, set[str]] = {}
    floor = ""
    for line in re.findall(r"\| (.*) \|$", picture, re.MULTILINE):
        named = re.match(r"(\w+)(/|\.py)", line)
        if named:
            floor = named[1]
            found[floor] = set()
        if not named or named[2] == "/":
            found[floor] |= set(line.partition("/")[2].split() if named else line.split())
    return found


def test_every_module_is_in_its_room() -> None:
    picture = rooms()
    for folder in (path for path in KERNEL.iterdir() if path.is_dir() and path.name[0] != "_"):
        there = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        if folder.name not in IN_WORDS:
            kinds = {"frames", "tables", "kernel", "programs", "files"} if folder.name == "mm" else set()
            assert picture[folder.name] - kinds == there, folder.name


def test_the_floors_are_those_of_the_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition('containers = ["sandbox.kernel"]')[2]
    layers = re.findall(r'"(\w+)"', contract.partition("]")[0])
    assert list(rooms()) == layers


RAW_STORES = {
    "set_pte", "set_pte_if", "set_ptes", "get_and_clear", "map_page", "set_large", "clear_directory", "sync_directory",
}  # fmt: skip
"""Of ``PageTables``: only the two doors may store entries."""


def test_entries_are_stored_by_the_doors_only() -> None:
    """Each call of a raw store, by where it is: on the tables, and not on a door that has a method of that name."""
    found = []
    for path in sorted((ROOT / "sandbox").rglob("*.py")):
        if path.stem in ("entries", "kernel_entries") or path.stem.startswith("pgtable"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if not isinstance(called, ast.Attribute) or called.attr not in RAW_STORES:
                continue
            if not ast.unparse(called.value).endswith("entries"):
                found.append(f"{path.relative_to(ROOT)}:{called.lineno}: {ast.unparse(called)}")
    assert found == []
