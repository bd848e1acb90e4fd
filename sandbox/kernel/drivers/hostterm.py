"""The host's terminal while the machine has it: raw towards us, and always restored."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
from collections.abc import Callable
from types import TracebackType
from typing import Any

from sandbox.kernel.drivers.hostoutput import nobody_looks, write_all

IFLAG, OFLAG, CFLAG, LFLAG, ISPEED, OSPEED, CC = range(7)


class HostTerminal:
    """A terminal on a descriptor of ours.  As a context it is in raw mode, but for output, as long as it lasts.

    Only a process of the terminal's foreground group changes it: ``enter`` may be called again after SIGCONT.  A
    ``foreign`` one, of another session, is changed by whoever was given its name.
    """

    def __init__(self, descriptor: int = 0, foreign: bool = False) -> None:
        self.descriptor = descriptor
        self._foreign = foreign
        self._saved: list[Any] | None = None
        self._output: int | None = None
        self.look: Callable[[], None] = nobody_looks
        """Called while the terminal takes no output, as after Ctrl-S."""
        self.sink: Callable[[bytes], object] = self.show
        """Takes what the program writes."""

    def readable(self, seconds: float) -> bool:
        """Something was typed, or is within so long."""
        return bool(select.select([self.descriptor], [], [], seconds)[0])

    def settings(self) -> list[Any]:
        """What termios.tcgetattr tells of it as it was found."""
        return termios.tcgetattr(self.descriptor) if self._saved is None else self._saved

    def size(self) -> tuple[int, int, int, int]:
        """Rows, columns, and both in pixels; 24 by 80 where it does not know."""
        try:
            data = fcntl.ioctl(self.descriptor, termios.TIOCGWINSZ, bytes(8))
        except OSError:
            return 24, 80, 0, 0
        rows, columns, width, height = struct.unpack("4H", data)
        return rows or 24, columns or 80, width, height

    def write(self, data: bytes) -> None:
        """All of it, to its sink.  Raises OSError, and what ``look`` raises."""
        self.sink(data)

    def show(self, data: bytes) -> None:
        """Have all of it on the screen.  Raises OSError, and what ``look`` raises."""
        write_all(self.descriptor, data, self.look)

    def enter(self) -> None:
        """Go into raw mode: every byte typed comes to us at once, and only to us."""
        with contextlib.suppress(OSError, termios.error):
            if not self._foreign and os.tcgetpgrp(self.descriptor) != os.getpgrp():
                return
            if self._saved is None:
                self._saved = termios.tcgetattr(self.descriptor)
                atexit.register(self.leave)
            raw = [*self._saved[:CC], list(self._saved[CC])]
            raw[IFLAG] &= ~(
                termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
                | termios.ICRNL | termios.IXON | termios.IXANY
            )  # fmt: skip
            raw[LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            if self._output is not None:
                raw[OFLAG] = self._output
            raw[CC][termios.VMIN], raw[CC][termios.VTIME] = 1, 0
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, raw)

    def set_output_flags(self, flags: int) -> None:
        """The program's c_oflag: output is processed by the host's terminal."""
        self._output = flags
        if self._saved is not None:
            self.enter()

    def leave(self) -> None:
        """Put it back as it was; no effect when that has been done."""
        if self._saved is not None:
            saved, self._saved = self._saved, None
            atexit.unregister(self.leave)
            # In the background too, where the attempt would otherwise stop us.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self.descriptor, termios.TCSADRAIN, saved)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def __enter__(self) -> HostTerminal:
        self.enter()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.leave()


class RecordedTerminal(HostTerminal):
    """A terminal that was there when the run was recorded: its settings, its size in rows, columns and pixels."""

    def __init__(self, settings: list[Any], size: tuple[int, int, int, int], sink: Callable[[bytes], object]) -> None:
        super().__init__(-1)
        self._settings, self._size, self.sink = settings, size, sink

    def settings(self) -> list[Any]:
        return self._settings

    def size(self) -> tuple[int, int, int, int]:
        return self._size

    def enter(self) -> None:
        """There is nothing to be changed."""
