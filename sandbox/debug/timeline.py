"""Going back: checkpoints are forks of the process that runs the machine, each of which waits to be woken.

A checkpoint that is woken forks again, so that it stays for the next time, and its copy goes on in the place of the
process that woke it.  From there a run forward ends at the place that was asked for: the same run gives the same
events at the same moments.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from sandbox.debug.host_costs import faults_of_ours, held_by, seconds_a_copy
from sandbox.debug.stops import Moment
from sandbox.engine import ticks
from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError

if TYPE_CHECKING:
    from sandbox.debug.edits import Edit

FIRST_SPACING = 0.1
"""Seconds of the host's time between two checkpoints, at first."""
MOST = 32
"""Checkpoints at a time; when there are more, every second one goes and the spacing doubles."""
SHARE = 0.08
"""What checkpoints may cost of the time that the guest runs, with the copies of pages behind them: a dearer one is
followed by a longer pause."""
MOST_EDITS = 100_000
"""Changes that are kept: beyond that the older half goes, and nobody goes back behind what is left."""
EDITS_APART = 256
"""Changes from one checkpoint to the next, so that going back has no more of them to do again than some hundred."""
FDS_AT_ONCE = 200
"""File descriptors in one message; Linux allows 253 (SCM_MAX_FD)."""
MOST_MEMORY = 1 << 30
"""Bytes that checkpoints may hold together; when it is more, every second one goes."""
MEASURED = 1.0
"""Seconds between two looks at what they hold."""
MOST_MEASURED = 64
"""Checkpoints that are looked at."""
FACE_SECONDS = 0.5
"""How long a run goes on for a face that is gone."""
LAST_WORDS = 0.1
"""Seconds for which a checkpoint that nobody wants waits for the end of its copy."""
SOON = 0.001
"""Seconds, the least until an alarm."""
DEATH = struct.Struct("<ii")
"""Process and status, as waitpid(2) gives them."""
_HEADER = struct.Struct("<II")
"""Bytes of the request, and descriptors that come with it."""
_WOKEN, _NOT_WOKEN = b"\1", b"\0"


@dataclass(slots=True)
class Mark:
    """A checkpoint: the moment at which it was taken, the page faults until then, and the socket that wakes it.

    ``edits`` is how much of what a person has set (``Timeline.edits``) is in it.  ``pid`` is the process's.
    """

    moment: Moment
    faults: int
    wake: socket.socket
    edits: int = 0
    pid: int = 0

    def before(self, moment: Moment) -> bool:
        """It was taken before a moment."""
        return _is_before(self.moment, moment)


