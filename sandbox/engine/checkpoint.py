"""Checkpoints of a running machine, as forks that wait: what going back in time is made of.

All that a machine is lies in private memory of one process: RAM, the engine, the kernel's Python objects, its greenlets
(``fork(2)``).  So a checkpoint is a forked child that waits on a socket, and going back wakes it: it forks again, the
copy goes on from there, and the checkpoint stays.  Two parts::

    a face                                     the machine's process, and later each copy
    keeper = Keeper(play)            ->        play(line), which builds a machine and runs it
    keeper.receive()                 <-        line.send(answer)
    keeper.send(order)               ->        line.receive()
    (noted)                          <-        line.checkpoint(moment) at a return of ``Cpu.run``
    keeper.go_back(moment)           ->        the call of ``checkpoint`` returns True, in a copy

Orders and answers are plain data that pickle.  A moment is whatever compares, (time, instruction) for a debugger.
Forks share the offsets of open files, and their output is told again: who replays keeps both away.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.engine import stubs, ticks
from sandbox.x86.errors import SandboxError

Moment = tuple[int, ...]
FIRST_INTERVAL = 0.1
"""Seconds of the host's between the first checkpoints; they are spaced twice as wide each time they are thinned."""
MOST = 32
MOST_BYTES = 512 << 20
_LOOK_AT_MEMORY_EVERY = 8
_PR_SET_CHILD_SUBREAPER = 36
_HEADER = struct.Struct("<Q")


class NoCheckpoint(SandboxError):
    """This process cannot be forked as it is, or nothing was kept that early."""

    exit_status = 2


class LineDied(SandboxError):
    """The process of the machine has ended without an answer."""

    exit_status = 3


class _Closed(Exception):
    """The other end is gone."""


def _put(end: socket.socket, kind: str, value: object, descriptors: tuple[int, ...] = ()) -> None:
    data = pickle.dumps((kind, value))
    try:
        socket.send_fds(end, [_HEADER.pack(len(data))], list(descriptors))
        end.sendall(data)
    except OSError as error:
        raise _Closed from error


def _get(end: socket.socket) -> tuple[str, Any, list[int]]:
    try:
        head, descriptors, _, _ = socket.recv_fds(end, _HEADER.size, 1)
        head += _exactly(end, _HEADER.size - len(head)) if head else b""
        if not head:
            raise _Closed
        kind, value = pickle.loads(_exactly(end, _HEADER.unpack(head)[0]))
    except OSError as error:
        raise _Closed from error
    return kind, value, descriptors


def _exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = end.recv(size - len(data))
        if not piece:
            raise _Closed
        data += piece
    return bytes(data)


class Line:
    """The machine's end: in its process, and in each copy of it."""

    def __init__(self, end: socket.socket, interval: float, most: int) -> None:
        self._end, self._most = end, most
        self._children: list[int] = []
        self._set(interval, 0)

    def _set(self, interval: float, count: int) -> None:
        self._interval, self._count = interval, count
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for another checkpoint; they are spaced by the host's time."""
        return time.monotonic() - self._last >= self._interval

    def send(self, answer: object) -> None:
        """Plain data for the keeper.  Ends this process when there is none any more."""
        self._tell("data", answer)

    def receive(self) -> Any:
        """What the keeper sends; waits for it.  Ends this process when there is no keeper any more."""
        try:
            return _get(self._end)[1]
        except _Closed:
            os._exit(0)

    def _tell(self, kind: str, value: object, descriptors: tuple[int, ...] = ()) -> None:
        try:
            _put(self._end, kind, value, descriptors)
        except _Closed:
            os._exit(0)

    def checkpoint(self, moment: Moment) -> bool:
        """Keep the present state under a moment.  False; and True in each copy that goes on from here later.

        No guest code may be running.  Raises NoCheckpoint in a process with threads, which fork would lose.
        """
        if threading.active_count() > 1:
            raise NoCheckpoint("a process with threads cannot be kept", "Faces run in a process of their own.")
        self._children = [pid for pid in self._children if not _ended(pid)]
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid:
            theirs.close()
            self._children.append(pid)
            self._tell("kept", (moment, pid), (ours.fileno(),))
            ours.close()
            self._spaced()
            return False
        ours.close()
        self._end.close()
        self._children = []
        self._wait(theirs)
        return True

    def _spaced(self) -> None:
        """One more is kept; where that is one too many, the keeper thins them out."""
        self._last = time.monotonic()
        self._count += 1
        if self._count > self._most:
            self._interval, self._count = self._interval * 2, self._most // 2 + 1

    def _wait(self, control: socket.socket) -> None:
        """A checkpoint's life.  Returns in the copies only; ends when the keeper lets go."""
        before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGCHLD)]
        while True:
            try:
                _, (interval, count), (end,) = _get(control)
            except (_Closed, ValueError):
                os._exit(0)
            if os.fork() == 0:
                break
            os.close(end)
        control.close()
        for number, handler in before:
            signal.signal(number, handler)
        ticks.restart()
        self._end = socket.socket(fileno=end)
        self._set(interval, count)
        self._tell("live", os.getpid())


