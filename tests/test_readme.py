"""The README shows what the commands print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
SHOWN = [
    (lines[0].removeprefix("$ sandbox "), "\n".join(lines[1:]))
    for lines in (block.strip("\n").split("\n") for block in BLOCKS)
    if lines[0].startswith("$ sandbox ") and len(lines) > 1
]


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_readme_is_true(command: str, output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *command.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout.strip("\n") == output


def test_there_is_something_to_see() -> None:
    assert len(SHOWN) >= 2
