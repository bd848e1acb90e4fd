"""What a run's summary shows."""

from __future__ import annotations

from collections import defaultdict

from sandbox.records import dataclass, field


@dataclass(slots=True)
class Stats:
    """Counts since boot; bytes are moved by guest code."""

    bytes_by_guest: int = 0
    cow_copies: int = 0
    cow_reuses: int = 0
    system_calls: int = 0
    frames_allocated: int = 0
    page_faults: int = 0
    preparing: bool = False
    """The first program is being put into memory: the faults of that are not counted, and have no number."""
    faults: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Page faults by resolution."""
    calls: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    """System calls by number."""
