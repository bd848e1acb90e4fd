"""Text in the columns that there are."""

from __future__ import annotations

import re

_SGR = re.compile(r"(\x1b\[[0-9;]*m)")
"""What colours text and takes no column (ECMA-48, SGR)."""
LONG_WORD, SHORT_WORD = 24, 16
"""Words, as paths are, that are shortened before the end of a line is cut off, and what is left of one at least."""


def width(text: str) -> int:
    """The columns that a text takes."""
    return len(_SGR.sub("", text))


def cut(text: str, columns: int) -> str:
    """The text in so many columns; what does not fit is cut off, and a mark stands in its last column."""
    if width(text) <= columns:
        return text
    kept, room, painted = "", max(columns - 1, 0), False
    for piece in _SGR.split(text):
        if _SGR.fullmatch(piece):
            kept, painted = kept + piece, not piece.endswith("[0m")
        else:
            kept, room = kept + piece[:room], room - len(piece)
            if room < 0:
                break
    return kept + "…" + ("\x1b[0m" if painted else "")


def squeezed(line: str, columns: int) -> str:
    """The line with its longest word shortened in the middle, where that is enough; else as it is."""
    over = width(line) - columns
    word = max(re.findall(r"[^\s\x1b]+", line), key=len, default="")
    keep = len(word) - over - 1
    if over <= 0 or len(word) < LONG_WORD or keep < SHORT_WORD:
        return line
    head = keep // 2
    return line.replace(word, f"{word[:head]}…{word[len(word) - (keep - head) :]}", 1)


def fit(line: str, columns: int) -> str:
    """One line of so many columns: a long word loses its middle, or else the line its end, and a mark tells."""
    return cut(squeezed(line, columns), columns)


def fit_call(line: str, columns: int) -> str:
    """The same for ``name(arguments) = result``, of which the result stays."""
    call, equals, result = line.rpartition(" = ")
    room = columns - len(equals) - len(result)
    if width(line) <= columns or not equals or room < SHORT_WORD:
        return fit(line, columns)
    return fit(call.rstrip(), room) + equals + result


def wrapped(line: str, columns: int) -> list[str]:
    """The line, or the lines that it becomes: what goes on is indented by four more than it."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    if width(line) <= columns:
        return [line]
    import textwrap

    whole = line.replace(" %", "\u00a0%")  # a number stays with its sign
    lines = textwrap.wrap(whole, columns, subsequent_indent=indent, drop_whitespace=True, break_on_hyphens=False)
    return [each.replace("\u00a0%", " %") for each in lines]


def shown(line: str, columns: int) -> list[str]:
    """A line of a listing: on one line if a long word can lose its middle, else on several."""
    return wrapped(squeezed(line, columns), columns)
