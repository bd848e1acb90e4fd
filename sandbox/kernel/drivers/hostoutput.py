"""Output to the host's descriptors, of which whoever reads them may take nothing for as long as he likes."""

from __future__ import annotations

import mmap
import os
import select
import stat
from collections.abc import Callable

from sandbox.kernel.base.tape import Door, Tape

LOOK_SECONDS = 0.1
"""How long a wait for the host goes on before limits and interrupts are looked at."""


def nobody_looks() -> None:
    """For output that nothing but its reader ends."""


def write_all(descriptor: int, data: bytes, look: Callable[[], None]) -> None:
    """Write all of it; ``look`` is called while nobody takes it, and may raise.  Raises OSError.

    A pipe that can be written has room for PIPE_BUF bytes (pipe(7)), so that no more than these wait in a write.
    """
    left, most = memoryview(data), select.PIPE_BUF
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        most = len(data)
    while left:
        while not select.select([], [descriptor], [], LOOK_SECONDS)[1]:
            look()
        left = left[os.write(descriptor, left[:most]) :]


class OnceSink:
    """Output that a run gives again is shown once: how much was, all copies of this process know.

    An error of the host's is met again where it was met.  ``number`` is the stream's.
    """

    def __init__(self, sink: Callable[[bytes], object], tape: Tape, number: int = 1) -> None:
        self._sink, self._tape, self._number = sink, tape, number
        self._shown = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._position = 0

    @property
    def look(self) -> Callable[[], None]:
        """Called while nobody takes it."""
        return getattr(self._sink, "look", nobody_looks)

    @look.setter
    def look(self, look: Callable[[], None]) -> None:
        if hasattr(self._sink, "look"):
            self._sink.look = look

    def __call__(self, data: bytes) -> None:
        tape, place = self._tape, f"{self._number}:{self._position}:{len(data)}".encode()
        failed = tape.came(Door.OUTPUT, place)
        if failed is not None:
            number = int.from_bytes(failed, "little")
            raise OSError(number, os.strerror(number))
        self._position += len(data)
        new = self._position - self._shown[0]
        if new > 0:
            self._show(data[-new:], place, len(data))

    def _show(self, data: bytes, place: bytes, size: int) -> None:
        self._shown[0] = self._position
        try:
            self._sink(data)
        except OSError as error:
            if self._tape.final:
                return  # what was recorded went on
            self._position -= size
            self._shown[0] = self._position
            self._tape.note(Door.OUTPUT, place, (error.errno or 0).to_bytes(4, "little"))
            raise

    def again(self) -> None:
        """The future is another one: what it says has not been shown yet."""
        self._shown[0] = self._position
