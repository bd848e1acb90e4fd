"""Who is to be interrupted: the process that runs the machine is another one each time somebody goes back.

A page that all of them share with the face has that process's number, and whether an interrupt was asked for since the
last command.  The face writes before it looks who is there, and whoever takes over looks behind writing who it is: one
of the two notices.
"""

from __future__ import annotations

import mmap
import os
import signal
from contextlib import suppress

_PID, _RUNG = 0, 1


class Bell:
    """Made before the first of the processes."""

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("i")

    def answered_here(self) -> None:
        """From now on this process runs the machine."""
        self._cells[_PID] = os.getpid()

    def heard(self) -> None:
        """This process was interrupted, and another may be about to take over."""
        self._cells[_RUNG] = 1

    def ring(self) -> None:
        """Interrupt what runs."""
        self._cells[_RUNG] = 1
        if self._cells[_PID]:
            with suppress(ProcessLookupError):  # it has just handed over to a copy of a checkpoint
                os.kill(self._cells[_PID], signal.SIGINT)

    def begin(self) -> None:
        """Another command: nobody has rung."""
        self._cells[_RUNG] = 0

    @property
    def rung(self) -> bool:
        """Somebody has rung since the command began."""
        return bool(self._cells[_RUNG])
