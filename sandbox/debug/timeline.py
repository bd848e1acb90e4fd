"""Going back: checkpoints are forks of the process that runs the machine, each of which waits to be woken.

A checkpoint that is woken forks again, so that it stays for the next time, and its copy goes on in the place of the
process that woke it.  From there a run forward ends at the place that was asked for: the same run gives the same
events at the same moments.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from sandbox.debug.stops import Moment
from sandbox.engine import ticks
from sandbox.records import dataclass, field

FIRST_SPACING = 0.1
"""Seconds of the host's time between two checkpoints, at first."""
MOST = 32
"""Checkpoints at a time; when there are more, every second one goes and the spacing doubles."""
SHARE = 0.04
"""What checkpoints may cost of the time that the guest runs: a dearer one is followed by a longer pause."""
_HEADER = struct.Struct("<I")


@dataclass(slots=True)
class Mark:
    """A checkpoint: the moment at which it was taken, the page faults until then, and the socket that wakes it.

    A ``pinned`` one stays: what a person has set makes the run behind it another one.
    """

    moment: Moment
    faults: int
    wake: socket.socket
    pinned: bool = False

    def before(self, moment: Moment) -> bool:
        """It was taken before a moment: the instructions of one time follow each other."""
        mine = self.moment
        if mine.time != moment.time or mine.cpu != moment.cpu:
            return mine.time < moment.time
        return mine.eip < moment.eip or (mine.eip == moment.eip and bool(moment.event))


class Woken(BaseException):
    """This process is the copy of a checkpoint: ``request`` is what the one before it was asked."""

    def __init__(self, request: Any) -> None:
        super().__init__("woken")
        self.request = request


@dataclass(slots=True)
class Timeline:
    """The checkpoints of one run.

    ``channel`` is the connection to the face: only the process that runs holds it.
    """

    channel: socket.socket
    marks: list[Mark] = field(default_factory=list)
    spacing: float = FIRST_SPACING
    paused: bool = False
    """While the past is looked through, no new checkpoint is made."""
    _due: float = 0.0

    def look(self, state: Callable[[], tuple[Moment, int]]) -> None:
        """Between two runs of the engine: a checkpoint, when it is time for one.  Raises Woken in its copies."""
        if time.monotonic() >= self._due and not self.paused:
            self.take(*state())

    def resumed(self) -> None:
        """The guest goes on after a stop, which was no time of its own."""
        self._due = max(self._due, time.monotonic() + self.spacing)

    def take(self, moment: Moment, faults: int, pinned: bool = False) -> None:
        """A checkpoint of this very state, unless there is one.  Raises Woken in its copies."""
        if self.marks and not self.marks[-1].before(moment) and not pinned:
            return
        if pinned:  # what is set at one moment is one change: gdb writes registers one by one
            self._forget([mark for mark in self.marks[1:] if mark.pinned and mark.moment == moment])
        began = time.monotonic()
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            self._wait(theirs)
        theirs.close()
        self.marks.append(Mark(moment, faults, ours, pinned))
        self._thin()
        ended = time.monotonic()
        self._due = ended + max(self.spacing, (ended - began) / SHARE)

    def _thin(self) -> None:
        if len(self.marks) > MOST:
            self._forget([mark for mark in self.marks[1::2] if not mark.pinned])
            self.spacing *= 2

    def _forget(self, marks: Iterable[Mark]) -> None:
        for mark in marks:
            mark.wake.close()
            self.marks.remove(mark)

    def forget_after(self, moment: Moment) -> None:
        """The future is another one now: later checkpoints are of no use."""
        self._forget([each for each in self.marks if not each.before(moment) and each.moment != moment])

    def before(self, moment: Moment) -> int | None:
        """Index of the last checkpoint before a moment, None when there is none."""
        found = [index for index, mark in enumerate(self.marks) if mark.before(moment)]
        return found[-1] if found else None

    def before_fault(self, number: int) -> int:
        """Index of the last checkpoint before a page fault, 0 for the first of all."""
        return max((index for index, mark in enumerate(self.marks) if mark.faults < number), default=0)

    def wake(self, index: int, request: Any) -> NoReturn:
        """Let the copy of a checkpoint go on in this process's place."""
        self._hand(self.marks[index], request, self.channel)
        os._exit(0)

    def ask(self, index: int, request: Any) -> socket.socket:
        """Let the copy of a checkpoint answer a request and end; this process stays where it is.

        The answer comes over the socket, as those of a worker do.
        """
        ours, theirs = socket.socketpair()
        self._hand(self.marks[index], request, theirs)
        theirs.close()
        return ours

    def _hand(self, mark: Mark, request: Any, channel: socket.socket) -> None:
        """Wake a checkpoint's copy, which answers over ``channel``."""
        payload = pickle.dumps(
            (request, [(each.moment, each.faults, each.pinned) for each in self.marks], self.spacing)
        )
        files = [channel.fileno(), *(each.wake.fileno() for each in self.marks)]
        socket.send_fds(mark.wake, [_HEADER.pack(len(payload))], files)
        mark.wake.sendall(payload)

    def _wait(self, wake: socket.socket) -> None:
        """The life of a checkpoint; returns never, raises Woken in its copies."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self.channel.close()
        for mark in self.marks:
            mark.wake.close()
        while True:
            head, files, _, _ = socket.recv_fds(wake, _HEADER.size, MOST + 2)
            if len(head) < _HEADER.size:
                os._exit(0)
            payload = _exactly(wake, _HEADER.unpack(head)[0])
            if os.fork() == 0:
                break
            for each in files:
                os.close(each)
        wake.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request, moments, self.spacing = pickle.loads(payload)
        self.channel, *sockets = (socket.socket(fileno=each) for each in files)
        self.marks = [
            Mark(at, faults, each, pinned) for (at, faults, pinned), each in zip(moments, sockets, strict=True)
        ]
        ticks.start_again()
        raise Woken(request)


def _exactly(wake: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = wake.recv(size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


class OnceSink:
    """Output that a run forward from a checkpoint gives again is shown once: how much was, all copies know."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._shown = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._position = 0

    def __call__(self, data: bytes) -> None:
        self._position += len(data)
        new = self._position - self._shown[0]
        if new > 0:
            self._shown[0] = self._position
            self._sink(data[-new:])
