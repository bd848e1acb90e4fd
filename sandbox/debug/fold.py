"""Lines of text in at most 80 columns: a longer one goes on below, a little to the right."""

from __future__ import annotations

import re
from collections.abc import Iterable

WIDTH, HANG, LEAST = 80, 4, 24
"""Columns; by how much what goes on is indented; where a line is broken off at the earliest."""
_PLACES = (re.compile(r" +(?=<- )"), re.compile(r"  +(?=\S)|(?<=,) (?=\S)| (?=by )"), re.compile(r" +(?=\S)"))
"""Where a line may be broken: before a note, between columns and clauses, or between words."""


def wrapped(lines: Iterable[str]) -> list[str]:
    """The same words in lines of 80 columns; a word that is longer stays whole."""
    return [piece for line in lines for piece in _pieces(line)]


def _pieces(line: str) -> list[str]:
    indent = len(line) - len(line.lstrip()) + HANG
    found = []
    while len(line) > WIDTH and (place := _place(line, len(line) - len(line.lstrip()))) is not None:
        found.append(line[: place.start()])
        line = " " * indent + line[place.end() :]
    return [*found, line]


def _place(line: str, indent: int) -> re.Match[str] | None:
    for kind in _PLACES:
        places = [each for each in kind.finditer(line) if indent + LEAST < each.start() <= WIDTH]
        if places:
            return places[-1]
    return next((each for each in _PLACES[-1].finditer(line) if each.start() > WIDTH), None)