def _ended(pid: int) -> bool:
    """Whether a child has ended; it is waited for."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return True


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint: its moment, its process, and the keeper's end of its socket."""

    moment: Moment
    pid: int
    control: socket.socket


class Keeper:
    """The face's end: one live machine, and what was kept of it.

    ``most`` and ``most_bytes`` (of memory that checkpoints have for themselves) bound what is kept: beyond either every
    second one goes, the first and the last stay.
    """

    def __init__(
        self,
        play: Callable[[Line], object],
        interval: float = FIRST_INTERVAL,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._interval, self._most, self._most_bytes = interval, max(most, 2), most_bytes
        self.kept: list[Kept] = []
        """By moment, earliest first."""
        self._noted = 0
        if stubs.native_host():
            stubs.libc().prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
        self._end, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._end.close()
            _play(play, Line(theirs, interval, self._most))
        theirs.close()

    # -- the live machine

    def send(self, order: object) -> None:
        """Plain data for the live machine.  Raises LineDied."""
        try:
            _put(self._end, "data", order)
        except _Closed as closed:
            raise self._died() from closed

    def receive(self) -> Any:
        """What the live machine sends; checkpoints that it makes meanwhile are noted.  Raises LineDied."""
        try:
            while True:
                kind, value, descriptors = _get(self._end)
                if kind == "data":
                    return value
                if kind == "kept":
                    self._note(Kept(value[0], value[1], socket.socket(fileno=descriptors[0])))
        except _Closed as closed:
            raise self._died() from closed

    def _died(self) -> LineDied:
        return LineDied("the machine's process has ended without an answer", f"It was process {self._pid}.")

    # -- checkpoints

    def moments(self) -> list[Moment]:
        """What can be gone back to."""
        return [each.moment for each in self.kept]

    def go_back(self, moment: Moment) -> Moment:
        """Let a copy of the last checkpoint not after a moment take the live machine's place; which it was.

        Raises NoCheckpoint when all are later; then the live machine stays.
        """
        self._drain()
        found = [each for each in self.kept if each.moment <= moment]
        if not found:
            raise NoCheckpoint(f"nothing was kept at {moment} or before")
        self._end_live()
        self._end, theirs = socket.socketpair()
        try:
            _put(found[-1].control, "wake", (self._interval, len(self.kept)), (theirs.fileno(),))
            theirs.close()
            _, self._pid, _ = _get(self._end)
        except _Closed as closed:
            raise self._died() from closed
        return found[-1].moment

    def _drain(self) -> None:
        """Note what the live machine has kept and not told yet; its answers are not wanted any more."""
        self._end.setblocking(False)
        with contextlib.suppress(_Closed, BlockingIOError):
            while self._end.recv(1, socket.MSG_PEEK):
                self._end.setblocking(True)
                kind, value, descriptors = _get(self._end)
                if kind == "kept":
                    self._note(Kept(value[0], value[1], socket.socket(fileno=descriptors[0])))
                self._end.setblocking(False)
        with contextlib.suppress(OSError):
            self._end.setblocking(True)

    def _note(self, new: Kept) -> None:
        """A moment that was kept before, on the way here the first time, is kept once."""
        if any(each.moment == new.moment for each in self.kept):
            new.control.close()
            return
        self.kept = sorted([*self.kept, new], key=lambda each: each.moment)
        self._noted += 1
        full = len(self.kept) > self._most
        if full or (not self._noted % _LOOK_AT_MEMORY_EVERY and self.private_bytes() > self._most_bytes):
            self._thin()

    def _thin(self) -> None:
        """Let every second checkpoint go, and space those to come twice as wide."""
        last = len(self.kept) - 1
        for each in self.kept[1:last:2]:
            each.control.close()
        self.kept = [each for at, each in enumerate(self.kept) if at % 2 == 0 or at == last]
        self._interval *= 2

    def private_bytes(self) -> int:
        """Host memory that the checkpoints share with nobody (proc(5), smaps_rollup)."""
        return sum(_private_bytes(each.pid) for each in self.kept)

    # -- the end

    def _end_live(self) -> None:
        self._end.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def close(self) -> None:
        """End the live machine and let all checkpoints go."""
        self._end_live()
        for each in self.kept:
            each.control.close()
        for each in self.kept:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(each.pid, 0)
        self.kept = []
        if stubs.native_host():
            stubs.libc().prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(0), 0, 0, 0)


def _play(play: Callable[[Line], object], line: Line) -> None:
    """The machine's process, and every copy of it: all come back to here and end."""
    status = 1
    try:
        play(line)
        status = 0
    finally:
        os._exit(status)


def _private_bytes(pid: int) -> int:
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open(encoding="ascii") as lines:
            return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Clean", "Private_D")))
    except OSError:
        return 0
