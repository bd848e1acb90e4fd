"""Run something in a process of its own, whose death is a report and not ours.

The engine's translator is a hundred thousand lines of C that guest code drives.  ``native/stubs.S`` keeps what is known
of it from ending the process; a worker contains what is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sandbox.engine import crashdump, stubs
from sandbox.engine.crashdump import CrashDump, LastSeen
from sandbox.engine.library import EngineError
from sandbox.x86.errors import SandboxError

T = TypeVar("T")

FATAL = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT)
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.05


class WorkerDied(EngineError):
    """A worker ended without an answer.  ``cause`` is a signal's name, ``hang``, or ``exit``."""

    def __init__(self, cause: str, seen: LastSeen | None = None) -> None:
        if seen is None:
            detail = "No CPU was running, or the host does not let its memory be read."
        else:
            where = "before its first block" if seen.block is None else f"in the block at {seen.block:#010x}"
            code = seen.code.hex(" ") or "unreadable"
            detail = f"A CPU that had been started at {seen.started_at:#010x} was {where}: {code}"
        super().__init__(f"the worker process died: {cause}", detail)
        self.cause = cause
        self.seen = seen


def run_contained(function: Callable[[], T], time_limit: float | None = None) -> T:
    """Call a function in a forked worker; return its result, which must pickle, or raise what it raised.

    Raises WorkerDied when the worker gets a fatal signal, exits, or takes longer than ``time_limit`` seconds.
    """
    dump = CrashDump()
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(readable)
        _work(function, dump, writable)
    os.close(writable)
    try:
        kind, value = _await_answer(pid, readable, dump, time_limit)
    finally:
        os.close(readable)
    if kind == "result":
        result: T = value
        return result
    raise value


def _work(function: Callable[[], Any], dump: CrashDump, writable: int) -> None:
    """The worker's whole life."""
    try:
        if stubs.native_host():
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            stubs.stop_on(FATAL)
        crashdump.keep(dump)
        try:
            answer: tuple[str, Any] = ("result", function())
        except BaseException as error:
            answer = ("error", error)
        with open(writable, "wb") as pipe:
            pipe.write(_packed(answer))
    finally:
        os._exit(0)


def _packed(answer: tuple[str, Any]) -> bytes:
    """The answer pickled; what does not survive that is told in words."""
    try:
        packed = pickle.dumps(answer)
        pickle.loads(packed)
    except Exception as error:
        kind, value = answer
        failed = value if kind == "error" else error
        summary = failed.summary if isinstance(failed, SandboxError) else f"{type(failed).__name__}: {failed}"
        packed = pickle.dumps(("error", EngineError(f"in a worker: {summary}", getattr(failed, "detail", ""))))
    return packed


def _await_answer(pid: int, readable: int, dump: CrashDump, time_limit: float | None) -> tuple[str, Any]:
    deadline = float("inf") if time_limit is None else time.monotonic() + time_limit
    answer, status = bytearray(), None
    while True:
        if select.select([readable], [], [], _POLL_SECONDS)[0]:
            chunk = os.read(readable, 1 << 16)
            answer += chunk
            if not chunk:
                break
        if status is None:
            found, seen_status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(seen_status):
                seen = dump.read(pid)
                _kill(pid)
                raise WorkerDied(_signal_name(seen.signal) if seen and seen.signal else "a fatal signal", seen)
            if found:
                status = seen_status
        if time.monotonic() > deadline and status is None:
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)
            seen = dump.read(pid)
            _kill(pid)
            raise WorkerDied("hang", seen)
    if status is None:
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(pid, 0)
    if not answer:
        killed = status is not None and os.WIFSIGNALED(status)
        raise WorkerDied(_signal_name(os.WTERMSIG(status or 0)) if killed else "exit")
    kind, value = pickle.loads(bytes(answer))
    return kind, value


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
