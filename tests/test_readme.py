"""The README and the pages show what the commands print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/pages.md", "docs/areas.md", "docs/modules.md")
HERE = re.compile(r"\$ cat > (\S+) <<'END'\n(.*?)\nEND\n", re.S)


def shown(page: str) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(command, output, files that are made before) of every example with an output."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.S):
        files = HERE.findall(block)
        lines = HERE.sub("", block).strip("\n").split("\n")
        if lines[0].startswith("$ sandbox ") and len(lines) > 1 and not lines[1].startswith("$"):
            found.append((lines[0].removeprefix("$ sandbox "), "\n".join(lines[1:]), files))
    return found


SHOWN = [(page, *example) for page in PAGES for example in shown(page)]


@pytest.mark.parametrize(("page", "command", "output", "files"), SHOWN, ids=[f"{each[0]}: {each[1]}" for each in SHOWN])
def test_what_is_shown_is_true(
    page: str, command: str, output: str, files: list[tuple[str, str]], tmp_path: Path
) -> None:
    for name, text in files:
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "images").symlink_to(ROOT / "images")
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *command.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == (1 if output.startswith("sandbox: ") else 0)
    assert done.stdout.strip("\n") == output


@pytest.mark.parametrize("page", PAGES)
def test_there_is_something_to_see(page: str) -> None:
    assert len(shown(page)) >= 2
