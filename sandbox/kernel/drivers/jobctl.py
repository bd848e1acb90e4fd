"""Process groups and the terminal: who may use it, who is told, who is stopped."""

from __future__ import annotations

from typing import Protocol

from sandbox.kernel.abi.errno import EIO, ERESTARTSYS, KernelError
from sandbox.kernel.abi.signals import SIGCONT, SIGHUP, SIGTTIN
from sandbox.kernel.task.pgrp import is_orphaned
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.sigpending import would_act
from sandbox.kernel.task.task import Task, TaskTable
from sandbox.kernel.vfs.inode import Inode


class Terminal(Protocol):
    """What has a session and a foreground group, 0 for none."""

    session: int
    pgrp: int
    rdev: int


class JobControl:
    """The rules of sessions on one machine, which has one terminal at most."""

    def __init__(self, signals: Signals, tasks: TaskTable) -> None:
        self.signals, self.tasks = signals, tasks
        self.tty: Terminal | None = None
        self.tty_inode: Inode | None = None
        """The same terminal, to be opened."""

    def install(self, tty: Terminal, inode: Inode) -> None:
        """The machine has a terminal."""
        self.tty, self.tty_inode = tty, inode

    def terminal_of(self, task: Task | None) -> Inode | None:
        """The terminal of a task's session."""
        if task is None or self.tty is None or self.tty.session != task.sid:
            return None
        return self.tty_inode

    def check_change(self, task: Task, tty: Terminal, number: int) -> None:
        """SIGTTIN or SIGTTOU for a background group that wants to use its terminal.

        Raises KernelError: ERESTARTSYS after the signal, EIO where it would do nothing or nobody could continue it.
        """
        if tty.session != task.sid or task.pgid == tty.pgrp or not tty.pgrp:
            return
        if not would_act(task, number):
            if number == SIGTTIN:
                raise KernelError(EIO)
            return
        if is_orphaned(self.tasks, task.pgid):
            raise KernelError(EIO)
        self.signals.kill_pgrp(task.pgid, number)
        raise KernelError(ERESTARTSYS)

    def leave_session(self, task: Task) -> None:
        """A session leader that ends takes its terminal with it."""
        tty = self.tty
        if tty is not None and task.sid == task.tgid == tty.session:
            self.hang_up_group(tty.pgrp)
            tty.session = tty.pgrp = 0

    def hang_up_group(self, pgrp: int) -> None:
        """A group has lost its terminal, or who could continue it."""
        self.signals.kill_pgrp(pgrp, SIGHUP)
        self.signals.kill_pgrp(pgrp, SIGCONT)
