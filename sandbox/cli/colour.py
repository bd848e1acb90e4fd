"""Colour and width, on terminals only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import IO

UNBOUNDED = 10_000

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


class Colour:
    """Paints text when the stream is a terminal that can, and NO_COLOR is not set (no-color.org)."""

    def __init__(self, stream: IO[str]) -> None:
        self.on = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.on else text


def columns_of(stream: IO[str]) -> int:
    """How wide the stream's terminal is; ``UNBOUNDED`` where there is none, or it does not know."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or UNBOUNDED
    except (OSError, ValueError):
        return UNBOUNDED


def print_lines(lines: Iterable[str], stream: IO[str] | None = None, style: str = "") -> None:
    """A listing on standard output or another stream, in the columns of its terminal."""
    from sandbox.report.width import shown

    stream = stream or sys.stdout
    paint, columns = Colour(stream), columns_of(stream)
    for line in lines:
        for part in shown(line, columns):
            print(paint(style, part) if style else part, file=stream)
