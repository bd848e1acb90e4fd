"""Standard streams of a debugged or recorded program: what comes in is kept, what goes out is shown once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.engine import mends
from sandbox.kernel.base.tape import Tape
from sandbox.kernel.drivers.console import BytesSource, HostSink, HostSource, Source, TapedSource
from sandbox.kernel.drivers.hostoutput import OnceSink
from sandbox.kernel.drivers.hostterm import HostTerminal, RecordedTerminal
from sandbox.records import dataclass, field
from sandbox.runner.session import Streams
from sandbox.x86.errors import ConfigurationError

if TYPE_CHECKING:
    from sandbox.runner.recording import Recording

OWN_INPUT = "-"


@dataclass(slots=True)
class Input:
    """Standard input of a debugged program: known bytes, or a file, pipe or terminal of the host that is open."""

    data: bytes = b""
    descriptor: int | None = None
    terminal: bool = False

    def source(self) -> Source:
        """Where it comes from."""
        return BytesSource(self.data) if self.descriptor is None else HostSource(self.descriptor)


def open_input(name: str | None, own_is_free: bool, given: bytes = b"") -> Input:
    """``name`` is a file, a pipe or a terminal; ``-`` is our own standard input, where no commands come from it.

    ``given`` is what the program gets without a name.  Raises ConfigurationError.
    """
    if name is None:
        return Input(given)
    if name == OWN_INPUT:
        if not own_is_free:
            raise ConfigurationError("--stdin -: commands come from there", "give commands by -e or -x")
        return Input(descriptor=0)
    try:
        flags = (os.O_RDWR if Path(name).is_char_device() else os.O_RDONLY) | os.O_NOCTTY
        descriptor = os.open(name, flags | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--stdin {name}: {getattr(error, 'strerror', error)}") from error
    return Input(descriptor=descriptor, terminal=os.isatty(descriptor))


@dataclass(slots=True)
class Outside:
    """The streams of one run, and the tape beside them."""

    tape: Tape
    streams: Streams
    sinks: list[OnceSink] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Reading standard input may wait."""
        return getattr(self.streams.source, "waits_on", None) is not None

    @property
    def terminal(self) -> dict[str, Any] | None:
        """Settings and size of the program's terminal, for a recording."""
        found = self.streams.terminal
        if found is None:
            return None
        *settings, characters = found.settings()
        letters = [each if isinstance(each, int) else each[0] for each in characters]
        return {"settings": [*settings, letters], "size": found.size()}

    def new_future(self) -> None:
        """What is said from now on has not been said yet."""
        for each in self.sinks:
            each.again()


def outside(given: Input, tape: Tape | None = None, own: bool = False) -> Outside:
    """Streams for a debugged program; a terminal as its input is its output, too.  ``own``: it is the one we run on."""
    tape = tape or Tape()
    if given.terminal:
        assert given.descriptor is not None
        terminal = HostTerminal(given.descriptor, foreign=not own)
        terminal.sink = screen = OnceSink(terminal.show, tape)
        terminals = (given.descriptor,) * 3
        return Outside(tape, Streams(terminals=terminals, terminal=terminal, tape=tape), [screen])
    sinks = [OnceSink(HostSink(number), tape, number) for number in (1, 2)]
    streams = Streams(TapedSource(given.source(), tape), sinks[0], sinks[1], tape=tape)
    return Outside(tape, streams, sinks)


def recorded(recording: Recording, engine: str | None = None) -> Outside:
    """Streams for a run that is gone through once more, with ``engine`` or the one that it was recorded with."""
    tape = recording.tape
    mends.choose(engine or recording.engine)
    if other := recording.otherwise():
        print(f"sandbox: {other}", file=sys.stderr)
    if recording.terminal is not None:
        screen = OnceSink(HostSink(1), tape)
        terminal = RecordedTerminal(recording.terminal["settings"], recording.terminal["size"], screen)
        return Outside(tape, Streams(terminals=(0, 1, 2), terminal=terminal, tape=tape), [screen])
    sinks = [OnceSink(HostSink(number), tape, number) for number in (1, 2)]
    source = TapedSource(BytesSource(), tape, recording.waits)
    return Outside(tape, Streams(source, sinks[0], sinks[1], tape=tape), sinks)
