"""Process groups and the terminal: who may read, who is told, who is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EIO, ERESTARTSYS, KernelError
from sandbox.kernel.abi.signals import SIGTTIN
from sandbox.kernel.task.signal import send_signal, would_act
from sandbox.kernel.task.task import State

if TYPE_CHECKING:
    from sandbox.kernel.drivers.tty import Tty
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task


def kill_pgrp(kernel: Kernel, pgrp: int, number: int) -> None:
    """A signal from the kernel for every task of a process group."""
    if pgrp:
        for task in [task for task in kernel.tasks.values() if task.pgid == pgrp]:
            send_signal(kernel, task, number)


def kill_session_leader(kernel: Kernel, session: int, number: int) -> None:
    """A signal from the kernel for the leader of a session, if it lives."""
    leader = kernel.tasks.get(session)
    if leader is not None and leader.sid == session:
        send_signal(kernel, leader, number)


def is_orphaned(kernel: Kernel, pgrp: int) -> bool:
    """No task of the group has a parent in another group of its session, who could continue it."""
    for task in kernel.tasks.values():
        parent = task.parent
        if task.pgid != pgrp or task.state is State.ZOMBIE:
            continue
        if parent is not None and parent.pgid != pgrp and parent.sid == task.sid:
            return False
    return True


def has_stopped(kernel: Kernel, pgrp: int) -> bool:
    """A task of the group is stopped."""
    return any(task.pgid == pgrp and task.state is State.STOPPED for task in kernel.tasks.values())


def check_change(kernel: Kernel, task: Task, tty: Tty, number: int) -> None:
    """SIGTTIN or SIGTTOU for a background group that wants to use its terminal.

    Raises KernelError: ERESTARTSYS after the signal, EIO where it would do nothing or nobody could continue it.
    """
    if tty.session != task.sid or task.pgid == tty.pgrp or not tty.pgrp:
        return
    if not would_act(task, number):
        if number == SIGTTIN:
            raise KernelError(EIO)
        return
    if is_orphaned(kernel, task.pgid):
        raise KernelError(EIO)
    kill_pgrp(kernel, task.pgid, number)
    raise KernelError(ERESTARTSYS)
