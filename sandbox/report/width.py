"""Text in the columns that there are."""

from __future__ import annotations

import textwrap


def cut(text: str, columns: int) -> str:
    """The text in so many columns; what does not fit is cut off, and a mark stands in its last column."""
    return text if len(text) <= columns else text[: max(columns - 1, 0)] + "…"


def wrapped(line: str, columns: int) -> list[str]:
    """The line, or the lines that it becomes: what goes on is indented by four more than it."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    if len(line) <= columns:
        return [line]
    return textwrap.wrap(line, columns, subsequent_indent=indent, drop_whitespace=True, break_on_hyphens=False)
