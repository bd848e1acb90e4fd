"""The sessions of docs/gdb.md, played again with real gdb: each command, and all that it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.debug.test_gdb import ROOT, needs_gdb, serving

PAGE = (ROOT / "docs/gdb.md").read_text()
NOISE = re.compile(
    r"^(Reading .* from remote target\.\.\.|warning: File transfers .*|Reading symbols from target:.*"
    r"|\(No debugging symbols found in .*\)|The target architecture is set to .*|add symbol table from file .*)\n",
    re.M,
)
"""What gdb says of its own reading, which differs between its versions."""


def sessions() -> list[tuple[str, list[str], str]]:
    """(words of the server, commands, transcript) of each block that begins with ``sandbox gdb``."""
    found = []
    for block in re.findall(r"```console\n\$ sandbox gdb (.*?)```", PAGE, re.S):
        words, _, rest = block.partition(" &\n")
        transcript = rest[rest.index("(gdb) ") :]
        found.append((words, re.findall(r"^\(gdb\) (.*)$", transcript, re.M), transcript))
    return found


def play(commands: list[str], where: str, cwd: Path | None = None) -> str:
    words = ["set pagination off", "set confirm off", "set style enabled off"]
    for each in commands:
        words += [f"echo (gdb) {each}\\n", each.replace("localhost:1234", where)]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *(word for each in words for word in ("-ex", each))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False, cwd=cwd,
    )  # fmt: skip
    return NOISE.sub("", done.stdout)


def clean(text: str) -> str:
    """Without empty lines and what ends them."""
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


@needs_gdb
@pytest.mark.parametrize("session", sessions(), ids=lambda each: str(each[0]))
def test_a_session(session: tuple[str, list[str], str]) -> None:
    words, commands, transcript = session
    with serving(*words.split()) as where:
        assert clean(play(commands, where)) == clean(transcript)


@needs_gdb
def test_the_core_file(tmp_path: Path) -> None:
    block = next(each for each in re.findall(r"```console\n(.*?)```", PAGE, re.S) if "--core" in each)
    line, _, rest = block.partition("\n")
    told, _, transcript = rest.partition("$ gdb\n")
    (tmp_path / "images").symlink_to(ROOT / "images")
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *line.removeprefix("$ sandbox ").split()], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == told
    commands = re.findall(r"^\(gdb\) (.*)$", transcript, re.M)
    assert clean(play(commands, "", tmp_path)) == clean(transcript)


def test_there_are_some() -> None:
    assert len(sessions()) >= 3
