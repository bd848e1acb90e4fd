"""gdb's short names mean here what they mean there; gdb itself is asked."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from sandbox.debug.commands import ALIASES, COMMANDS, find

SHORT = ("b", "c", "s", "si", "n", "ni", "fin", "u", "p", "bt", "rs", "rsi", "rn", "rni", "rc", "h", "q")
OURS = {"disassemble": "code", "stepi": "step", "nexti": "next", "reverse-stepi": "reverse-step",
        "reverse-nexti": "reverse-next"}  # fmt: skip
"""What gdb has two commands for, or another word."""


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
def test_they_are_gdbs() -> None:
    words = [word for name in SHORT for word in ("-ex", f"echo @{name}\\n", "-ex", f"help {name}")]
    told = subprocess.run(["gdb", "-nx", "-batch", *words], capture_output=True, text=True, timeout=60).stdout
    for name, first in re.findall(r"^@(\S+)\n(.*)$", told, re.MULTILINE):
        (ours,) = (each for each, command in COMMANDS.items() if command.run is find(name))
        assert ours in {OURS.get(each, each) for each in first.split(", ")}, name


def test_each_names_a_command() -> None:
    assert set(ALIASES.values()) <= COMMANDS.keys()
