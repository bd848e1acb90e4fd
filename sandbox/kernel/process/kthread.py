"""Kernel threads: tasks without user memory, for work that may have to sleep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from greenlet import greenlet

from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process.fork import new_task
from sandbox.kernel.task.task import State
from sandbox.kernel.vfs.file import FdTable

Answer = TypeVar("Answer")
KTHREAD_PID = 0


def run_kthread(kernel: Kernel, name: str, function: Callable[[], Answer]) -> Answer:
    """Run a function as a task of its own until it ends, with whatever other tasks there are; its answer.

    Raises what the function and the scheduler raise.
    """
    found: list[Answer] = []
    task = new_task(kernel, None, name, None, FdTable(), KTHREAD_PID)

    def finished() -> bool:
        return task.state is State.DEAD

    def life() -> None:
        found.append(function())
        kernel.mmu.switch_mm(task.cpu, None)
        kernel.sched.leave_for_ever(task)
        task.state = State.DEAD
        del kernel.tasks[task.pid]
        kernel.stacks.keep(task)

    task.greenlet = greenlet(life)
    kernel.sched.enqueue(task)
    kernel.sched.run(finished)
    return found[0]
