"""Output to the host's descriptors, of which whoever reads them may take nothing for as long as he likes."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable

LOOK_SECONDS = 0.1
"""How long a wait for the host goes on before limits and interrupts are looked at."""


def nobody_looks() -> None:
    """For output that nothing but its reader ends."""


def write_all(descriptor: int, data: bytes, look: Callable[[], None]) -> None:
    """Write all of it; ``look`` is called while nobody takes it, and may raise.  Raises OSError.

    A pipe that can be written has room for PIPE_BUF bytes (pipe(7)), so that no more than these wait in a write.
    """
    left, most = memoryview(data), select.PIPE_BUF
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        most = len(data)
    while left:
        while not select.select([], [descriptor], [], LOOK_SECONDS)[1]:
            look()
        left = left[os.write(descriptor, left[:most]) :]
