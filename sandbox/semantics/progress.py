"""A line on a terminal: how much is done, how fast, how long it will still take."""

from __future__ import annotations

import sys
import time


class Progress:
    """Of ``total`` vectors, ``done`` of them in an earlier run.  On standard error, if that is a terminal."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total, self._done, self._earlier = total, done, done
        self._began = time.monotonic()
        self._shown = sys.stderr.isatty()

    def add(self, vectors: int) -> None:
        self._done += vectors
        if self._shown:
            print(f"\r{self.line()}\x1b[K", end="", file=sys.stderr, flush=True)

    def line(self) -> str:
        """``40,960 of 100,000 vectors, 9,100 a second, 6 s left``."""
        rate = (self._done - self._earlier) / max(time.monotonic() - self._began, 1e-6)
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        return f"{self._done:,} of {self._total:,} vectors, {rate:,.0f} a second{left}"

    def end(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
