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
from typing import TYPE_CHECKING, Protocol

from sandbox.kernel.abi.errno import EAGAIN, EBADF, EFAULT, EIO, ENOSPC, ERESTARTSYS, KernelError
from sandbox.kernel.abi.flags import (
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLIN,
    POLLOUT,
    S_IFCHR,
    S_IFIFO,
)
from sandbox.kernel.abi.poll import POLLRDNORM, POLLWRNORM
from sandbox.kernel.abi.structs import makedev
from sandbox.kernel.abi.termios import Termios
from sandbox.kernel.drivers.chrdev import CharDevice
from sandbox.kernel.drivers.controlling import ControllingTty
from sandbox.kernel.drivers.hostinput import InputEvents, TerminalEvents
from sandbox.kernel.drivers.hostterm import HostTerminal
from sandbox.kernel.ipc.stream import Ready, Stream
from sandbox.kernel.mm.uaccess import copy_from_user, put_device_bytes
from sandbox.kernel.task.wait import signal_pending
from sandbox.kernel.vfs.file import FdTable, File

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task

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
        return bool(select.select([self._descriptor], [], [], 0)[0])


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
    """Output to a file descriptor of the host, unbuffered."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]


class Console(CharDevice, Stream):
    """One standard stream.  ``terminal`` is the host descriptor of a real terminal behind it, or None."""

    def __init__(
        self,
        ino: int,
        name: str,
        source: Source | None = None,
        sink: Sink | None = None,
        terminal: int | None = None,
    ) -> None:
        super().__init__(ino, 0 if terminal is None else makedev(136, 0), name)
        self.kind = S_IFIFO if terminal is None else S_IFCHR
        self.mode = 0o600 if terminal is None else 0o620
        self._source = source
        self._sink = sink
        self._terminal = terminal
        self._left = b""
        self.input: InputEvents | None = None
        """Who waits for the host's side of standard input; without it reading blocks the machine."""

    @property
    def descriptor(self) -> int | None:
        """The host's descriptor behind it if reading it may wait."""
        return getattr(self._source, "waits_on", None)

    @property
    def available(self) -> int:
        """Bytes that are there to be read (FIONREAD)."""
        return len(self._left) + (getattr(self._source, "available", 0) if self._source is not None else 0)

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

    def read(self, size: int) -> bytes:
        if self._source is None:
            raise KernelError(EBADF)
        try:
            return self._source.read(size)
        except OSError as error:
            raise KernelError(EAGAIN if isinstance(error, BlockingIOError) else EIO) from error

    def write(self, data: bytes) -> int:
        """All of the data.  Raises KernelError(EPIPE) if nobody reads the host's stream any more."""
        if self._sink is None:
            raise KernelError(EBADF)
        try:
            self._sink(data)
        except OSError as error:
            raise KernelError(error.errno or EIO) from error
        return len(data)

    def read_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        if not count:
            return 0
        if self.input is not None and not self._left:
            self.input.wait(task)
            if signal_pending(task):
                raise KernelError(ERESTARTSYS)
        data = self._left or self.read(min(count, LARGEST_READ))
        self._left = data[count:]
        done = put_device_bytes(kernel, task, address, data[:count])
        self._left = data[done:count] + self._left
        return done

    def write_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        data, left = copy_from_user(kernel, task, address, count)
        if left and not data:
            raise KernelError(EFAULT)
        return self.write(data)

    def poll_file(self, kernel: Kernel, task: Task, file: File) -> Ready:
        """Input that may be waited for is ready: what the host has sent so far must make no difference."""
        ready = self.poll() if self.input is None else POLLIN | (POLLOUT if self._sink is not None else 0)
        return Ready(ready | (POLLRDNORM if ready & POLLIN else 0) | (POLLWRNORM if ready & POLLOUT else 0))

    def poll(self) -> int:
        ready = POLLOUT if self._sink is not None else 0
        if self._source is not None and self._source.ready():
            ready |= POLLIN
        return ready


def standard_streams(
    source: Source, output: Sink, error: Sink, terminals: tuple[int | None, ...] = (None, None, None)
) -> tuple[Console, Console, Console]:
    """Inodes of standard input, output and error; ``terminals`` as for ``Console``."""
    return (
        Console(1, "stdin", source, output if terminals[0] is not None else None, terminals[0]),
        Console(2, "stdout", None, output, terminals[1]),
        Console(3, "stderr", None, error, terminals[2]),
    )


def host_streams() -> tuple[Console, Console, Console]:
    """Standard streams connected to the host's descriptors 0, 1 and 2."""
    terminals = tuple(descriptor if os.isatty(descriptor) else None for descriptor in range(3))
    return standard_streams(HostSource(0), HostSink(1), HostSink(2), terminals)


def standard_files(streams: tuple[Console, Console, Console]) -> FdTable:
    """The descriptors 0, 1 and 2 of the first process."""
    table = FdTable()
    for stream, flags in zip(streams, (O_RDONLY, O_WRONLY, O_WRONLY), strict=True):
        table.install(File(stream, O_RDWR if stream.is_terminal and flags == O_RDONLY else flags))
    return table


def connect(kernel: Kernel, streams: tuple[Console, Console, Console], terminal: HostTerminal | None) -> FdTable:
    """The first process's descriptors: a terminal that is ours is one open file, the rest are the streams.

    The tree gets /dev/tty, and /dev/pts/0 when there is a terminal.
    """
    kernel.files.add_device("/dev/tty", ControllingTty(kernel))
    if terminal is None:
        waits_on = streams[0].descriptor
        if waits_on is not None:
            kernel.sched.host = streams[0].input = InputEvents(kernel, waits_on)
        return standard_files(streams)
    from sandbox.kernel.drivers.tty import Tty

    tty = kernel.tty = Tty(kernel, terminal.write, post=False)
    tty.discipline.termios = _host_termios(terminal)
    kernel.sched.host = TerminalEvents(kernel, tty, terminal)
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
