"""Watching the TLBs of a machine's CPUs: the feed, the shadows that follow it, and events of each miss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox.engine.cpu import Cpu
from sandbox.engine.feedtest import watch
from sandbox.machine.events import EventBus, TlbMiss
from sandbox.sanitize.shadow import ShadowTlb
from sandbox.sanitize.stream import Stream, WalkSeen


class TlbWatch:
    """What the CPUs' TLBs do from now on.  Raises NoFeed, and UnknownEngine."""

    def __init__(self, cpus: Sequence[Cpu]) -> None:
        self.cpus = cpus
        self.shadows = [ShadowTlb(number) for number in range(len(cpus))]
        self.stream = Stream(self.shadows)
        self.feed = watch(list(cpus), self.stream.read)
        self.feed.switch(True)

    def tell(self, bus: EventBus, now: Callable[[], int]) -> None:
        """Emit each miss as a ``TlbMiss``, at the latest when its CPU runs again."""

        def emit(seen: WalkSeen) -> None:
            bus.emit(TlbMiss(now(), *seen))

        self.stream.on_walk = emit
        for cpu in self.cpus:
            cpu.before_entries(self.feed.drain)
