"""Ctrl-C while the worker is made: the face has no answer yet, and the worker no guest that it could stop."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NoReturn

import pytest

from sandbox.debug.worker import Remote, WorkerError


def _interrupted() -> NoReturn:
    """Builds no target: Ctrl-C goes to both processes, as a terminal sends it, and the build takes long."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(100)
    raise AssertionError


def test_an_interrupt_at_the_start_ends_both() -> None:
    """POSIX lets no signal be lost that is not ignored; this one was, and the run went on without an end."""
    began, before = time.monotonic(), _children()
    with pytest.raises(KeyboardInterrupt):
        Remote(_interrupted)
    assert time.monotonic() - began < 60
    assert _children() == before


def _mistaken() -> NoReturn:
    raise LookupError("a mistake of ours")


def test_what_is_our_bug_is_told_with_its_place() -> None:
    """It was told as a process that had ended with exit status 0."""
    with pytest.raises(WorkerError, match=r"this is our bug: LookupError: a mistake of ours \(.*:\d+\)") as caught:
        Remote(_mistaken)
    assert caught.value.exit_status == 3


def _children() -> str:
    """Dead or alive."""
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
