"""The picture of docs/highmem.md: ``python docs/highmem_picture.py > docs/highmem.svg``.

Kernel addresses of four machines, lowest address at the bottom.  Three are laid out by the kernel's own ``plan``, the
fourth is 2.4.22's with 1 GB of RAM, by MM 1's constants.  Heights grow with the square root of the sizes: 4 MB stay
readable beside 800.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from sandbox.kernel.base.layout import DIRECT_MAP, LARGEST_DIRECT_MAP, Layout, plan, scaled_direct_map

MB, GB = 1 << 20, 1 << 30
TOP, WIDTH, COLUMN, BAR, LEFT = 56, 860, 210, 110, 14
PIXELS_OF_A_ROOT = 9.0
"""Height of 1 MB."""
SMALLEST = 15.0
COLOURS = {
    "direct map": "#9ecae1",
    "kva pool": "#fdae6b",
    "vmalloc": "#a1d99b",
    "pkmap": "#bcbddc",
    "kernel stacks": "#d9d9d9",
    "fixmap": "#fc9272",
}
LINUX_2_4 = (
    ("direct map", 0xC0000000, 0xF8000000),
    ("vmalloc", 0xF8800000, 0xFDFFE000),
    ("pkmap", 0xFE000000, 0xFE400000),
    ("fixmap", 0xFFF00000, 0xFFFFE000),
)
"""VMALLOC_START, VMALLOC_END, PKMAP_BASE and FIXADDR_TOP; where the fixmap begins depends on the CPUs: about 1 MB."""


@dataclass(frozen=True)
class Column:
    """One machine: names and [start, end) of regions, upwards."""

    title: str
    under: str
    regions: tuple[tuple[str, int, int], ...]


def ours(title: str, under: str, layout: Layout) -> Column:
    """A column of this kernel."""
    return Column(title, under, tuple((each.name, each.start, each.end) for each in layout.regions))


def columns() -> list[Column]:
    """What is drawn, from left to right."""
    return [
        ours("post 001", "1 GB of RAM, the default", plan(GB, DIRECT_MAP)),
        ours("with 896 MB", "1 GB, --direct-map 896M", plan(GB, LARGEST_DIRECT_MAP)),
        Column("2.4.22", "1 GB, CONFIG_HIGHMEM4G", LINUX_2_4),
        ours("64 MB", "--direct-map scaled", plan(64 * MB, scaled_direct_map(64 * MB))),
    ]


def size(start: int, end: int) -> str:
    """Whole megabytes, rounded up: the fixmap ends a page early."""
    return f"{-(-(end - start) // MB)} MB"


def height(start: int, end: int) -> float:
    """Pixels."""
    return max(SMALLEST, PIXELS_OF_A_ROOT * sqrt((end - start) / MB))


def drawn(column: Column, left: int, bottom: float) -> Iterable[str]:
    """One column; a gap between two regions is a white stripe."""
    y = bottom
    before = column.regions[0][1]
    for name, start, end in column.regions:
        if start > before:
            y -= 6
        tall = height(start, end)
        y -= tall
        yield (
            f'<rect x="{left}" y="{y:.1f}" width="{BAR}" height="{tall:.1f}" fill="{COLOURS[name]}" stroke="#444"/>'
            f'<text x="{left + BAR / 2:.0f}" y="{y + tall / 2 + 4:.1f}" text-anchor="middle" font-size="11">'
            f"{name} {size(start, end)}</text>"
            f'<text x="{left + BAR + 4}" y="{y + tall:.1f}" font-size="10" font-family="monospace">{start:08X}</text>'
        )
        before = end
    for row, (text, points) in enumerate(((column.title, 14), (column.under, 11))):
        yield f'<text x="{left}" y="{20 + 16 * row}" font-size="{points}">{text}</text>'


def picture() -> str:
    """The file's text."""
    all_columns = columns()
    tallest = max(sum(height(start, end) + 6 for _, start, end in each.regions) for each in all_columns)
    bottom = TOP + tallest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 16:.0f}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{bottom + 16:.0f}" fill="white"/>',
    ]
    for number, column in enumerate(all_columns):
        parts += drawn(column, LEFT + number * COLUMN, bottom)
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    print(picture(), end="")
