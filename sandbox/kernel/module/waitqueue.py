"""Wait queues of modules: any word of memory is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EINVAL, ERESTARTSYS
from sandbox.kernel.fs.pipe import WaitQueue
from sandbox.kernel.task.wait import signal_pending, wait_on, wake_up

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel


def _queue(kernel: Kernel, address: int) -> WaitQueue:
    return kernel.wait_queues.setdefault(address, WaitQueue("a module"))


def sleep_on(kernel: Kernel, a: tuple[int, ...]) -> int:
    """Sleep until ``wake_up`` of the same address; signals wait."""
    kernel.may_sleep("sleep_on")
    task = kernel.this_cpu.current
    if task is None:
        return -EINVAL
    queue = _queue(kernel, a[0])
    before = queue.wakes
    while queue.wakes == before:
        wait_on(kernel, task, (queue,), "a module")
    return 0


def interruptible_sleep_on(kernel: Kernel, a: tuple[int, ...]) -> int:
    """The same; a signal ends it."""
    kernel.may_sleep("interruptible_sleep_on")
    task = kernel.this_cpu.current
    if task is None:
        return -EINVAL
    if not signal_pending(task):
        wait_on(kernel, task, (_queue(kernel, a[0]),), "a module")
    return -ERESTARTSYS if signal_pending(task) else 0


def wake_up_queue(kernel: Kernel, a: tuple[int, ...]) -> None:
    """Everybody who sleeps on the word goes on."""
    wake_up(kernel, _queue(kernel, a[0]))
