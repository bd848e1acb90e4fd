"""Items in a process beside each thread that does them, started by exec: dask workers have threads, and may not fork.

The process stays for the items that follow.  One that takes it with it is tried once more, in a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sandbox.campaign.items import Item, Outcome, died

HOME = str(Path(__file__).resolve().parents[2])
"""Where this package was found: the child takes the same."""
TRIES = 2


class Ended(Exception):
    """The child is gone without an answer: by what."""


class Child:
    """A process that does one item after the other; killed when the thread that made it ends."""

    def __init__(self) -> None:
        paths = [HOME, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.campaign.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip

    def do(self, item: Item) -> tuple[Outcome, float]:
        """The outcome, and its seconds.  Raises Ended."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None
        assert out is not None
        line = b""
        with contextlib.suppress(BrokenPipeError):
            into.write(pickle.dumps(item))
            into.flush()
            line = out.readline()
        if not line.endswith(b"\n"):
            raise Ended(self.close())
        told = json.loads(line)
        return told["outcome"], told["seconds"]

    def close(self) -> str:
        """Let it end; how it did."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return _cause(self._process.wait())

    def kill(self) -> None:
        """End it at once; whoever waits for an answer learns of it."""
        self._process.kill()


class Stopped(Exception):
    """The campaign is over before its items are."""


class Crew:
    """The children of one campaign's threads, which end together when it is interrupted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[Child] = set()
        self.stopped = False

    def join(self, child: Child) -> None:
        """It belongs to these."""
        with self._lock:
            self._children.add(child)
            if self.stopped:
                child.kill()

    def stop(self) -> None:
        """End all of them, whatever they are at."""
        with self._lock:
            self.stopped = True
            for each in self._children:
                each.kill()


class Children(threading.local):
    """This thread's child."""

    child: Child | None = None


_mine = Children()


def run_batch(items: Sequence[Item], crew: Crew | None = None) -> tuple[list[Outcome], float]:
    """The outcomes of all items, in order, and the seconds that they took, without the start of a process.

    Raises Stopped when the crew that its process belongs to has been stopped.
    """
    found = [_one(item, crew) for item in items]
    return [outcome for outcome, _ in found], sum(seconds for _, seconds in found)


def _one(item: Item, crew: Crew | None) -> tuple[Outcome, float]:
    cause = ""
    for _ in range(TRIES):
        if _mine.child is None:
            _mine.child = Child()
            if crew is not None:
                crew.join(_mine.child)
        try:
            return _mine.child.do(item)
        except Ended as ended:
            cause, _mine.child = str(ended), None
            if crew is not None and crew.stopped:
                raise Stopped from None
    return died(item, cause), 0.0


def end_child() -> None:
    """This thread has no more items."""
    if _mine.child is not None:
        _mine.child.close()
        _mine.child = None


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
