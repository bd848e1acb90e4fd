"""The numbers that pages boast with are those of the tree: each is counted where it is made."""

from __future__ import annotations

import re
from pathlib import Path

from sandbox.image.build import IMAGES
from sandbox.image.manifest import load
from sandbox.kernel.abi.numbers import NUMBERS
from sandbox.kernel.syscalls.modules import ModuleCalls
from sandbox.kernel.syscalls.table import handlers
from tests.programs.table import read

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)


def told(pattern: str) -> dict[str, set[int]]:
    """Numbers by page that names one."""
    found = {page: {int(each.replace(",", "")) for each in re.findall(pattern, text(page))} for page in PAGES}
    return {page: numbers for page, numbers in found.items() if numbers}


def text(page: str) -> str:
    return " ".join((ROOT / page).read_text().split())


def test_images_with_a_switch() -> None:
    count = sum(bool(load(path).switch) for path in IMAGES.glob("*/manifest.toml"))
    assert told(r"([\d,]+) images with manifests, each with the switch") == {"CHANGELOG.md": {count}}


def test_system_calls() -> None:
    """Those of the table, and those of modules, which it gets when a machine is built."""
    of_modules = [name for name in vars(ModuleCalls) if name.startswith("sys_") and name[4:] in NUMBERS]
    count = sum(each is not None for each in handlers()) + len(of_modules)
    assert told(r"`int 0x80`: ([\d,]+) system calls") == {"CHANGELOG.md": {count}}


def test_command_lines() -> None:
    count = len(read().programs)
    assert told(r"table of ([\d,]+) command lines") == {"CHANGELOG.md": {count}}
    assert told(r"programs: ([\d,]+) of \d+") == told(r"programs: \d+ of ([\d,]+)") == {"docs/programs.md": {count}}
