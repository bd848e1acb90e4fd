"""What every session has whose TLBs may be followed: by ``--sanitize``, or for who asks to hear of each miss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sandbox.machine.machine import Machine
from sandbox.runner.result import Result

if TYPE_CHECKING:
    from sandbox.sanitize.kernel import KernelSanitizer
    from sandbox.sanitize.report import StaleReport
    from sandbox.sanitize.rom import RomSanitizer
    from sandbox.sanitize.watch import TlbWatch


class Followed(ABC):
    """A session of one machine."""

    machine: Machine
    sanitizer: KernelSanitizer | RomSanitizer | None = None
    tlb_watch: TlbWatch | None = None

    @abstractmethod
    def now(self) -> int:
        """The time of its events."""

    def sanitize_by(self, sanitizer: KernelSanitizer | RomSanitizer) -> None:
        """Have what follows the TLBs already serve who asks for misses too."""
        self.sanitizer, self.tlb_watch = sanitizer, sanitizer.tlb.watch

    def reports(self) -> list[StaleReport]:
        """What ``--sanitize`` has found so far."""
        return [] if self.sanitizer is None else self.sanitizer.tlb.finish()

    def trace_walks(self) -> None:
        """From now on each TLB miss is a ``TlbMiss`` on the bus.  Raises NoFeed."""
        if self.tlb_watch is None:
            from sandbox.sanitize.watch import TlbWatch

            self.tlb_watch = TlbWatch(self.machine.cpus)
        self.tlb_watch.tell(self.machine.bus, self.now)

    def tlb_counters(self) -> list[dict[str, int]]:
        """What each CPU's TLB did; nothing where nobody follows them."""
        return [] if self.tlb_watch is None else self.tlb_watch.stream.counters()

    def put_reports(self, result: Result) -> None:
        """Into a result, at the run's end."""
        if self.tlb_watch is not None:
            self.tlb_watch.feed.drain()
        result.sanitizer = self.reports()
