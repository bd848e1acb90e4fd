"""Standard input, output and error: connected to the host's streams, or to buffers.

A stream that is not a terminal looks like a pipe to the guest, as it does to a native program whose output is
captured.  A terminal that the machine has to itself is a ``Tty``; one that it only writes to, or shares with others
of a pipeline, stays in the host's hands.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import termios
from collections.abc import Callable
from typing import Protocol

from sandbox.kernel.abi.errno import EAGAIN, EBADF, EIO, EISDIR, ENOSPC, ENOTTY, EPIPE, ERESTARTSYS, KernelError
from sandbox.kernel.abi.flags import POLLIN, POLLOUT, S_IFCHR, S_IFIFO
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_USER, SIGPIPE
from sandbox.kernel.abi.structs import makedev
from sandbox.kernel.abi.termios import (
    TCFLSH,
    TCGETA,
    TCGETS,
    TCGETS2,
    TCSBRK,
    TCSBRKP,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCSCTTY,
    TIOCSPGRP,
    Termios,
    pack_speeds,
    pack_winsize,
)
from sandbox.kernel.base.tape import Door, Tape
from sandbox.kernel.drivers.chrdev import ByteOperations, CharDevice
from sandbox.kernel.drivers.hostinput import InputEvents
from sandbox.kernel.drivers.hostoutput import nobody_looks, write_all
from sandbox.kernel.drivers.tty import SETS
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import FileOperations, Pieces, Ready, normal
from sandbox.machine.memory import PhysicalMemory

CAPTURE_LIMIT = 256 << 20
LARGEST_READ = 1 << 16
"""Bytes that one read takes from the host at most."""

Sink = Callable[[bytes], None]
"""Takes all the bytes it is given; may raise OSError."""


class Source(Protocol):
    """Where standard input comes from."""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, waiting for the first; nothing at the end.  May raise OSError."""
        ...

    def ready(self) -> bool:
        """True if reading would not wait."""
        ...


