"""Sleeping, for whoever may have to: queues, and what a scheduler offers to those below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError


class WrongContext(SandboxError):
    """Something that may sleep was asked for where nothing may: in an interrupt."""

    exit_status = 1


@dataclass(slots=True, eq=False)
class WaitQueue:
    """Tasks that sleep until ``what`` is possible.  Who sleeps puts itself in, who wakes empties it.

    ``wakes`` counts the times that it was woken, from which an edge is told.
    """

    what: str
    tasks: list[Any] = field(default_factory=list)
    wakes: int = 0
    exclusive: list[Exclusive] = field(default_factory=list)
    """Of these only the first that has waited for what came is woken."""


@dataclass(slots=True, eq=False)
class Exclusive:
    """A place on a queue for a task that need not be woken when another is.

    ``wanted`` tells what is there of what it waits for: nothing (0), something, or (negative) what all must see.
    """

    queue: WaitQueue
    wanted: Callable[[], int]
    task: Any = None


Place = WaitQueue | Exclusive
"""Where a task can wait."""


Sleep = Callable[[WaitQueue], None]
"""Returns when the queue was woken, perhaps for nothing; raises KernelError(ERESTARTSYS) for a signal."""
Wake = Callable[[WaitQueue], None]


class Sleeper(Protocol):
    """What can sleep: a task."""

    pid: int
    pending: int


class Waiting(Protocol):
    """What a scheduler offers to those below it; ``task.sched`` has it."""

    @property
    def current(self) -> Sleeper | None:
        """The task of this CPU, None when it has none."""
        ...

    def schedule(self, queues: Iterable[Place], what: str, until: int | None = None) -> None:
        """The present task sleeps until a queue is woken, a signal comes, or a time in blocks; perhaps for nothing."""
        ...

    def wake_up(self, queue: WaitQueue) -> None:
        """Every task on the queue becomes runnable and looks for itself."""
        ...

    def signal_pending(self) -> bool:
        """A signal waits that the present task would notice: sleeping makes no sense any more."""
        ...

    def in_atomic(self) -> bool:
        """Nobody may sleep here: an interrupt is being answered."""
        ...

    def check_sleep(self, what: str) -> None:
        """Raises WindowsHeld where this CPU has a kmap_atomic window open."""
        ...


def might_sleep(sched: Waiting, what: str) -> None:
    """Raises WrongContext or WindowsHeld where nobody may, whether or not it comes to a sleep this time."""
    if sched.in_atomic():
        raise WrongContext(f"{what} in an interrupt: nothing may sleep there")
    sched.check_sleep(what)
