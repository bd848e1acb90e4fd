"""What the tests' items do."""

from __future__ import annotations

import os
import random
import signal
import time

from sandbox.x86.errors import ConfigurationError


def square(number: int, seconds: float = 0.0) -> int:
    """The square, after a while."""
    time.sleep(seconds)
    return number * number


def fail(what: str) -> None:
    """One of our errors, or anybody's."""
    if what == "ours":
        raise ConfigurationError("refused", "why")
    raise ValueError(what)


def die() -> None:
    """The process is gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: str) -> str:
    """The process is gone at the first try."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def chatter(text: str) -> str:
    """Prints, as a careless function does."""
    print(text, flush=True)
    os.write(1, text.encode())
    return text


def anything() -> float:
    """Not the same twice."""
    return random.random()


def process() -> int:
    """Who does it."""
    return os.getpid()
