"""What came from outside, in the order in which it came: given again when a run is gone through once more.

All copies of a process (the checkpoints of ``sandbox.debug``) share one tape and each knows how far it has come; only
one of them runs at a time.  A recording in a file is a tape that was filled on another machine.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from enum import IntEnum

from sandbox.x86.errors import SandboxError

_ENTRY = struct.Struct("<BBHIQ")
_SAMPLE = struct.Struct("<QQ")
VALUE, ERROR = 0, 1


class Door(IntEnum):
    """Where something comes in."""

    INPUT = 1
    """Bytes of standard input."""
    AVAILABLE = 2
    """How many of them wait (FIONREAD)."""
    OUTPUT = 3
    """An error of the host's where output went."""
    FILES = 4
    """An answer of the host's file system."""


class NotRepeatable(SandboxError):
    """The run asks the host for something else than it did before, or for more than there is."""

    exit_status = 2


class TapeEnds(SandboxError):
    """A recording is at its end, and the run is not."""

    exit_status = 1


class Tape:
    """Answers of the outside.  ``final`` ones are all there is: a recording."""

    def __init__(self, data: bytes = b"", times: bytes = b"", typed: bytes = b"", final: bool = False) -> None:
        self._file, self._pushed = _shared("tape", data), _shared("input", b"")
        self.times, self.typed = HostTimes(times), Arrivals(typed)
        self.position = 0
        self.final = final
        self.strict = final
        """A run that asks for something else than before is refused, and is no new future."""

    @property
    def replaying(self) -> bool:
        """There are answers that this run has not come to yet."""
        return self.position < os.fstat(self._file).st_size

    def data(self) -> bytes:
        """All of it."""
        return os.pread(self._file, os.fstat(self._file).st_size, 0)

    def ask(self, door: Door, key: bytes, work: Callable[[], bytes]) -> bytes:
        """What ``work`` gives, or gave when the run came here before.  Raises OSError alike, and NotRepeatable."""
        found = self._next()
        if found is not None and found[:2] != (door, zlib.crc32(key)):
            self._part(door)
            found = None
        if found is None:
            return self._live(door, key, work)
        _, _, kind, number, value = found
        self._pass(value)
        if kind == ERROR:
            raise OSError(number, os.strerror(number))
        return value

    def _live(self, door: Door, key: bytes, work: Callable[[], bytes]) -> bytes:
        if self.final:
            raise TapeEnds(f"the recording ends here: it has no more of {door.name.lower()}")
        try:
            value = work()
        except OSError as error:
            self._append(door, key, ERROR, error.errno or 0, b"")
            raise
        self._append(door, key, VALUE, 0, value)
        return value

    def came(self, door: Door, key: bytes) -> bytes | None:
        """What had come unasked at a place that ``key`` names, None for nothing."""
        found = self._next()
        if found is None or found[:2] != (door, zlib.crc32(key)):
            return None
        self._pass(found[4])
        return found[4]

    def note(self, door: Door, key: bytes, value: bytes) -> None:
        """Something has come unasked."""
        self._append(door, key, VALUE, 0, value)

    def input(self, size: int, read: Callable[[int], bytes]) -> bytes:
        """Standard input: first what another future had taken."""
        return self.ask(Door.INPUT, b"", lambda: self._pushed_back(size) or read(size))

    @property
    def waiting_input(self) -> int:
        """Bytes that another future had taken, and that come again."""
        return os.fstat(self._pushed).st_size

    def cut(self) -> None:
        """The future is another one now; what had been read of standard input comes again."""
        taken, here = b"", self.position
        while (found := self._next()) is not None:
            taken += found[4] if found[0] == Door.INPUT else b""
            self._pass(found[4])
        self.position = here
        os.ftruncate(self._file, here)
        self._push_back(taken)

    def _part(self, door: Door) -> None:
        """What comes next is an answer to another question."""
        if self.strict:
            raise NotRepeatable(f"the run asks for {door.name.lower()}, and did not when it came here before")
        self.cut()

    def _next(self) -> tuple[int, int, int, int, bytes] | None:
        """(door, hash of the key, kind, errno, value) of the entry that comes next."""
        head = os.pread(self._file, _ENTRY.size, self.position)
        if len(head) < _ENTRY.size:
            return None
        door, kind, number, key, size = _ENTRY.unpack(head)
        return door, key, kind, number, os.pread(self._file, size, self.position + _ENTRY.size)

    def _pass(self, value: bytes) -> None:
        self.position += _ENTRY.size + len(value)

    def _append(self, door: Door, key: bytes, kind: int, number: int, value: bytes) -> None:
        entry = _ENTRY.pack(door, kind, number, zlib.crc32(key), len(value)) + value
        os.pwrite(self._file, entry, self.position)
        self.position += len(entry)

    def _pushed_back(self, size: int) -> bytes:
        left = os.pread(self._pushed, self.waiting_input, 0)
        _replace(self._pushed, left[size:])
        return left[:size]

    def _push_back(self, data: bytes) -> None:
        _replace(self._pushed, data + os.pread(self._pushed, self.waiting_input, 0))


