"""Waiting for the host: its terminal, or the pipe that is our standard input.

=================  ===============================================  ======================================
standard input     reading it                                       the machine's time meanwhile
=================  ===============================================  ======================================
file, known bytes  never waits                                      does not pass
pipe, socket       others run on; then the machine waits            does not pass while the machine waits
terminal           others run on; the machine waits when all sleep  passes as the host's does while all sleep
=================  ===============================================  ======================================

When the host's pipe is looked at depends on the machine's time alone, so that a run with the same input is the
same however slowly it comes.  A terminal is for people: there a timer takes its time.
"""

from __future__ import annotations

import os
import select
import time

from sandbox.kernel.base.time import Clock
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.drivers.hostoutput import LOOK_SECONDS
from sandbox.kernel.drivers.hostterm import HostTerminal
from sandbox.kernel.drivers.tty import Tty
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import Task

POLL_SECONDS = 0.02
GRACE = 10_000_000
"""Blocks that other tasks may run before the machine waits for its standard input."""
ESCAPE = 0x1D
"""Ctrl-]; three of them within a second end the machine."""
ESCAPES, ESCAPE_SECONDS = 3, 1.0


def readable(descriptor: int, seconds: float) -> bool:
    """Whether the host's descriptor can be read, waiting for so long at most."""
    return bool(select.select([descriptor], [], [], seconds)[0])


class InputEvents:
    """Standard input that is a pipe or a socket of the host."""

    polls = False

    def __init__(self, sched: Scheduler, clock: Clock, descriptor: int) -> None:
        self._sched, self._clock = sched, clock
        self._descriptor = descriptor
        self.wanted = WaitQueue("standard input")

    def poll(self) -> None:
        """Input is looked for only when it is waited for."""

    def idle(self) -> bool:
        if not self.wanted.tasks:
            return False
        self._sched.wake_up(self.wanted)
        return True

    def wait(self, task: Task) -> None:
        """Return when reading would not wait, or a signal came.  Raises Interrupted and LimitReached."""
        sched = self._sched
        if not sched.is_alone(task):
            sched.schedule((self.wanted,), self.wanted.what, self._clock.now + GRACE)
        while not task.pending and not readable(self._descriptor, LOOK_SECONDS):
            sched.check_limits()


class TerminalEvents:
    """A terminal of the host behind the machine's."""

    polls = True

    def __init__(self, sched: Scheduler, clock: Clock, tty: Tty, terminal: HostTerminal) -> None:
        self._sched, self._clock = sched, clock
        self._tty, self._terminal = tty, terminal
        self._polled = 0.0
        self._escapes: list[float] = []
        tty.on_termios = lambda: terminal.set_output_flags(tty.discipline.termios.oflag)
        tty.window = terminal.size()

    def poll(self) -> None:
        now = time.monotonic()
        if now - self._polled >= POLL_SECONDS:
            self._polled = now
            self._tty.resize(self._terminal.size())
            if not self._tty.hung and readable(self._terminal.descriptor, 0):
                self._read()

    def idle(self) -> bool:
        sched, clock = self._sched, self._clock
        seconds = LOOK_SECONDS
        if sched.next_timer is not None:
            seconds = max(0.0, min(seconds, (sched.next_timer - clock.now) / 1e9))
        began = time.monotonic()
        if self._tty.hung:
            return False
        if readable(self._terminal.descriptor, seconds):
            self._read()
        self._tty.resize(self._terminal.size())
        self._polled = time.monotonic()
        waited = self._polled - began
        passed = int(waited * 1e9)
        if sched.next_timer is not None:
            passed = min(passed, max(0, sched.next_timer - clock.now))
        sched.pass_time(passed, waited)
        return True

    def _read(self) -> None:
        try:
            data = os.read(self._terminal.descriptor, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._tty.hang_up()
            return
        if ESCAPE in data:
            self._count_escapes(data)
        self._tty.receive(data)

    def _count_escapes(self, data: bytes) -> None:
        now = time.monotonic()
        self._escapes = [each for each in self._escapes if now - each < ESCAPE_SECONDS] + [now] * data.count(ESCAPE)
        if len(self._escapes) >= ESCAPES:
            self._sched.interrupted = True
