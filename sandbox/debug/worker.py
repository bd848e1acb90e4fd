"""The process that runs the machine, and the faces' side of it: commands go over a pipe, answers come back.

A face stays one process; the worker is another each time one goes back (``timeline``), and the face does not notice.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

from sandbox.debug.bell import Bell
from sandbox.debug.commands.running import told
from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.edits import edit_of
from sandbox.debug.host_costs import more_descriptors
from sandbox.debug.journey import Journey
from sandbox.debug.pipe import FAILED, receive, send
from sandbox.debug.target import Refused, Target
from sandbox.debug.timeline import DEATH, CannotWake, Timeline, Woken
from sandbox.debug.travel import Traveller
from sandbox.sanitize.report import StaleReport
from sandbox.x86.errors import SandboxError, error_of

PATIENCE = 1.0
"""Seconds after which a person is told that it takes longer."""
EXECUTE, COMPLETE, CALL = "execute", "complete", "call"


class SupportsFileno(Protocol):
    """What can be waited for."""

    def fileno(self) -> int: ...


class WorkerError(SandboxError):
    """What the worker came to, told on this side of the pipe."""

    def __init__(self, summary: str, detail: str, status: int) -> None:
        super().__init__(summary, detail)
        self.exit_status = status


class WorkerGone(SandboxError):
    """The process that runs the machine is no more: what became of it, and what went with it."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"the process that ran the machine {_end_of(status)}", LOST)
        self.exit_status = 2 if status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) in OTHERS else 3


LOST = "The run is lost, with its checkpoints and all that was set; the image itself is untouched: begin again."
OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU)
"""Signals that come from somebody else: a person, or the host that is out of memory; no faults of ours."""


def _end_of(status: int | None) -> str:
    """In words, of a status of wait(2)."""
    if status is None:
        return "is gone, and nobody saw how it ended"
    if not os.WIFSIGNALED(status):
        return f"ended with exit status {os.waitstatus_to_exitcode(status)} in the middle of a command"
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in set(signal.Signals) else "no name"
    hint = ": somebody, or the host that was out of memory, ended it" if number == signal.SIGKILL else ""
    return f"was killed by signal {number} ({name}){hint}"


