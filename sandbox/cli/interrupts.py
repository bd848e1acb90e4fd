"""What ends a machine from outside while it runs: Ctrl-C, and the signals that end a process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.kernel.task.limits import RunLimits

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """From its making on, the first of ``SIGNALS`` ends the machine that is watched, at the engine's next stop.

    One that comes between two machines ends the second at once.
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._sched: RunLimits | None = None
        for each in SIGNALS:
            signal.signal(each, self._stop)

    def watch(self, sched: RunLimits) -> None:
        """The scheduler of the machine that runs from now on."""
        self._sched = sched
        sched.interrupted = self._came is not None

    @property
    def status(self) -> int:
        """The exit status of a command that was ended so."""
        return 128 + (self._came or signal.SIGINT)

    def _stop(self, number: int, _: object) -> None:
        self._came = self._came or number
        if self._sched is not None:
            self._sched.interrupted = True
