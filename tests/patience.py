"""Waiting for what another process does, without a guess at how long it takes.

How fast a process comes along depends on who else computes.  What it has done does not: the processor's time that it
has had, and whether it sleeps, are in ``/proc`` (proc(5)); both include its children, where a debugger's guest runs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds after which whatever is waited for is taken as never coming: far beyond what a loaded machine needs."""
PAUSE = 0.01
_TICK = os.sysconf("SC_CLK_TCK")


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for it; an AssertionError after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} seconds"
        time.sleep(PAUSE)


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def _fields(pid: int) -> list[str]:
    """Those of ``/proc/PID/stat`` from the state on, which is the third; a process that is gone is a dead one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", *"0" * 20]


def alive(pid: int) -> bool:
    """It is a process, and no zombie."""
    return _fields(pid)[0] not in "ZX"


def computed(pid: int) -> float:
    """Seconds of a processor that a process and its descendants have had; also those that it has waited for."""
    return sum(sum(map(int, _fields(each)[11:15])) for each in family(pid)) / _TICK


def busy(pid: int, seconds: float) -> None:
    """Wait until it has computed so much more than now.  It must not end before."""
    enough = computed(pid) + seconds

    def there() -> bool:
        assert alive(pid), "it ended"
        return computed(pid) >= enough

    until(there)


def resting(pid: int, seconds: float = 0.2) -> None:
    """Wait until a process and its descendants have slept, and computed nothing, for so long; or have ended."""
    still = _Still(pid)
    until(lambda: still.since() >= seconds)


class _Still:
    """Since when a process has done nothing."""

    def __init__(self, pid: int) -> None:
        self.pid, self.seen, self.began = pid, -1.0, time.monotonic()

    def since(self) -> float:
        now, seen = time.monotonic(), computed(self.pid)
        if seen != self.seen or any(_fields(each)[0] in "RD" for each in family(self.pid)):
            self.seen, self.began = seen, now
        return now - self.began


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """``Popen`` for a process that may have no end: whatever a test finds wrong, none is left and nobody waits."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