class CannotWake(SandboxError):
    """The host does not let a checkpoint go on."""

    exit_status = 2


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
    edits: list[Edit] = field(default_factory=list)
    """What was set in this run, in the order of its moments."""
    applied: int = 0
    """How much of that has been done in the machine as it stands: what is behind it is the future that is known."""
    spacing: float = FIRST_SPACING
    paused: bool = False
    """While the past is looked through, no new checkpoint is made."""
    trouble: str = ""
    """Why the last checkpoint could not be made; to be told once."""
    held: int = 0
    """Bytes that the checkpoints held when that was last measured."""
    deaths: int = -1
    """Where checkpoints tell how their copies ended (DEATH): the pipe's other end is the face's."""
    _due: float = 0.0
    _cost: float = 0.0
    """Seconds that the last checkpoint took, with the copies of pages that it led to."""
    _faults: int = 0
    """Page faults of this process when the last one was made."""
    _stood_at: float = 0.0
    """Since when the guest stands, 0 while it runs."""
    _wound: bool = False
    """An alarm is on its way."""
    _measure_at: float = 0.0
    _face_at: float = 0.0

    def look(self, state: Callable[[], tuple[Moment, int]]) -> None:
        """Between two runs of the engine: a checkpoint, when it is time for one.  Raises Woken in its copies."""
        self.look_for_face()
        if time.monotonic() >= self._due and not self.paused:
            self.take(*state())
        self._wind()

    def _wind(self) -> None:
        """Have SIGALRM when ``look`` is to be called again: no run has to ask what time it is."""
        if not self._wound:
            self._wound = True
            signal.setitimer(signal.ITIMER_REAL, min(max(SOON, self._due - time.monotonic()), FACE_SECONDS))

    def rang(self) -> None:
        """The alarm has come."""
        self._wound = False

    def look_for_face(self) -> None:
        """Nobody is there any more: nothing is to be run for him."""
        now = time.monotonic()
        if now >= self._face_at:
            self._face_at = now + FACE_SECONDS
            gone = select.poll()
            gone.register(self.channel, select.POLLRDHUP)
            if gone.poll(0):
                os._exit(0)

    def stopped(self) -> None:
        """The guest stands: what comes until ``resumed`` is no time of its own."""
        self._stood_at = time.monotonic()

    def resumed(self) -> None:
        """The guest goes on: the next checkpoint is as far off as it was, however many short ways come in a row."""
        now = time.monotonic()
        self._due, self._stood_at = self._due + now - (self._stood_at or now), 0.0
        self._wind()

    def take(self, moment: Moment, faults: int) -> None:
        """A checkpoint of this very state, unless there is one.  Raises Woken in its copies."""
        if self.marks and not self.marks[-1].before(moment):
            return
        copies = (faults_of_ours() - self._faults) * seconds_a_copy()
        began = time.monotonic()
        try:
            ours, pid = self._fork()
        except OSError as error:
            self.trouble = f"no checkpoint could be made: {error.strerror}"
            self.spacing *= 2
        else:
            self.marks.append(Mark(moment, faults, ours, self.applied, pid))
            self._thin()
        ended = time.monotonic()
        self._cost = ended - began + (copies if self._faults else 0.0)
        self._faults = faults_of_ours()
        self._due = ended + max(self.spacing, self._cost / SHARE)
        self._stood_at = ended if self._stood_at else 0.0

    def _fork(self) -> tuple[socket.socket, int]:
        """A copy that waits: the socket that wakes it, its process.  Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if not pid:
            ours.close()
            self._wait(theirs)
        theirs.close()
        return ours, pid

    def _thin(self) -> None:
        """Let every second one go when they are too many or hold too much."""
        if time.monotonic() >= self._measure_at:
            self.held = self._measured()
            self._measure_at = time.monotonic() + MEASURED
        later = self.marks[1:]
        if len(later) >= MOST or (later and self.held > MOST_MEMORY):
            self._forget(later[::2])
            self.spacing *= 2
            self._measure_at = 0.0

    def _measured(self) -> int:
        """Bytes that the checkpoints hold: of some, so that many are no matter of seconds."""
        some = self.marks[:: 1 + len(self.marks) // MOST_MEASURED]
        return sum(held_by(mark.pid) for mark in some) * len(self.marks) // max(1, len(some))

    def _forget(self, marks: Iterable[Mark]) -> None:
        for mark in marks:
            mark.wake.close()
            self.marks.remove(mark)

    # -- what was set ----------------------------------------------------------------------------------------------

    def edited(self, edit: Edit, faults: int) -> None:
        """Something was set here: what comes is another future.  Raises Woken in the copies of a checkpoint."""
        here = edit.moment
        self.another_future()
        self._forget([each for each in self.marks if not each.before(here) and each.moment != here])
        self.edits.append(edit)
        self.applied += 1
        self._bound_edits()
        if self.applied - self.marks[-1].edits >= EDITS_APART:
            self.take(here, faults)

    def another_future(self) -> bool:
        """The guest goes on from here: what was set later is not part of it.  True when something was."""
        there_was = len(self.edits) > self.applied
        del self.edits[self.applied :]
        self._forget([mark for mark in self.marks if mark.edits > self.applied])
        return there_was

    def _bound_edits(self) -> None:
        """Let the older half go, with the checkpoints that need it."""
        if len(self.edits) <= MOST_EDITS:
            return
        first = next((mark for mark in self.marks if mark.edits >= MOST_EDITS // 2), None)
        if first is not None:
            gone = first.edits
            self.trouble = (
                f"{len(self.edits)} changes are more than are kept: going back leads to the later half of them"
            )
            self._forget(self.marks[: self.marks.index(first)])
            del self.edits[:gone]
            self.applied -= gone
            for mark in self.marks:
                mark.edits -= gone

    def edits_until(self, moment: Moment) -> int:
        """How much of what was set is in the machine at a moment, what was set at that very one counted in."""
        return sum(_is_before(each.moment, moment) or each.moment == moment for each in self.edits)

    # -- going back ------------------------------------------------------------------------------------------------

    def before(self, moment: Moment, edits: int | None = None) -> int | None:
        """Index of the last checkpoint before a moment, with no more than so many edits; None when there is none."""
        found = [
            index
            for index, mark in enumerate(self.marks)
            if mark.before(moment) and (edits is None or mark.edits <= edits)
        ]
        return found[-1] if found else None

    def before_fault(self, number: int) -> int:
        """Index of the last checkpoint before a page fault, 0 for the first of all."""
        return max((index for index, mark in enumerate(self.marks) if mark.faults < number), default=0)

    def wake(self, index: int, request: Any) -> NoReturn:
        """Let the copy of a checkpoint go on in this process's place.  Raises CannotWake."""
        self._hand(self.marks[index], request, self.channel)
        os._exit(0)

    def ask(self, index: int, request: Any) -> socket.socket:
        """Let the copy of a checkpoint answer a request and end; this process stays where it is.

        The answer comes over the socket, as those of a worker do.  Raises CannotWake.
        """
        ours, theirs = socket.socketpair()
        self._hand(self.marks[index], request, theirs)
        theirs.close()
        return ours

    def _hand(self, mark: Mark, request: Any, channel: socket.socket) -> None:
        """Wake a checkpoint's copy, which answers over ``channel``.  Raises CannotWake."""
        told = [(each.moment, each.faults, each.edits, each.pid) for each in self.marks]
        payload = pickle.dumps((request, told, self.spacing, self.edits))
        files = [channel.fileno(), *(each.wake.fileno() for each in self.marks)]
        try:
            mark.wake.sendall(_HEADER.pack(len(payload), len(files)))
            for first in range(0, len(files), FDS_AT_ONCE):
                socket.send_fds(mark.wake, [b"f"], files[first : first + FDS_AT_ONCE])
            mark.wake.sendall(payload)
            if mark.wake.recv(1) == _WOKEN:
                return
        except OSError:
            pass
        raise CannotWake("the checkpoint cannot go on: the host has no process for it, or has ended it")

    def _wait(self, wake: socket.socket) -> None:
        """The life of a checkpoint; returns never, raises Woken in its copies."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, self._copy_ended)
        self.channel.close()
        for mark in self.marks:
            mark.wake.close()
        while True:
            try:
                payload, files = _asked(wake)
            except EOFError:
                self._last_words()
            if self._copied(wake):
                break
            for each in files:
                os.close(each)
        wake.close()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self._wound = False  # alarms are not the copy's
        request, moments, self.spacing, self.edits = pickle.loads(payload)
        self.channel, *sockets = (socket.socket(fileno=each) for each in files)
        self.marks = [
            Mark(at, faults, each, edits, pid) for (at, faults, edits, pid), each in zip(moments, sockets, strict=True)
        ]
        self._due, self._stood_at = time.monotonic() + self.spacing, 0.0
        ticks.start_again()
        raise Woken(request)

    def _copy_ended(self, *_: object) -> None:
        """In a checkpoint: a copy has ended; if not as it should, the face may want to know."""
        with suppress(OSError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[1] and self.deaths >= 0:
                    os.write(self.deaths, DEATH.pack(*found))

    def _last_words(self) -> NoReturn:
        """Nobody wants us any more; where that is because our copy has just ended, it is still to be told."""
        for _ in range(20):
            self._copy_ended()
            time.sleep(LAST_WORDS / 20)
        os._exit(0)

    @staticmethod
    def _copied(wake: socket.socket) -> bool:
        """In the copy True; who wakes us hears whether there is one."""
        try:
            copy = os.fork()
        except OSError:
            copy = -1
        if copy:
            wake.send(_NOT_WOKEN if copy < 0 else _WOKEN)
        return not copy


def _is_before(one: Moment, other: Moment) -> bool:
    """The instructions of one time follow each other; what is told of one comes behind it."""
    if one.time != other.time or one.cpu != other.cpu:
        return one.time < other.time
    return one.eip < other.eip or (one.eip == other.eip and bool(other.event) and not one.event)


def _asked(wake: socket.socket) -> tuple[bytes, list[int]]:
    """A request, and the descriptors that come with it.  Raises EOFError when nobody is left who might ask."""
    size, count = _HEADER.unpack(_exactly(wake, _HEADER.size))
    files: list[int] = []
    while len(files) < count:
        files += _descriptors(wake)
    return _exactly(wake, size), files


def _descriptors(wake: socket.socket) -> list[int]:
    """Those of one message."""
    word, files, _, _ = socket.recv_fds(wake, 1, FDS_AT_ONCE)
    if not word or not files:
        raise EOFError
    return files


def _exactly(wake: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = wake.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
