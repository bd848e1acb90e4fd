"""Our own standard streams: closed, full, or with an encoding that cannot show what we say."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterable
from typing import IO, Any

BAD_INPUT = 2
NAMES = ("standard input", "standard output", "standard error")


class OutputLost(Exception):
    """What was printed did not get out; ``errno`` is the host's reason."""

    def __init__(self, descriptor: int, errno: int) -> None:
        super().__init__(f"{NAMES[descriptor]}: {os.strerror(errno)}")
        self.descriptor = descriptor


class _Stream(io.FileIO):
    """A descriptor that waits while it is full for the moment, and says OutputLost when it is full for good."""

    lost = False

    def write(self, data: Any) -> int:
        try:
            done = super().write(data)
            while done is None:
                select.select([], [self], [])
                done = super().write(data)
            return done
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost = True
            if self.fileno() == 2:  # nobody is left to be told; the exit status tells
                return len(data)
            raise OutputLost(self.fileno(), error.errno or 0) from error


def open_standard() -> None:
    """Let each standard stream exist, print any text, and report what it cannot take.

    A closed one gets a descriptor that refuses, as a closed one does, so that no file which is opened later takes its
    number (GNU's stdopen does the same).  Streams that somebody has put in the place of Python's stay.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest that is free
    if sys.stdin is None or sys.stdin is sys.__stdin__:
        sys.stdin = _reader(sys.stdin)
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _writer(1, sys.stdout)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _writer(2, sys.stderr)


def _reader(old: IO[str] | None) -> IO[str]:
    """Standard input; bytes that are no text are shown as ``\\xff``."""
    if isinstance(old, io.TextIOWrapper):
        old.reconfigure(errors="backslashreplace")
        return old
    return open(0, encoding="utf-8", errors="backslashreplace", closefd=False)


def _writer(number: int, old: IO[str] | None) -> IO[str]:
    encoding = getattr(old, "encoding", "utf-8")
    raw = _Stream(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=number == 2 or raw.isatty()
    )


def discard(descriptor: int) -> None:
    """What is still buffered for a stream goes nowhere, so that it does not fail again when Python ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def drop_unread() -> None:
    """What was said on standard error goes nowhere if its reader is gone, as ``head`` is after its lines."""
    try:
        sys.stderr.flush()
    except BrokenPipeError:
        discard(2)


def say(*lines: str) -> None:
    """Lines on standard error, whole, in the columns of its terminal; without its reader they are lost, and change no
    exit status."""
    from sandbox.cli.colour import columns_of
    from sandbox.report.width import wrapped

    columns = columns_of(sys.stderr)
    with contextlib.suppress(BrokenPipeError):
        for line in (row for each in lines for row in each.splitlines() or [""]):
            print(*wrapped(line, columns), sep="\n", file=sys.stderr)


def flush() -> bool:
    """Write out what is buffered; False when some of what was said on standard error is lost.

    Raises OutputLost and BrokenPipeError for standard output.
    """
    sys.stdout.flush()
    drop_unread()
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return not getattr(raw, "lost", False)


def tell_lost(sinks: Iterable[object]) -> bool:
    """Whether the host did not take something that the guest wrote to standard output or error; says so."""
    lost = False
    for number, sink in enumerate(sinks, 1):
        error = getattr(sink, "lost", None)
        if error is not None:
            lost = True
            print(f"sandbox: {NAMES[number]}: {error.strerror}: what the guest wrote is lost", file=sys.stderr)
    return lost
