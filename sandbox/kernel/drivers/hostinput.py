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
import struct
import time
from collections.abc import Callable

from sandbox.kernel.base.tape import Tape, TapeEnds
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
_CAME = struct.Struct("<4HB")
"""Rows, columns, both in pixels, and whether it hung up; bytes typed follow."""


class InputEvents:
    """Standard input that is a pipe or a socket of the host; ``ready(seconds)`` waits until it can be read."""

    polls = False

    def __init__(self, sched: Scheduler, clock: Clock, ready: Callable[[float], bool]) -> None:
        self._sched, self._clock = sched, clock
        self._ready = ready
        self.wanted = WaitQueue("standard input")

    def poll(self) -> None:
        """Input is looked for only when it is waited for."""

    def again(self) -> None:
        """What comes is on the tape, and needs nobody who waits."""

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
        sched.on_wait()
        while not task.pending and not self._ready(LOOK_SECONDS):
            sched.wait_on()


class TerminalEvents:
    """A terminal of the host behind the machine's.

    With a ``tape`` what comes from it is delivered at a time of the machine's, and at the same time again.
    """

    polls = True

    def __init__(
        self, sched: Scheduler, clock: Clock, tty: Tty, terminal: HostTerminal, tape: Tape | None = None
    ) -> None:
        self._sched, self._clock = sched, clock
        self._typed = None if tape is None else tape.typed
        self._final = tape is not None and tape.final
        self._waiting: bytes | None = None
        """What a timer is to deliver."""
        self._tty, self._terminal = tty, terminal
        self._polled = 0.0
        self._escapes: list[float] = []
        tty.on_termios = lambda: terminal.set_output_flags(tty.discipline.termios.oflag)
        tty.window = terminal.size()
        self._await_again()

    def poll(self) -> None:
        if self._waiting is not None or self._final:
            return
        now = time.monotonic()
        if now - self._polled >= POLL_SECONDS:
            self._polled = now
            self._look(0)

    def _look(self, seconds: float) -> None:
        """What is there now, or comes within so long."""
        data: bytes | None = b""
        if not self._tty.hung and self._terminal.readable(seconds):
            data = self._read()
        size = self._terminal.size()
        if self._typed is None:
            self._deliver(size, data)
        elif data != b"" or size != self._tty.window:
            self._typed.add(self._clock.now + 1, _CAME.pack(*size, data is None) + (data or b""))
            self._await_again()

    def again(self) -> None:
        """The run goes on from an earlier place than it had come to: what was typed since comes again."""
        if self._waiting is None:
            self._await_again()

    def _await_again(self) -> None:
        """Have the next that came delivered at its time."""
        found = self._typed.next() if self._typed is not None else None
        if found is not None:
            at, self._waiting = found
            self._sched.add_timer(at, self._come)

    def _come(self) -> None:
        came, self._waiting = self._waiting, None
        assert came is not None and self._typed is not None
        self._typed.passed(came)
        *size, gone = _CAME.unpack_from(came)
        rows, columns, width, height = size
        self._deliver((rows, columns, width, height), None if gone else came[_CAME.size :])
        self._await_again()

    def _deliver(self, size: tuple[int, int, int, int], data: bytes | None) -> None:
        self._tty.resize(size)
        if data is None:
            self._tty.hang_up()
        elif data:
            self._tty.receive(data)

    def idle(self) -> bool:
        sched, clock = self._sched, self._clock
        seconds = LOOK_SECONDS
        if sched.next_timer is not None:
            seconds = max(0.0, min(seconds, (sched.next_timer - clock.now) / 1e9))
        began = time.monotonic()
        if self._tty.hung or self._waiting is not None:
            return False
        if self._final:
            raise TapeEnds("the recording ends here: nothing more was typed")
        self._look(seconds)
        self._polled = time.monotonic()
        waited = self._polled - began
        passed = int(waited * 1e9)
        if sched.next_timer is not None:
            passed = min(passed, max(0, sched.next_timer - clock.now))
        sched.pass_time(passed, waited)
        return True

    def _read(self) -> bytes | None:
        """What was typed; None when nobody will type any more."""
        try:
            data = os.read(self._terminal.descriptor, 4096)
        except BlockingIOError:
            return b""
        except OSError:
            return None
        if ESCAPE in data:
            self._count_escapes(data)
        return data or None

    def _count_escapes(self, data: bytes) -> None:
        now = time.monotonic()
        self._escapes = [each for each in self._escapes if now - each < ESCAPE_SECONDS] + [now] * data.count(ESCAPE)
        if len(self._escapes) >= ESCAPES:
            self._sched.interrupted = True