class Server:
    """The worker's life: build the target, begin, then obey until the face is gone."""

    def __init__(self, build: Callable[[], Target], channel: socket.socket, deaths: int, bell: Bell) -> None:
        self._bell = bell
        self._timeline = Timeline(channel, deaths=deaths)
        self._debugger: Debugger | None = None
        self._build = build

    def serve(self) -> None:
        """Returns when the face wants no more.  Whatever goes wrong is told to it."""
        work: Callable[[], Any] = self._begin
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a checkpoint that is given up leaves nothing behind
        more_descriptors()
        signal.signal(signal.SIGALRM, self._rang)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.signal(signal.SIGINT, self._interrupt)
        while True:
            self._bell.answered_here()
            try:
                reply = work()
            except Woken as woken:
                signal.signal(signal.SIGINT, self._interrupt)  # a checkpoint ignores it
                self._bell.answered_here()
                if self._debugger is not None:
                    self._debugger.target.control.interrupted = False  # what it was made in the midst of
                if self._bell.rung:
                    self._interrupt()
                work = partial(self._arrive, woken.request)
                continue
            except SandboxError as error:
                reply = FAILED, error.summary, error.detail, error.exit_status
            except Exception as error:
                if os.environ.get("SANDBOX_TRACEBACK"):
                    sys.excepthook(*sys.exc_info())
                bug = error_of(error)
                reply = FAILED, bug.summary, bug.detail, bug.exit_status
            self._tell_trouble(reply)
            try:
                send(self._timeline.channel, (os.getpid(), reply))
                work = self._obeying(receive(self._timeline.channel))
            except (EOFError, OSError):
                return

    def _tell_trouble(self, reply: Any) -> None:
        """Going back will be coarser than it might be."""
        if isinstance(reply, Answer) and self._timeline.trouble:
            reply.lines.append(self._timeline.trouble)
            self._timeline.trouble = ""

    def _begin(self) -> Answer:
        target = self._build()
        self._debugger = debugger = Debugger(target)
        stop = debugger.begin()
        debugger.traveller = Traveller(debugger, self._timeline)
        if not stop.ended:
            target.remember(self._timeline)
            self._timeline.take(stop.moment, target.fault_count)
        return told(debugger, stop)

    def _arrive(self, journey: Journey) -> Any:
        debugger = self._debugger
        assert debugger is not None and debugger.traveller is not None
        debugger.target.woke()
        try:
            answer = told(debugger, debugger.traveller.arrive(journey))
        except (Refused, CannotWake) as error:
            return Answer(error=error.summary)
        finally:
            debugger.target.control.interrupted = False  # what was asked on the way is over
        if journey.face is not None:
            return journey.face(debugger)
        answer.error = journey.note
        return answer

    def _obeying(self, request: tuple[Any, ...]) -> Callable[[], Any]:
        what, *rest = request
        debugger = self._debugger
        assert debugger is not None
        if what == EXECUTE:
            return lambda: self._kept(debugger, self._executed(debugger, *rest), Debugger.execute, *rest)
        if what == COMPLETE:
            return lambda: list(debugger.complete(*rest))
        return lambda: self._kept(debugger, rest[0](debugger, *rest[1:]), *rest)

    @staticmethod
    def _executed(debugger: Debugger, line: str) -> Answer:
        try:
            return debugger.execute(line)
        except CannotWake as error:
            return Answer(error=error.summary)

    def _kept(self, debugger: Debugger, answer: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a person has set is kept as he asked for it, to be done again on the way to what is behind it."""
        stop, target = debugger.stop, debugger.target
        if isinstance(answer, Answer) and answer.changed and stop is not None and not stop.ended:
            if target.outside is not None:
                target.outside.new_future()
            if self._timeline.marks:
                self._timeline.edited(edit_of(debugger, function, arguments), target.fault_count)
        return answer

    def _rang(self, *_: object) -> None:
        self._timeline.rang()
        if self._debugger is not None:
            self._debugger.target.control.look_soon()

    def _interrupt(self, *_: object) -> None:
        self._bell.heard()
        if self._debugger is not None:
            self._debugger.target.control.interrupted = True


class Remote:
    """A worker as a face sees it; use as a context.  It is made before the face has threads."""

    _open: ClassVar[WeakSet[socket.socket]] = WeakSet()
    """The faces' ends: no worker keeps one of another's open."""

    def __init__(self, build: Callable[[], Target]) -> None:
        """Raises what building the target raises, as WorkerError."""
        self._channel, theirs = socket.socketpair()
        self._deaths, deaths = os.pipe()
        self._bell = Bell()
        self._open.add(self._channel)
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self.patience: Callable[[], None] = lambda: None
        """Called once when an answer takes longer than a second."""
        self.pid = self._first = os.fork()
        if not self.pid:
            for each in list(self._open):
                each.close()
            os.close(self._deaths)
            _live(build, theirs, deaths, self._bell)
        theirs.close()
        os.close(deaths)
        self.first: Answer = self._begun()

    def _begun(self) -> Answer:
        """The first answer.  Ctrl-C before it ends both: the worker has nothing yet that it could stop."""
        try:
            return self._received()  # type: ignore[no-any-return]
        except KeyboardInterrupt:
            os.kill(self._first, signal.SIGKILL)
            os.waitpid(self._first, 0)
            self.close()
            raise
        except SandboxError:
            self.close()
            raise

    def execute(self, line: str) -> Answer:
        """Carry out a command.  Raises WorkerError, WorkerGone."""
        return self._ask(EXECUTE, line)  # type: ignore[no-any-return]

    def complete(self, text: str) -> list[str]:
        """What a line may become."""
        return self._ask(COMPLETE, text)  # type: ignore[no-any-return]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of ``function(debugger, *arguments)`` in the worker: a function of a module, and plain data."""
        return self._ask(CALL, function, *arguments)

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        """The same as ``call``, for who has something else to wait for too: ``answer`` is to be called afterwards."""
        self._send(CALL, function, *arguments)

    def answered(self, other: SupportsFileno) -> bool:
        """Wait until an answer is there: True; or until ``other`` has something to read: False."""
        return self._channel in select.select([self._channel, other], [], [])[0]

    def interrupt(self) -> None:
        """Stop what ``begin`` has begun, also on its way back to an earlier moment; its answer comes as always."""
        self._bell.ring()

    def answer(self) -> Any:
        """What ``begin`` has come to."""
        return self._reply()

    def _ask(self, *request: Any) -> Any:
        self._send(*request)
        return self._reply()

    def _send(self, *request: Any) -> None:
        self._bell.begin()
        try:
            send(self._channel, request)
        except OSError as error:
            raise WorkerGone(self._death()) from error

    def _reply(self) -> Any:
        with _ctrl_c_is_the_workers():
            return self._received()

    def _received(self) -> Any:
        if not self._poll.poll(1000 * PATIENCE):
            self.patience()
        try:
            self.pid, reply = receive(self._channel)
        except (EOFError, OSError) as error:
            raise WorkerGone(self._death()) from error
        if isinstance(reply, tuple) and reply[:1] == (FAILED,):
            raise WorkerError(*reply[1:])
        return reply

    def _death(self) -> int | None:
        """How the present worker has ended, as wait(2) tells it: the first is our child, others a checkpoint's."""
        end = time.monotonic() + PATIENCE
        if self.pid == self._first:
            with suppress(ChildProcessError):
                while time.monotonic() < end:
                    pid, status = os.waitpid(self._first, os.WNOHANG)
                    if pid:
                        return status
                    time.sleep(0.01)
            return None
        while select.select([self._deaths], [], [], max(0.0, end - time.monotonic()))[0]:
            told = os.read(self._deaths, DEATH.size)
            if len(told) < DEATH.size:
                break
            pid, status = DEATH.unpack(told)
            if pid == self.pid:
                return int(status)
        return None

    def close(self) -> None:
        """The worker and its checkpoints end."""
        if self._deaths >= 0:
            os.close(self._deaths)
            self._deaths = -1
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
            self._channel.settimeout(PATIENCE)
            while self._channel.recv(1 << 16):
                pass
        self._channel.close()
        self._reap()

    def _reap(self) -> None:
        """The first worker is our child; the later ones are their checkpoints'."""
        with suppress(ChildProcessError):
            os.waitpid(self._first, os.WNOHANG)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _ctrl_c_is_the_workers() -> Iterator[None]:
    """The worker is asked to stop, and its answer comes as always."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def _live(build: Callable[[], Target], channel: socket.socket, deaths: int, bell: Bell) -> None:
    """The new process; never returns."""
    try:
        Server(build, channel, deaths, bell).serve()
    finally:
        os._exit(0)


def end_of(debugger: Debugger) -> tuple[int, int, str] | None:
    """Exit status, signal and error of a guest that is at its end, else None."""
    found = debugger.target.result
    return None if found is None else (found.status, found.signal, found.error)


def reports_of(debugger: Debugger) -> list[StaleReport]:
    """What ``--sanitize`` has found so far."""
    return debugger.target.reports()
