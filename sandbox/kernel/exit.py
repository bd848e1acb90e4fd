"""The end of a task, and waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import ECHILD, KernelError
from sandbox.kernel.events import TaskChange
from sandbox.kernel.task import State, Task, TaskExit

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

WNOHANG = 1


def task_main(kernel: Kernel, task: Task) -> None:
    """What a task's greenlet runs."""
    try:
        kernel.traps.run_user(task)
    except TaskExit as leaving:
        do_exit(kernel, task, leaving.status)


def do_exit(kernel: Kernel, task: Task, status: int) -> None:
    """Release what a task holds, leave a zombie for its parent, and give the CPU up."""
    slot = task.cpu
    task.status = status
    if task.clear_child_tid and task.mm is not None and task.mm.users > 1:
        task.clear_child_tid = 0
    mm, task.mm = task.mm, None
    kernel.activate(slot, None)
    if mm is not None:
        kernel.release_mm(slot, mm)
    task.files.close_all()
    init = kernel.tasks.get(1)
    for child in task.children:
        child.parent = init if init is not task and init is not None and init.mm is not None else None
        if child.parent is not None:
            child.parent.children.append(child)
            if child.state is State.ZOMBIE:
                _wake_waiter(kernel, child.parent)
        elif child.state is State.ZOMBIE:
            _bury(kernel, child)
    task.children.clear()
    if kernel.bus.active:
        kernel.bus.emit(TaskChange(kernel.sched.now, slot.index, task.pid, "exit", f"status {status:#x}"))
    task.state = State.ZOMBIE
    kernel.sched.leave_for_ever(task)
    parent = task.parent
    if parent is None:
        _bury(kernel, task)
    else:
        _wake_waiter(kernel, parent)


def _wake_waiter(kernel: Kernel, parent: Task) -> None:
    if parent.waits_for == "a child" and parent.state is State.SLEEPING:
        kernel.sched.wake(parent)


def do_wait(kernel: Kernel, task: Task, pid: int, options: int) -> Task | None:
    """A zombie child as wait4 chooses it (pid > 0, 0, -1, < -1), buried; None with WNOHANG when none is ready.

    Sleeps until one ends.  Raises KernelError(ECHILD) when there is none to wait for.
    """
    while True:
        wanted = [child for child in task.children if _matches(task, child, pid)]
        if not wanted:
            raise KernelError(ECHILD)
        for child in wanted:
            if child.state is State.ZOMBIE:
                task.children.remove(child)
                _bury(kernel, child)
                return child
        if options & WNOHANG:
            return None
        if task.pending:
            return None
        kernel.sched.sleep(task, "a child")


def _matches(task: Task, child: Task, pid: int) -> bool:
    if pid > 0:
        return child.pid == pid
    if pid == -1:
        return True
    return child.pgid == (task.pgid if pid == 0 else -pid)


def _bury(kernel: Kernel, task: Task) -> None:
    task.state = State.DEAD
    kernel.tasks.pop(task.pid, None)
    kernel.reclaim_task(task)
