"""What the kernel gives up when frames run out, and what for."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.mm.mmzone import Zone
from sandbox.kernel.mm.page import PG_DMA, PG_HIGHMEM
from sandbox.records import dataclass, replace

SHRINK_BATCH = 64
"""Frames asked for at a time, at least."""
SHRINK_SHARE = 256
"""On large machines a share of all frames, as 2.4 scans a share of its lists: a scan costs what there is to look at."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a request lacks: about ``frames`` frames of ``zones``.

    With ``order`` there are enough of them and no 2^order in a row: then only what completes such a block helps.
    Without ``may_write`` nothing may be written to a file for it (2.2's __GFP_IO).
    """

    zones: tuple[Zone, ...]
    frames: int = SHRINK_BATCH
    order: int = 0
    may_write: bool = True

    def suits(self, flags: int) -> bool:
        """A frame with these flags is in one of the zones."""
        return any(flags & (PG_DMA | PG_HIGHMEM) == zone.flags for zone in self.zones)


Shrinker = Callable[[Need], int]
"""Frees up to about so many frames of the right kind; the number freed."""


class Shrinkers:
    """Who has something to give: subsystems register, the first to lose goes first."""

    __slots__ = ("_thief", "shrinkers")

    def __init__(self) -> None:
        self.shrinkers: list[Shrinker] = []
        self._thief: Shrinker | None = None

    def register(self, shrink: Shrinker) -> None:
        """It is asked after those that are there."""
        self.shrinkers.append(shrink)

    def steal_first(self, thief: Shrinker) -> None:
        """Breakage: what no reclaim may pick is taken before anything else, and alone."""
        self._thief = thief

    def shrink(self, need: Need) -> int:
        """Free about as many frames as are needed; 0 means that nobody has anything left that would help."""
        if self._thief is not None and (stolen := self._thief(need)):
            return stolen
        freed = 0
        for shrink in self.shrinkers:
            if freed < need.frames:
                freed += shrink(replace(need, frames=need.frames - freed))
        return freed
