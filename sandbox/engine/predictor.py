"""Make the host's branch predictor forget.

The engine links translated blocks by rewriting a jump that has run already.  On some hosts (seen on AMD's Zen 4) the
old target then stays in the predictor for good: every pass through the rewritten jump is mispredicted, and a short
guest loop runs at less than half its speed until enough other branches have pushed the entry out.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from sandbox.engine import nativecode, stubs

JUMPS, SPACING = 16384, 32
"""Branches, and bytes from one to the next: twice the 7 K targets that Zen 4 keeps; 8,192 did not always do."""
FIRST, EVERY = 100_000, 2_000_000
"""Blocks that a CPU enters before this is worth its 90 µs, at first and later."""


@functools.cache
def forget() -> Callable[[], object]:
    """A call that runs through ``JUMPS`` jumps, each to the next one."""
    if not stubs.native_host():
        return int
    jump = b"\xe9" + (SPACING - 5).to_bytes(4, "little")
    try:
        pages, base = nativecode.made_executable(jump.ljust(SPACING, b"\xcc") * JUMPS + b"\xc3", 0, "the predictor")
    except OSError:
        return int
    run = ctypes.CFUNCTYPE(None)(base)
    run.pages = pages  # type: ignore[attr-defined]
    return run
