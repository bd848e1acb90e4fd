"""Kernel threads: tasks without user memory, for work that may have to sleep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from greenlet import greenlet

from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process.fork import new_task
from sandbox.kernel.task.task import State, Task
from sandbox.kernel.vfs.file import FdTable

Answer = TypeVar("Answer")


def kernel_thread(kernel: Kernel, name: str, function: Callable[[], object]) -> Task:
    """A task with a pid of its own that runs a function of the kernel's and then is gone.

    It may sleep and has no signals and no parent; a run does not wait for it.  Raises OutOfMemory.
    """
    task = new_task(kernel, None, name, None, FdTable())
    task.kthread = True

    def life() -> None:
        function()
        kernel.mmu.switch_mm(task.cpu, None)
        kernel.sched.leave_for_ever(task)
        task.state = State.DEAD
        del kernel.tasks[task.pid]
        kernel.stacks.keep(task)

    task.greenlet = greenlet(life)
    kernel.sched.enqueue(task)
    return task


def run_kthread(kernel: Kernel, name: str, function: Callable[[], Answer]) -> Answer:
    """Run a function as a kernel thread until it ends, with whatever other tasks there are; its answer.

    Raises what the function and the scheduler raise.
    """
    found: list[Answer] = []
    task = kernel_thread(kernel, name, lambda: found.append(function()))
    kernel.sched.run(lambda: task.state is State.DEAD)
    return found[0]