class BytesSource:
    """Input that is known beforehand."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._position = 0

    def read(self, size: int) -> bytes:
        piece = self._data[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def ready(self) -> bool:
        return True


class HostSource:
    """Input from a file descriptor of the host."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor

    @property
    def waits_on(self) -> int | None:
        """The descriptor if reading may wait for somebody, None for a file."""
        try:
            return None if stat.S_ISREG(os.fstat(self._descriptor).st_mode) else self._descriptor
        except OSError:
            return None

    @property
    def available(self) -> int:
        """Bytes that the host has for us now."""
        try:
            return struct.unpack("i", fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]
        except OSError:
            return 0

    def read(self, size: int) -> bytes:
        return os.read(self._descriptor, size)

    def ready(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Whether reading would not wait, or would not after so long."""
        return bool(select.select([self._descriptor], [], [], seconds)[0])


class TapedSource:
    """Input that is given again as it came; ``waits`` when reading it may wait."""

    def __init__(self, source: Source, tape: Tape, waits: bool | None = None) -> None:
        self._source, self._tape = source, tape
        self.waits_on = getattr(source, "waits_on", None) if waits is None else (0 if waits else None)

    @property
    def available(self) -> int:
        """Bytes that are there now."""
        waiting = self._tape.waiting_input
        found = self._tape.ask(
            Door.AVAILABLE, b"", lambda: (waiting + getattr(self._source, "available", 0)).to_bytes(8, "little")
        )
        return int.from_bytes(found, "little")

    def read(self, size: int) -> bytes:
        return self._tape.input(size, self._source.read)

    def ready(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Whether reading would not wait: what came before is there at once."""
        tape = self._tape
        if tape.replaying or tape.final or tape.waiting_input:
            return True
        wait: Callable[[float], bool] | None = getattr(self._source, "wait", None)
        return self._source.ready() if wait is None else wait(seconds)


class CaptureSink:
    """Output into ``data``, up to a limit in bytes; beyond it the guest meets ENOSPC."""

    def __init__(self, limit: int = CAPTURE_LIMIT) -> None:
        self.data = bytearray()
        self.limit = limit

    def __call__(self, data: bytes) -> None:
        if len(self.data) + len(data) > self.limit:
            raise OSError(ENOSPC, "captured output is over its limit")
        self.data += data


class HostSink:
    """Output to a file descriptor of the host, unbuffered.  ``look`` is called while nobody takes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.look: Callable[[], None] = nobody_looks
        self.lost: OSError | None = None
        """Why something that the guest wrote did not get out; not that nobody reads it."""

    def __call__(self, data: bytes) -> None:
        try:
            write_all(self._descriptor, data, self.look)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost = error
            raise


class Console(CharDevice):
    """One standard stream.  ``terminal`` is the host descriptor of a real terminal behind it, or None."""

    def __init__(
        self,
        ino: int,
        name: str,
        f_op: FileOperations,
        source: Source | None = None,
        sink: Sink | None = None,
        terminal: int | None = None,
    ) -> None:
        super().__init__(ino, 0 if terminal is None else makedev(136, 0), name, f_op)
        self.kind = S_IFIFO if terminal is None else S_IFCHR
        self.mode = 0o600 if terminal is None else 0o620
        self._source = source
        self._sink = sink
        self._terminal = terminal
        self.left = b""
        """Bytes that came and were not taken."""
        self.input: InputEvents | None = None
        """Who waits for the host's side of standard input; without it reading blocks the machine."""

    @property
    def wait(self) -> Callable[[float], bool] | None:
        """Waits for what can be read, so many seconds at most; None if reading never waits."""
        waits = getattr(self._source, "waits_on", None) is not None
        return getattr(self._source, "wait", None) if waits else None

    @property
    def available(self) -> int:
        """Bytes that are there to be read (FIONREAD)."""
        return len(self.left) + (getattr(self._source, "available", 0) if self._source is not None else 0)

    @property
    def is_terminal(self) -> bool:
        """Whether ioctl TCGETS succeeds, by which isatty(3) tells."""
        return self._terminal is not None

    def window_size(self) -> tuple[int, int]:
        """(rows, columns) of the terminal."""
        try:
            size = os.get_terminal_size(self._terminal if self._terminal is not None else -1)
        except OSError:
            return 24, 80
        return size.lines, size.columns

    def read_bytes(self, size: int) -> bytes:
        if self._source is None:
            raise KernelError(EBADF)
        try:
            return self._source.read(size)
        except OSError as error:
            raise KernelError(error.errno if error.errno in (EAGAIN, EBADF, EISDIR) else EIO) from error

    def write_bytes(self, data: bytes) -> int:
        """All of the data.  Raises KernelError(EPIPE) if nobody reads the host's stream any more."""
        if self._sink is None:
            raise KernelError(EBADF)
        try:
            self._sink(data)
        except OSError as error:
            raise KernelError(error.errno or EIO) from error
        return len(data)

    def waiting_mask(self) -> int:
        """POLL* bits of a reader that may be made to wait."""
        return self.ready_mask() if self.input is None else POLLIN | (POLLOUT if self._sink is not None else 0)

    def ready_mask(self) -> int:
        ready = POLLOUT if self._sink is not None else 0
        if self._source is not None and self._source.ready():
            ready |= POLLIN
        return ready


class ConsoleOperations(ByteOperations):
    """What open files of standard streams do."""

    def __init__(self, memory: PhysicalMemory, uaccess: UserAccess, signals: Signals) -> None:
        super().__init__(memory, uaccess)
        self._signals = signals

    def writev(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        """SIGPIPE when nobody reads the host's pipe any more, as if it were the program's own."""
        try:
            return super().writev(file, task, pieces, position)
        except KernelError as error:
            if error.errno == EPIPE:
                self._signals.send_signal(
                    task, SIGPIPE, SigInfo.sent(SIGPIPE, SI_USER, task.tgid, task.cred.uid.real), thread=True
                )
            raise

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.readv(file, task, [(address, count)])

    def readv(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        console, count = _console_of(file), sum(length for _, length in pieces)
        if not count:
            return 0
        if console.input is not None and not console.left:
            console.input.wait(task)
            if task.pending:
                raise KernelError(ERESTARTSYS)
        data = console.left or console.read_bytes(min(count, LARGEST_READ))
        console.left = data[count:]
        done = self._uaccess.scatter_device_bytes(task, pieces, data[:count])
        console.left = data[done:count] + console.left
        return done

    def poll(self, file: File, task: Task) -> Ready:
        """Input that may be waited for is ready: what the host has sent so far must make no difference."""
        return Ready(normal(_console_of(file).waiting_mask()))

    def available(self, file: File) -> int:
        return _console_of(file).available

    def ioctl(self, file: File, task: Task, request: int, argument: int) -> int:
        """A terminal of the host that the machine does not have to itself: it may be asked, not changed."""
        console, put_user = _console_of(file), self._uaccess.put_user
        if not console.is_terminal:
            raise KernelError(ENOTTY)
        answers = {
            TIOCGWINSZ: lambda: pack_winsize(*console.window_size()),
            TIOCGPGRP: lambda: task.pgid.to_bytes(4, "little"),
            TIOCGSID: lambda: task.sid.to_bytes(4, "little"),
            TCGETS: lambda: Termios().pack(),
            TCGETS2: lambda: Termios().pack() + pack_speeds(),
            TCGETA: lambda: Termios().pack_old(),
        }
        if request in answers:
            put_user(task, argument, answers[request]())
        elif request not in SETS and request not in (TIOCSPGRP, TIOCSCTTY, TCFLSH, TCSBRK, TCSBRKP):
            raise KernelError(ENOTTY)
        return 0


def _console_of(file: File) -> Console:
    assert isinstance(file.inode, Console)
    return file.inode


Terminals = tuple[int | None, ...]
"""Host descriptors of the terminals behind standard input, output and error; None where there is none."""


def standard_streams(
    f_op: FileOperations, source: Source, output: Sink, error: Sink, terminals: Terminals = (None, None, None)
) -> tuple[Console, Console, Console]:
    """Inodes of standard input, output and error."""
    return (
        Console(1, "stdin", f_op, source, output if terminals[0] is not None else None, terminals[0]),
        Console(2, "stdout", f_op, None, output, terminals[1]),
        Console(3, "stderr", f_op, None, error, terminals[2]),
    )
