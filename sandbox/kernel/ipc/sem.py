"""System V semaphores: sets whose members change together or not at all."""

from __future__ import annotations

import struct
from collections import defaultdict

from sandbox.kernel.abi.errno import E2BIG, EAGAIN, EFBIG, EIDRM, EINTR, EINVAL, ERANGE, KernelError
from sandbox.kernel.base.time import SECOND, Clock
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.ids import IPC_NOWAIT, IpcIds, Object, Perm
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import SysvSem, Task
from sandbox.records import dataclass

SEM_UNDO = 0x1000
SEMVMX, SEMMSL, SEMOPM = 32767, 32000, 500


@dataclass(frozen=True, slots=True)
class SemOp:
    """``struct sembuf``."""

    number: int
    change: int
    flags: int


class SemSet(Object):
    """Values, and of each semaphore who changed it last."""

    def __init__(self, perm: Perm, count: int, now: int) -> None:
        super().__init__(perm)
        self.values = [0] * count
        self.pids = [0] * count
        self.waiting: list[SemOp] = []
        """Of each sleeper, the operation that it waits for."""
        self.operated, self.changed = 0, now
        self.queue = WaitQueue("a semaphore")
        self.undo: dict[SysvSem, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        """By who shares it (CLONE_SYSVSEM) and number of the semaphore: what its end adds."""

    def pack(self) -> bytes:
        """``struct semid64_ds``, 64 bytes."""
        return self.perm.pack() + struct.pack("<4I3I", self.operated, 0, self.changed, 0, len(self.values), 0, 0)

    def attempt(self, operations: list[SemOp]) -> SemOp | None:
        """Do all of them, or none and give the first that has to wait.  Raises KernelError(ERANGE)."""
        values = list(self.values)
        for each in operations:
            value = values[each.number]
            if value + each.change < 0 or (not each.change and value):
                return each
            if value + each.change > SEMVMX:
                raise KernelError(ERANGE)
            values[each.number] = value + each.change
        self.values = values
        return None


class Semaphores(IpcIds[SemSet]):
    """All sets of a machine."""

    def __init__(self, sched: Scheduler, clock: Clock) -> None:
        super().__init__()
        self._sched, self._clock = sched, clock

    def semget(self, key: int, count: int, flags: int) -> int:
        def make(perm: Perm) -> SemSet:
            if not 0 < count <= SEMMSL:
                raise KernelError(EINVAL)
            return SemSet(perm, count, self._clock.nanoseconds // SECOND)

        def check(found: SemSet) -> None:
            if count > len(found.values):
                raise KernelError(EINVAL)

        if count > SEMMSL:
            raise KernelError(EINVAL)
        return self.get(key, flags, make, check)

    def semop(self, task: Task, ident: int, operations: list[SemOp], timeout: int | None) -> int:
        """All operations, asleep until they are possible, or for ``timeout`` nanoseconds.

        Raises KernelError: E2BIG, EAGAIN, EFBIG, EIDRM, EINTR, EINVAL, ERANGE.
        """
        if len(operations) > SEMOPM:
            raise KernelError(E2BIG)
        found = self.find(ident)
        if any(each.number >= len(found.values) for each in operations):
            raise KernelError(EFBIG)
        until = None if timeout is None else self._clock.now + timeout
        while (blocked := found.attempt(operations)) is not None:
            if blocked.flags & IPC_NOWAIT or (until is not None and self._clock.now >= until):
                raise KernelError(EAGAIN)
            self._wait(found, blocked, until)
        for each in operations:
            found.pids[each.number] = task.tgid
            if each.flags & SEM_UNDO:
                found.undo[task.sysvsem][each.number] -= each.change
        found.operated = self._clock.nanoseconds // SECOND
        if any(each.change for each in operations):
            self._sched.wake_up(found.queue)
        return 0

    def _wait(self, found: SemSet, blocked: SemOp, until: int | None) -> None:
        found.waiting.append(blocked)
        try:
            self._sched.schedule((found.queue,), found.queue.what, until)
        finally:
            found.waiting.remove(blocked)
        if found.removed:
            raise KernelError(EIDRM)
        if self._sched.signal_pending():
            raise KernelError(EINTR)

    def set_values(self, task: Task, found: SemSet, values: dict[int, int]) -> None:
        """SETVAL and SETALL: what was to be undone is forgotten.  Raises KernelError(ERANGE)."""
        if not all(0 <= value <= SEMVMX for value in values.values()):
            raise KernelError(ERANGE)
        for number, value in values.items():
            found.values[number], found.pids[number] = value, task.tgid
            for undo in found.undo.values():
                undo.pop(number, None)
        found.changed = self._clock.nanoseconds // SECOND
        self._sched.wake_up(found.queue)

    def destroy(self, found: SemSet) -> None:
        """IPC_RMID: who sleeps on it learns that it is gone."""
        self.remove(found)
        self._sched.wake_up(found.queue)

    def exit_sem(self, task: Task) -> None:
        """Undo what a process wanted undone, when the last of those that share it ends; values stay in their range."""
        task.sysvsem.users -= 1
        if task.sysvsem.users:
            return
        for found in self._by_id.values():
            undo = found.undo.pop(task.sysvsem, None)
            if undo:
                for number, change in undo.items():
                    found.values[number] = max(0, min(SEMVMX, found.values[number] + change))
                    found.pids[number] = task.tgid
                self._sched.wake_up(found.queue)
