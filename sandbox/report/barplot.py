"""Groups of horizontal bars as SVG: lengths are logarithmic, numbers stand beside their bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#9c6b4e")
LABELS, BARS, NUMBERS = 210, 420, 90
"""Widths in pixels."""
BAR, HEAD = 18, 34
"""Heights in pixels."""


def bar_plot(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, int]]]]) -> str:
    """An SVG picture of groups, each a title and (label, count); a label has the same colour in all of them."""
    names = list(dict.fromkeys(label for _, bars in groups for label, _ in bars))
    largest = max((value for _, bars in groups for _, value in bars), default=1)
    width = LABELS + BARS + NUMBERS
    parts, y = [_text(12, 24, title, "bold", 15)], 44
    for heading, bars in groups:
        parts.append(_text(12, y + 20, heading, "bold", 12))
        y += HEAD
        for label, value in bars:
            parts.append(_bar(y, label, value, largest, COLOURS[names.index(label) % len(COLOURS)]))
            y += BAR
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 16}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width}" height="{y + 16}" fill="white"/>', *parts, "</svg>"]) + "\n"


def _bar(y: int, label: str, value: int, largest: int, colour: str) -> str:
    length = BARS * log10(value + 1) / log10(largest + 1) if value else 0
    return "\n".join(
        (
            _text(LABELS - 8, y + 13, label, "normal", 12, "end"),
            f'<rect x="{LABELS}" y="{y + 2}" width="{length:.1f}" height="{BAR - 4}" fill="{colour}"/>',
            _text(round(LABELS + length) + 6, y + 13, f"{value:,}", "normal", 12),
        )
    )


def _text(x: int, y: int, text: str, weight: str, size: int, anchor: str = "start") -> str:
    style = f'font-weight="{weight}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(text)}</text>'
