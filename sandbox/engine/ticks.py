"""Ticks of the host's clock, so that no run keeps Python from looking at limits for long.

A run's blocks and fuel do not bound its time: a block may be long, or have to be translated first, and devices may
answer slowly.  While ``ticking``, a timer of this thread's makes the run that is going on come back with ``Paused`` at
its next block, ten times a second.  No clock of the guest's sees it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.engine import nativecode, stubs

SECONDS = 0.1
_TIMER_CREATE, _TIMER_SETTIME, _TIMER_DELETE = 222, 223, 226
"""System calls of x86-64; glibc before 2.34 has its wrappers in another library."""
_CLOCK_MONOTONIC, _SIGEV_THREAD_ID = 1, 4
_NANOSECONDS = int(SECONDS * 1e9)


class _SigEvent(ctypes.Structure):
    """``struct sigevent``, sigevent(7)."""

    _fields_ = (
        ("value", ctypes.c_uint64),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


class _Depth(threading.local):
    """How many blocks of code in this thread, and in which process, want ticks now."""

    count = 0
    process = 0
    timer: ctypes.c_int | None = None


_depth = _Depth()


@contextmanager
def ticking() -> Iterator[None]:
    """Ticks for as long as this lasts; none where the host has no native hooks, which look at the time themselves."""
    if _depth.process != os.getpid():
        _depth.process, _depth.count, _depth.timer = os.getpid(), 0, None
    _depth.count += 1
    if _depth.count == 1:
        _depth.timer = _start() if stubs.native_host() else None
    try:
        yield
    finally:
        _depth.count -= 1
        if not _depth.count and _depth.timer is not None:
            nativecode.libc().syscall(_TIMER_DELETE, _depth.timer)
            _depth.timer = None


def start_again() -> None:
    """A fork goes on with what this process was doing: it has no timers of its own yet."""
    if _depth.count:
        _depth.process = os.getpid()
        if stubs.native_host():
            _depth.timer = _start()


def _start() -> ctypes.c_int | None:
    """The id of a new timer, None when the host grants none: then blocks and fuel are all that ends a run."""
    libc, timer = nativecode.libc(), ctypes.c_int()
    stubs.catch_ticks(int(signal.SIGURG))
    event = _SigEvent(signal=int(signal.SIGURG), notify=_SIGEV_THREAD_ID, thread=threading.get_native_id())
    if libc.syscall(_TIMER_CREATE, _CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        return None
    every = (ctypes.c_long * 4)(0, _NANOSECONDS, 0, _NANOSECONDS)
    libc.syscall(_TIMER_SETTIME, timer, 0, every, None)
    return timer
