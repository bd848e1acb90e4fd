"""The first process's descriptors: standard input, output and error."""

from __future__ import annotations

import termios

from sandbox.kernel.abi.flags import O_RDONLY, O_RDWR, O_WRONLY
from sandbox.kernel.abi.termios import Termios
from sandbox.kernel.drivers.console import (
    Console,
    ConsoleOperations,
    HostSink,
    Sink,
    Source,
    Terminals,
    standard_streams,
)
from sandbox.kernel.drivers.controlling import ControllingTty
from sandbox.kernel.drivers.hostinput import InputEvents, TerminalEvents
from sandbox.kernel.drivers.hostoutput import OnceSink
from sandbox.kernel.drivers.hostterm import HostTerminal
from sandbox.kernel.drivers.tty import Tty
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.vfs.file import FdTable, File


def standard_files(streams: tuple[Console, Console, Console]) -> FdTable:
    """The descriptors 0, 1 and 2."""
    table = FdTable()
    for stream, flags in zip(streams, (O_RDONLY, O_WRONLY, O_WRONLY), strict=True):
        table.install(File(stream, O_RDWR if stream.is_terminal and flags == O_RDONLY else flags))
    return table


def open_streams(
    kernel: Kernel, source: Source, output: Sink, error: Sink, terminals: Terminals, terminal: HostTerminal | None
) -> FdTable:
    """Standard streams on the host's, as the first process has them; ``terminals`` as for ``standard_streams``."""
    for each in (output, error, terminal):
        if isinstance(each, HostSink | HostTerminal | OnceSink):
            each.look = kernel.sched.wait_for_reader
    streams = standard_streams(
        ConsoleOperations(kernel.memory, kernel.uaccess, kernel.signals), source, output, error, terminals
    )
    return connect(kernel, streams, terminal)


def connect(kernel: Kernel, streams: tuple[Console, Console, Console], terminal: HostTerminal | None) -> FdTable:
    """The first process's descriptors: a terminal that is ours is one open file, the rest are the streams.

    The tree gets /dev/tty, and /dev/pts/0 when there is a terminal.
    """
    sched, clock = kernel.sched, kernel.clock
    for each in streams:
        each.born = clock.nanoseconds
    kernel.files.add_device("/dev/tty", ControllingTty(sched, kernel.jobctl))
    if terminal is None:
        wait = streams[0].wait
        if wait is not None:
            sched.host = streams[0].input = InputEvents(sched, clock, wait)
        return standard_files(streams)
    tty = Tty(kernel.uaccess, sched, clock, kernel.jobctl, terminal.write, post=False)
    tty.discipline.termios = _host_termios(terminal)
    kernel.jobctl.install(tty, tty)
    sched.host = TerminalEvents(sched, clock, tty, terminal, kernel.tape)
    kernel.files.add_device("/dev/pts/0", tty)
    table, shared = FdTable(), File(tty, O_RDWR)
    for stream, flags in zip(streams, (O_RDONLY, O_WRONLY, O_WRONLY), strict=True):
        table.install(shared if stream.is_terminal else File(stream, flags))
    return table


def _host_termios(terminal: HostTerminal) -> Termios:
    """The rules that the user's terminal had: erase character, UTF-8 and so on stay what they were."""
    found = Termios()
    try:
        iflag, oflag, cflag, lflag, _, _, characters = terminal.settings()
    except (OSError, termios.error):
        return found
    found.iflag, found.oflag, found.cflag, found.lflag = iflag, oflag, cflag, lflag
    for index, character in enumerate(characters[: len(found.characters)]):
        found.characters[index] = character if isinstance(character, int) else character[0]
    return found
