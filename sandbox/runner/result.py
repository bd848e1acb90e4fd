"""What a run came to."""

from __future__ import annotations

from typing import Any

from sandbox.kernel.abi.signals import name_of as signal_name
from sandbox.kernel.base.events import PageFault
from sandbox.records import asdict, dataclass, field
from sandbox.sanitize.report import StaleReport


@dataclass(slots=True)
class Summary:
    """Counts of a run.  Times in seconds of host time, sizes in bytes, ``blocks`` of the machine's clock."""

    blocks: int = 0
    page_faults: int = 0
    faults_by_kind: dict[str, int] = field(default_factory=dict)
    cow_copies: int = 0
    cow_reuses: int = 0
    system_calls: int = 0
    calls_by_name: dict[str, int] = field(default_factory=dict)
    switches: int = 0
    frames_allocated: int = 0
    frames_free: int = 0
    frames_total: int = 0
    frames_lost: int = 0
    """Of a machine on which no task is left and no module was: neither free, nor pages of files, nor kept for the next
    task."""
    single_share: int = 0
    """Requests for one frame, percent of all."""
    single_share_outside: int = 0
    """Percent of those made outside of interrupts, of which post 000 claims 90."""
    list_hits: int = 0
    """Of these, percent that the CPU's own list served, without a zone's lock."""
    zone_locks: int = 0
    gate_calls: int = 0
    """Calls of exported symbols that Python answered."""
    tlb_flushes: int = 0
    shootdowns: int = 0
    kmap_atomic: dict[str, int] = field(default_factory=dict)
    """What ``kmap_atomic`` windows came to (``KmapAtomicCounters``)."""
    kva: dict[str, int] = field(default_factory=dict)
    """What the kva pool came to (``KvaCounters``), its slots, and the hit rate in percent."""
    kmap: dict[str, int] = field(default_factory=dict)
    """The same of the kmap pool (``KmapCounters``)."""
    high_pages: dict[str, int] = field(default_factory=dict)
    """Copies and clears by the policies ``local`` and ``task`` (``HighPageCounters``)."""
    bytes_by_guest: int = 0
    bytes_by_host: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    engine_seconds: dict[str, float] = field(default_factory=dict)
    """Of these, the engine's, for the program (``guest``) and for kernel routines; empty when not measured."""
    tlb: list[dict[str, int]] = field(default_factory=list)
    """By CPU, what its TLB did; empty when it was not watched."""


@dataclass(slots=True)
class Result:
    """The outcome of one image on one machine.

    ``status`` is the guest's exit status (0 to 255), ``signal`` the signal that ended it or 0.  ``faults`` is filled
    only when the run was asked to record them.  ``error`` is a one-line reason when the run did not end by itself.
    """

    status: int = 0
    signal: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    faults: list[PageFault] = field(default_factory=list)
    deaths: list[tuple[int, str, int, str]] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    error: str = ""
    detail: str = ""
    interrupted: bool = False
    """Somebody at the host ended the run."""
    sanitizer: list[StaleReport] = field(default_factory=list)
    """What ``--sanitize`` found."""

    @property
    def passed(self) -> bool:
        """The guest ended by itself with status 0, and no sanitizer found anything."""
        return not (self.status or self.signal or self.error or self.sanitizer)

    def headline(self) -> str:
        """One line: how it ended."""
        if self.error:
            return self.error
        if self.signal:
            return f"killed by {signal_name(self.signal)}"
        return f"exit status {self.status}"

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "passed": self.passed,
            "status": None if self.signal or self.error else self.status,
            "signal": signal_name(self.signal) if self.signal else None,
            "error": self.error or None,
            "detail": self.detail or None,
            "stdout": self.stdout.decode("utf-8", "replace"),
            "stderr": self.stderr.decode("utf-8", "replace"),
            "deaths": [
                {"pid": pid, "command": comm, "signal": signal_name(number), "report": report}
                for pid, comm, number, report in self.deaths
            ],
            "sanitizer": [each.to_dict() for each in self.sanitizer],
            "summary": asdict(self.summary),
        }
