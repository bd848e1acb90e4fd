"""How many processes a command may have."""

from __future__ import annotations

import os

from sandbox.x86.errors import ConfigurationError

MOST = 1024
"""More than any one host has CPUs for; a process takes about 40 MB."""


def processes(option: str, number: int) -> int:
    """What an option asks for, 0 being one a CPU that this process may use.  Raises ConfigurationError."""
    if not 0 <= number <= MOST:
        raise ConfigurationError(f"{option} {number}: give a number of processes up to {MOST}, 0 for one a CPU")
    return number or len(os.sched_getaffinity(0))
