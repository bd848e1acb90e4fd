"""Who waits for which CPU, and who may wait for another."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.task.task import Task


class RunQueue:
    """What waits for one CPU."""

    __slots__ = ("slice_left", "tasks")

    def __init__(self) -> None:
        self.tasks: deque[Task] = deque()
        self.slice_left = 0
        """Blocks that the present task may run while another waits."""


class RunQueues(list[RunQueue]):
    """One for each CPU, by its index.

    Tasks that wait at the border of ring 3 may be moved; those that wait inside a call may hold what is the CPU's.
    """

    def __init__(self, cpus: Sequence[KernelCpu]) -> None:
        super().__init__(RunQueue() for _ in cpus)
        self._cpus = cpus

    def least_loaded(self, allowed: int = -1) -> KernelCpu:
        """Where a new task goes, of the CPUs whose bits are set."""
        cpus = [cpu for cpu in self._cpus if allowed >> cpu.index & 1]
        return min(cpus, key=lambda cpu: len(self[cpu.index].tasks) + (cpu.current is not None))

    def allowed_elsewhere(self, task: Task) -> None:
        """A task's CPUs have changed: if it waits in the queue of another, it waits in theirs."""
        if task.movable and task in self[task.cpu.index].tasks and not task.cpus_allowed >> task.cpu.index & 1:
            self._move(task, self.least_loaded(task.cpus_allowed))

    def balance(self) -> None:
        """A CPU without work takes what waits for another at the border of ring 3 (``load_balance``, when idle)."""
        waiting = [task for queue in self for task in queue.tasks if task.movable]
        for cpu in self._cpus if waiting else ():
            if cpu.current is None and not self[cpu.index].tasks:
                found = next((task for task in waiting if self._may_move(task, cpu)), None)
                if found is not None:
                    waiting.remove(found)
                    self._move(found, cpu)

    def _move(self, task: Task, cpu: KernelCpu) -> None:
        self[task.cpu.index].tasks.remove(task)
        task.cpu = cpu
        self[cpu.index].tasks.append(task)

    def _may_move(self, task: Task, cpu: KernelCpu) -> bool:
        """It may run there, and would have to wait where it is."""
        here = self[task.cpu.index].tasks
        return bool(task.cpus_allowed >> cpu.index & 1) and (task.cpu.current is not None or here[0] is not task)
