"""The page faults that came last, as the kernel or the bare machine told of them."""

from __future__ import annotations

from collections import deque

from sandbox.engine.exits import Trap
from sandbox.kernel.task.task import Task
from sandbox.machine.events import TrapTaken

FAULTS_KEPT = 256
"""Page faults that ``info faults`` has: more would not stay in the host's caches, and each fault would pay for it."""
FaultSeen = tuple[int, int, int, int, int]
"""Number, pid, EIP, address, error code."""
Told = tuple[Task | None, Trap] | TrapTaken
"""By the kernel, or by the bare machine."""


def faults_of(seen: deque[Told], count: int) -> list[FaultSeen]:
    """The last ones of ``count``."""
    found = list[FaultSeen]()
    for number, each in enumerate(seen, count - len(seen) + 1):
        if isinstance(each, tuple):
            task, trap = each
            found.append((number, 0 if task is None else task.pid, trap.eip, trap.address, trap.error_code))
        else:
            found.append((number, 0, each.eip, each.address, each.error_code))
    return found
