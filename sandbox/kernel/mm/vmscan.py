"""What the kernel gives up when frames run out."""

from __future__ import annotations

from collections.abc import Callable

SHRINK_BATCH = 64
"""Frames asked for at a time."""
Shrinker = Callable[[int], int]
"""Frees up to about so many frames; the number freed."""


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

    def try_to_free_pages(self, wanted: int = SHRINK_BATCH) -> int:
        """Free up to about ``wanted`` frames that can be had again; 0 means that there is nothing left to give."""
        if self._thief is not None and (stolen := self._thief(wanted)):
            return stolen
        freed = 0
        for shrink in self.shrinkers:
            if freed < wanted:
                freed += shrink(wanted - freed)
        return freed
