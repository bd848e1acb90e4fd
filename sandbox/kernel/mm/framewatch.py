"""Who is told of frames that change hands: the sanitizer, without being part of the kernel (``sandbox.sanitize``)."""

from __future__ import annotations

from typing import Protocol

from sandbox.machine.word_views import StoreObserver


class FrameWatch(Protocol):
    """Who is told of every frame that goes, and of those that come while ``stores.alert``."""

    @property
    def stores(self) -> StoreObserver: ...

    def granted(self, pfn: int, order: int) -> None:
        """2^order frames from ``pfn`` on are somebody's now."""
        ...

    def released(self, pfn: int, order: int) -> None:
        """They are nobody's any more."""
        ...
