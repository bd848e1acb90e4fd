"""What page walks came to, kept for as long as the entries that they read say the same."""

from __future__ import annotations

from collections.abc import Callable

MOST = 256
"""Pages whose walks are remembered."""
Read = dict[tuple[int, int], int]
"""Entries by physical address and size in bytes."""
Key = tuple[int, ...]
"""Root, page, and the control registers that a walk depends on."""


class Walked:
    """Frames by page; ``entry(physical, size)`` reads one of an entry's present values."""

    def __init__(self, entry: Callable[[int, int], int]) -> None:
        self._entry = entry
        self._known: dict[Key, tuple[Read, int | None]] = {}

    def frame(self, key: Key, walk: Callable[[Read], int | None]) -> int | None:
        """The frame of a page; ``walk`` finds it and takes down what it reads.  None where there is none.

        What the walk raises comes out, and is not kept.
        """
        known = self._known.get(key)
        if known is None or any(self._entry(*place) != value for place, value in known[0].items()):
            read: Read = {}
            known = read, walk(read)
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = known
        return known[1]
