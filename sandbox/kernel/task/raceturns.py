"""Whose turn it is under a schedule of races: a flow stands where a protocol is half done (docs/races.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import cast

from greenlet import getcurrent

from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.events import RaceSwitch
from sandbox.kernel.base.races import Races
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.task.runqueue import RunQueues
from sandbox.kernel.task.task import Task


class RaceTurns:
    """Of a machine with several CPUs.  ``leave`` goes to the scheduler's hub; it returns with the flow's next turn."""

    def __init__(
        self,
        smp: Smp,
        queues: RunQueues,
        races: Races,
        trace: Trace,
        rng: Random,
        turn: int,
        leave: Callable[[], None],
    ) -> None:
        self._smp, self._queues, self._races = smp, queues, races
        self._bus, self._clock = trace.bus, trace.clock
        self._random, self._longest, self._leave = rng, turn, leave
        self._standing: KernelCpu | None = None
        """The CPU whose flow stands at a race point: another one has the next turn."""
        self._late: set[KernelCpu] = set()
        """CPUs that went on although an interrupt was pending; they take it with their next turn."""
        self._whole = False
        """Somebody waits for what the others do: they have whole turns, and stand nowhere."""
        races.stand, smp.patience = self._stand, self.give_way

    def turn(self, ready: Sequence[KernelCpu], cpu: KernelCpu, left: int) -> tuple[KernelCpu, int]:
        """The CPU and its blocks, of a turn meant for ``cpu``: not his who stands, and for a while of any magnitude.

        A CPU without a task is interrupted at once, another one perhaps a little later.
        """
        if self._standing is not None:
            others = [each for each in ready if each is not self._standing]
            cpu = cpu if cpu in others or not others else self._random.choice(others)
            self._standing = None
            left = int(2 ** self._random.uniform(0, math.log2(self._longest)))
        for each in self._smp.cpus:
            if each.current is None:
                self._smp.take_ipis(each)
        if cpu.pending_ipis:
            late = 0 if cpu in self._late else self._races.lateness()
            if late:
                self._late.add(cpu)
                left = late
            else:
                self._late.discard(cpu)
                self._smp.take_ipis(cpu)
        return cpu, left

    def is_late(self, cpu: KernelCpu) -> bool:
        """It takes what is pending with its next turn, not now."""
        return cpu in self._late

    @contextmanager
    def whole_turns(self) -> Iterator[None]:
        """Meanwhile nobody stands anywhere."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False

    def _stand(self, name: str, times: int) -> None:
        stood = False
        for _ in range(0 if self._whole else self._races.standing()):
            if not self.give_way():
                break
            stood = True
        if stood and self._bus.active and self._bus.wants(RaceSwitch):
            self._bus.emit(RaceSwitch(self._clock.now, self._smp.this_cpu.index, name, times))

    def give_way(self) -> bool:
        """Another CPU goes on while the present flow stands still; False at once where none could, or none may."""
        cpu = self._smp.this_cpu
        task = cast("Task | None", cpu.current)
        if task is None or task.greenlet is not getcurrent() or cpu.in_interrupt:
            return False
        if not any(each is not cpu and (each.current or self._queues[each.index].tasks) for each in self._smp.cpus):
            return False
        self._standing = cpu
        self._leave()
        return True