class HostTimes:
    """What the host's clock showed, by the machine's own time: (blocks, nanoseconds), both 64 bits.

    A time that nobody asked for when the run came by shows what the last one before it did.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._file = _shared("times", data)
        self._index, self._last = -1, (-1, 0)

    def data(self) -> bytes:
        """All of it."""
        return os.pread(self._file, os.fstat(self._file).st_size, 0)

    def before_end(self, now: int) -> bool:
        """The run has been farther than this."""
        count = os.fstat(self._file).st_size // _SAMPLE.size
        return bool(count) and self._at(count - 1)[0] > now

    def at(self, now: int, ask: Callable[[], int]) -> int:
        """The host's time at a time of the machine's."""
        if now == self._last[0]:
            return self._last[1]
        count = os.fstat(self._file).st_size // _SAMPLE.size
        while self._index + 1 < count and (found := self._at(self._index + 1))[0] <= now:
            self._index, self._last = self._index + 1, found
        if now == self._last[0] or self._index + 1 < count:
            return self._last[1]
        self._index, self._last = count, (now, ask())
        os.pwrite(self._file, _SAMPLE.pack(*self._last), count * _SAMPLE.size)
        return self._last[1]

    def _at(self, index: int) -> tuple[int, int]:
        now, shown = _SAMPLE.unpack(os.pread(self._file, _SAMPLE.size, index * _SAMPLE.size))
        return now, shown


class Arrivals:
    """What came from a terminal unasked, each with the machine's time at which it is delivered."""

    _HEAD = struct.Struct("<QI")

    def __init__(self, data: bytes = b"") -> None:
        self._file = _shared("typed", data)
        self._position = 0

    def data(self) -> bytes:
        """All of it."""
        return os.pread(self._file, os.fstat(self._file).st_size, 0)

    def next(self) -> tuple[int, bytes] | None:
        """What comes next that had come when the run was here before: when, and what."""
        head = os.pread(self._file, self._HEAD.size, self._position)
        if len(head) < self._HEAD.size:
            return None
        at, size = self._HEAD.unpack(head)
        return at, os.pread(self._file, size, self._position + self._HEAD.size)

    def passed(self, value: bytes) -> None:
        """The next one was delivered."""
        self._position += self._HEAD.size + len(value)

    def add(self, at: int, value: bytes) -> None:
        """Something has come, and is delivered at a time."""
        os.pwrite(self._file, self._HEAD.pack(at, len(value)) + value, os.fstat(self._file).st_size)


class _Descriptor(int):
    """A file descriptor that is closed, in this process, when nobody has it any more."""

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self)


def _shared(name: str, data: bytes) -> int:
    """Memory that copies of this process share, as a file."""
    made = _Descriptor(os.memfd_create(f"sandbox-{name}"))
    _replace(made, data)
    return made


def _replace(descriptor: int, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], done)
