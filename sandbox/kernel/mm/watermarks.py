"""How many frames stay free for whom, by the version whose rules hold (``watermarks``; MM 2, post 002).

Pure arithmetic on counts of frames: who keeps them, and which zones there are, is ``page_alloc.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sandbox.kernel.mm.gfp import GFP_ATOMIC, GFP_BUFFER, GFP_IO, GFP_NFS
from sandbox.kernel.mm.mmzone import Zone

NFS_RESERVE = 5


def reserve(version: str, frames: int) -> int:
    """Frames that a version keeps of so many: ``min_free_pages`` in 2.0 and 2.2, ``pages_min`` of a zone in 2.4."""
    if version == "2.0":
        return max(frames // 128, 24) + 24
    if version == "2.2":
        return min(max(frames // 128, 10), 256)
    return min(max(frames // 128, 20), 255)


def steps(version: str, least: int) -> tuple[int, int, int]:
    """min, low and high: 2.0 has one and a half and twice the reserve, the later ones twice and three times."""
    return (least, least * 3 // 2, least * 2) if version == "2.0" else (least, least * 2, least * 3)


def floor(level: int, least: int) -> int:
    """Frames of lowmem that must stay free when a request of a level is granted."""
    if level == GFP_ATOMIC:
        return 0
    if level == GFP_NFS:
        return NFS_RESERVE
    if level in (GFP_BUFFER, GFP_IO) and least >= 48:
        return least - (12 + least // 8)
    return least


def above_marks(
    zones: Iterable[Zone], level: int, block: int, mark: Callable[[Zone], int], free: Callable[[Zone], int]
) -> list[Zone]:
    """2.4.22: a zone must have more than the block and the marks of the zones so far, halved or quartered by level."""
    divisor = {GFP_ATOMIC: 4, GFP_NFS: 2}.get(level, 1)
    below, kept = block, []
    for zone in zones:
        if zone.total:
            below += mark(zone) // divisor
            if free(zone) > below:
                kept.append(zone)
    return kept
