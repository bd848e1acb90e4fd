"""On a terminal of 80 columns nothing is wider than 80, what is cut is marked, and colour can be turned off."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest


def on_terminal(words: list[str], columns: int, **environment: str) -> list[str]:
    """What a command shows on a pseudo terminal of so many columns, line by line."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    settings = {**os.environ, "TERM": "xterm", **environment}
    settings.pop("NO_COLOR", None) if "NO_COLOR" not in environment else None
    command = [sys.executable, "-m", "sandbox", *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=settings) as process:
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:
            pass
        process.wait(60)
    os.close(master)
    return shown.decode().splitlines()


VIEWS = [["run", "images/cow-fork", "--trace", "faults"], ["images"], ["explain", "images/cow-fork", "--fault", "3"]]


@pytest.mark.parametrize("words", VIEWS)
@pytest.mark.parametrize("columns", [80, 100])
def test_everything_fits(words: list[str], columns: int) -> None:
    lines = on_terminal(words, columns, NO_COLOR="1")
    assert lines
    assert max(map(len, lines)) <= columns
    if words[0] != "explain" and columns == 80:
        assert any("…" in line for line in lines)


def test_the_columns_that_matter_are_whole() -> None:
    lines = on_terminal(VIEWS[0], 80, NO_COLOR="1")
    assert any(line.split()[0] == "4" and "0804a000" in line and line.endswith("cow-copy") for line in lines)


@pytest.mark.parametrize(
    ("name", "value", "coloured"), [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("TERM", "xterm", True)]
)
def test_colour(name: str, value: str, coloured: bool) -> None:
    assert any("\x1b" in line for line in on_terminal(VIEWS[0], 80, **{name: value})) == coloured
