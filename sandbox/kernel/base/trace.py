"""Where a subsystem tells what it does: events with the machine's time, counters, and the log."""

from __future__ import annotations

from sandbox.kernel.base.printk import Log
from sandbox.kernel.base.stats import Stats
from sandbox.kernel.base.time import Clock
from sandbox.machine.events import EventBus
from sandbox.records import dataclass


@dataclass(frozen=True, slots=True)
class Trace:
    """Handed to whoever reports; who reports on a hot path takes out of it what it needs."""

    bus: EventBus
    clock: Clock
    stats: Stats
    log: Log
