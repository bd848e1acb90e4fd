"""Standard input, output and error: connected to the host's streams, or to buffers.

A stream that is not a terminal looks like a pipe to the guest, as it does to a native program whose output is
captured.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from sandbox.kernel.abi.errno import EAGAIN, EBADF, EIO, ENOSPC, KernelError
from sandbox.kernel.abi.flags import (
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLIN,
    POLLOUT,
    S_IFCHR,
    S_IFIFO,
)
from sandbox.kernel.abi.structs import makedev
from sandbox.kernel.fs.chardev import CharDevice
from sandbox.kernel.fs.file import FdTable, File

CAPTURE_LIMIT = 256 << 20

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

    def read(self, size: int) -> bytes:
        return os.read(self._descriptor, size)

    def ready(self) -> bool:
        import select

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


class Console(CharDevice):
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
        self._source = source
        self._sink = sink
        self._terminal = terminal

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
