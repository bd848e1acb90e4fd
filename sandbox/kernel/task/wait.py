"""Sleeping on wait queues: one or several, with or without an end in time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sandbox.kernel.fs.pipe import WaitQueue
from sandbox.kernel.task.task import Task

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel


def signal_pending(task: Task) -> bool:
    """A signal waits that the task would notice: sleeping makes no sense any more."""
    return bool(task.pending)


def wake_up(kernel: Kernel, queue: WaitQueue) -> None:
    """Every task on the queue becomes runnable and looks for itself."""
    queue.wakes += 1
    sleepers, queue.tasks = queue.tasks, []
    for task in sleepers:
        kernel.sched.wake(task)


def wait_on(kernel: Kernel, task: Task, queues: Iterable[WaitQueue], what: str, until: int | None = None) -> None:
    """Sleep until one queue is woken, a signal comes, or a time in blocks; perhaps for nothing."""
    queues = tuple(queues)
    for queue in queues:
        queue.tasks.append(task)
    kernel.sched.sleep(task, what, -1 if until is None else until)
    for queue in queues:
        if task in queue.tasks:
            queue.tasks.remove(task)
