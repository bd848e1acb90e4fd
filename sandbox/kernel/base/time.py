"""The machine's clock as people read it: a block of code is a nanosecond, and the machine starts in January 1999."""

from __future__ import annotations

BLOCK_NANOSECONDS = 1
SECOND = 1_000_000_000
TICK = SECOND // 100
"""Nanoseconds of a ``clock_t``."""
EPOCH_SECONDS = 915_148_800
"""1 January 1999, the month of post 001: what the clock shows when the machine starts."""
EPOCH = EPOCH_SECONDS * SECOND
