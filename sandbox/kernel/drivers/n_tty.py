"""The line discipline of a terminal: what becomes of typed bytes before a program reads them (termios(3)).

In canonical mode bytes collect in ``edit`` until a line is complete; without ICANON they are readable at once.
Here is no waiting and no task: who owns it is told of signals and of input that can be read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sandbox.kernel.abi import termios as t
from sandbox.kernel.abi.signals import SIGINT, SIGQUIT, SIGTSTP
from sandbox.kernel.abi.termios import Termios

EDIT_LIMIT = 4095
"""Bytes of a line that is being typed, and of raw input that nobody reads."""
TAB = 8


class LineDiscipline:
    """``output`` takes bytes for the screen, ``signal`` the number of a signal for the foreground group."""

    def __init__(self, output: Callable[[bytes], None], signal: Callable[[int], None]) -> None:
        self.termios = Termios()
        self.stopped = False
        """XOFF was typed: output waits."""
        self.edit = bytearray()
        self.lines: deque[bytearray] = deque()
        """Complete lines; an empty one is an end of file."""
        self.raw = bytearray()
        self._output, self._signal = output, signal
        self._literal = False
        self._column = 0
        self._edit_column = 0

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def canonical(self) -> bool:
        return bool(self.termios.lflag & t.ICANON)

    @property
    def available(self) -> int:
        """Bytes that a read could have (FIONREAD)."""
        return len(self.lines[0]) if self.canonical and self.lines else len(self.raw)

    @property
    def ready(self) -> bool:
        """Whether a read would return at once, if only with the end of file."""
        if self.canonical:
            return bool(self.lines)
        return len(self.raw) >= max(1, 0 if self.cc(t.VTIME) else self.cc(t.VMIN))

    def take(self, count: int) -> bytes:
        """At most ``count`` bytes of the first line or of raw input; nothing for an end of file."""
        source = self.raw
        if self.canonical:
            if not self.lines:
                return b""
            source = self.lines[0]
        taken = bytes(source[:count])
        del source[:count]
        if self.canonical and not source:
            self.lines.popleft()
        return taken

    def give_back(self, data: bytes) -> None:
        """Undo a ``take`` of which the program's memory did not take all."""
        if not data:
            return
        if self.canonical:
            self.lines.appendleft(bytearray(data))
        else:
            self.raw[:0] = data

    def flush_input(self) -> None:
        """Forget what was typed and not read."""
        self.lines.clear()
        self.edit.clear()
        self.raw.clear()

    def set_termios(self, new: Termios) -> None:
        """Go on under other rules; what is there stays readable."""
        was, self.termios = self.canonical, new
        if was and not self.canonical:
            self.raw = bytearray().join([*self.lines, self.edit])
            self.lines.clear()
            self.edit.clear()
        elif self.canonical and not was and self.raw:
            self.lines.append(self.raw)
            self.raw = bytearray()
        if not new.iflag & t.IXON:
            self.stopped = False

    # -- output --------------------------------------------------------------------------------------------------

    def cooked(self, data: bytes) -> bytes:
        """What OPOST makes of a program's output; the column is counted on the way."""
        oflag = self.termios.oflag
        self._count(data)
        if not oflag & t.OPOST:
            return data
        if oflag & t.OLCUC:
            data = data.upper()
        if oflag & t.OCRNL:
            data = data.replace(b"\r", b"\n")
        if oflag & t.ONLCR:
            data = data.replace(b"\n", b"\r\n")
        return data

    def _count(self, data: bytes) -> None:
        """Follow the cursor's column, as far as erasing a tab needs it."""
        last = max(data.rfind(b"\n"), data.rfind(b"\r"))
        if last >= 0:
            self._column = 0
        for byte in data[last + 1 :]:
            if byte == 9:
                self._column += TAB - self._column % TAB
            elif byte == 8:
                self._column = max(0, self._column - 1)
            elif byte >= 32 and byte & 0xC0 != 0x80:
                self._column += 1

    def _put(self, data: bytes) -> None:
        self._output(data)

    # -- input ---------------------------------------------------------------------------------------------------

    def cc(self, index: int) -> int:
        """A control character, or 0 where it is disabled."""
        return self.termios.characters[index]

    def receive(self, data: bytes) -> None:
        """Bytes were typed."""
        for byte in data:
            self._byte(byte)

    def _byte(self, byte: int) -> None:
        iflag, lflag = self.termios.iflag, self.termios.lflag
        if iflag & t.ISTRIP:
            byte &= 0x7F
        if self._literal:
            self._literal = False
            self._insert(byte)
            return
        if iflag & t.IUCLC and lflag & t.IEXTEN and 0x41 <= byte <= 0x5A:
            byte += 0x20
        if iflag & t.IXON and self._flow(byte):
            return
        if lflag & t.ISIG and byte:
            for index, number in ((t.VINTR, SIGINT), (t.VQUIT, SIGQUIT), (t.VSUSP, SIGTSTP)):
                if byte == self.cc(index):
                    self._interrupt(byte, number)
                    return
        if self.stopped and iflag & t.IXON and iflag & t.IXANY:
            self.stopped = False
        if byte == 13:
            if iflag & t.IGNCR:
                return
            if iflag & t.ICRNL:
                byte = 10
        elif byte == 10 and iflag & t.INLCR:
            byte = 13
        if lflag & t.ICANON and self._edits(byte):
            return
        self._insert(byte)

    def _flow(self, byte: int) -> bool:
        if byte and byte == self.cc(t.VSTART):
            self.stopped = False
        elif byte and byte == self.cc(t.VSTOP):
            self.stopped = True
        else:
            return False
        return True

    def _interrupt(self, byte: int, number: int) -> None:
        if not self.termios.lflag & t.NOFLSH:
            self.flush_input()
        self.stopped = False
        if self.termios.lflag & t.ECHO:
            self._echo(byte)
        self._signal(number)

    def _edits(self, byte: int) -> bool:
        """A byte that ends or changes the line being typed, in canonical mode."""
        lflag = self.termios.lflag
        extended = lflag & t.IEXTEN
        if byte == 10:
            if lflag & (t.ECHO | t.ECHONL):
                self._put(b"\n")
            self._complete(b"\n")
        elif not byte:
            return False
        elif byte == self.cc(t.VERASE):
            self._erase(byte, 1)
        elif extended and byte == self.cc(t.VWERASE):
            self._erase(byte, self._word())
        elif byte == self.cc(t.VKILL):
            self._kill(byte)
        elif byte == self.cc(t.VEOF):
            self._complete(b"")
        elif byte == self.cc(t.VEOL) or (extended and byte == self.cc(t.VEOL2)):
            if lflag & t.ECHO:
                self._echo(byte)
            self._complete(bytes((byte,)))
        elif extended and byte == self.cc(t.VLNEXT):
            self._literal = True
            if lflag & t.ECHO and lflag & t.ECHOCTL:
                self._put(b"^\b")
        elif extended and lflag & t.ECHO and byte == self.cc(t.VREPRINT):
            self._echo(byte)
            self._put(b"\n")
            for each in self.edit:
                self._echo(each)
        else:
            return False
        return True

    def _complete(self, end: bytes) -> None:
        self.lines.append(self.edit + end)
        self.edit = bytearray()

    def _insert(self, byte: int) -> None:
        target = self.edit if self.canonical else self.raw
        if len(target) >= EDIT_LIMIT:
            if self.termios.iflag & t.IMAXBEL:
                self._put(b"\a")
            return
        if self.termios.lflag & t.ECHO:
            if self.canonical and not self.edit:
                self._edit_column = self._column
            self._echo(byte)
        target.append(byte)

    def _echo(self, byte: int) -> None:
        if self.termios.lflag & t.ECHOCTL and (byte < 32 or byte == 127) and byte not in (9, 10):
            self._put(b"^" + bytes((byte ^ 0x40,)))
        else:
            self._put(bytes((byte,)))

    # -- taking back ---------------------------------------------------------------------------------------------

    def _word(self) -> int:
        """Characters of the last word with the blanks behind it."""
        count, seen = 0, False
        for byte in reversed(self.edit):
            wordy = byte == 0x5F or byte >= 0x80 or bytes((byte,)).isalnum()
            if seen and not wordy:
                break
            seen |= wordy
            if byte & 0xC0 != 0x80 or not self.termios.iflag & t.IUTF8:
                count += 1
        return count

    def _erase(self, typed: int, count: int) -> None:
        lflag = self.termios.lflag
        for _ in range(count):
            if not self.edit:
                return
            byte = self.edit.pop()
            while self.termios.iflag & t.IUTF8 and byte & 0xC0 == 0x80 and self.edit:
                byte = self.edit.pop()
            if not lflag & t.ECHO:
                continue
            if not lflag & t.ECHOE:
                self._echo(typed)
            elif byte == 9:
                self._put(b"\b" * self._tab_width())
            elif byte < 32 or byte == 127:
                if lflag & t.ECHOCTL:
                    self._put(b"\b \b\b \b")
            else:
                self._put(b"\b \b")

    def _tab_width(self) -> int:
        """Columns that the tab behind what is left of the line took."""
        column = self._edit_column
        for byte in self.edit:
            if byte == 9:
                column += TAB - column % TAB
            elif byte < 32 or byte == 127:
                column += 2 if self.termios.lflag & t.ECHOCTL else 0
            elif byte & 0xC0 != 0x80:
                column += 1
        return TAB - column % TAB

    def _kill(self, typed: int) -> None:
        lflag = self.termios.lflag
        if lflag & t.ECHO and not (lflag & t.ECHOK and lflag & t.ECHOKE and lflag & t.ECHOE):
            self.edit.clear()
            self._echo(typed)
            if lflag & t.ECHOK:
                self._put(b"\n")
            return
        self._erase(typed, len(self.edit))
