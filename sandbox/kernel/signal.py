"""Signals, as far as they end a task: the default actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sandbox.kernel.events import Killed
from sandbox.kernel.task import Task, TaskExit

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL = range(1, 10)
SIGSEGV, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD = 11, 13, 14, 15, 17
NAMES = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
}  # fmt: skip
_CORE = {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV}
_IGNORED = {SIGCHLD, 18, 23, 28}
LAST_SIGNAL = 64
CORE_FLAG = 0x80


def signal_name(number: int) -> str:
    return NAMES.get(number, f"signal {number}")


def force_signal(kernel: Kernel, task: Task, number: int, report: str) -> None:
    """The task dies of a signal at its next return to ring 3; the report says why."""
    if not task.pending:
        task.pending = number
        task.report = report


def send_signal(kernel: Kernel, task: Task, number: int) -> None:
    """kill(2)'s work: default actions only, so what is not ignored ends the task."""
    if number and number not in _IGNORED and not task.pending:
        task.pending = number
        kernel.sched.wake(task)


def die(kernel: Kernel, task: Task) -> NoReturn:
    """Carry out the pending signal.  Raises TaskExit with the wait status."""
    number = task.pending
    if kernel.bus.active:
        kernel.bus.emit(Killed(kernel.sched.now, task.cpu.index, task.pid, number, task.report))
    kernel.deaths.append((task.pid, task.comm, number, task.report))
    raise TaskExit(number | (CORE_FLAG if number in _CORE else 0))
