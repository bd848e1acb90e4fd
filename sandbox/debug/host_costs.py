"""What processes cost this host: memory that they hold, copies of pages, and descriptors."""

from __future__ import annotations

import mmap
import resource
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

MOST_FILES = 1 << 16


def more_descriptors() -> None:
    """As many as the host allows: each checkpoint is one of the process that runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MOST_FILES) if hard >= 0 else MOST_FILES, hard))


def faults_of_ours() -> int:
    """Pages that this process got, or got a copy of."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@cache
def seconds_a_copy() -> float:
    """What this host takes for the first store into a page: measured on some, which are new instead of copied."""
    pages = 64
    with mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room:
        began = time.perf_counter()
        for at in range(0, len(room), mmap.PAGESIZE):
            room[at] = 1
        return (time.perf_counter() - began) / pages


def held_by(pid: int) -> int:
    """Bytes of RAM that a process holds, what it shares counted in shares (PSS, proc(5)); 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = [line.split() for line in text.splitlines() if line.startswith("Pss:")]
    return int(found[0][1]) << 10 if found else 0
