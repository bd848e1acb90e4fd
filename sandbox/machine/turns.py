"""Whose turn it is on a bare machine: one CPU runs at a time, each for a while that the seed draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from random import Random

from sandbox.engine.cpu import Cpu
from sandbox.records import dataclass
from sandbox.x86.masks import CR0_ET

TURN_BLOCKS = 200_000
"""What one CPU runs at most before Python looks: a few milliseconds."""
SHARED_TURN_BLOCKS = 10_000
"""The mean turn with several CPUs; each turn's length is drawn around it."""


class Run(Enum):
    """What a CPU is doing."""

    RUNNING = "running"
    HALTED = "halted"
    WAITING = "waiting for a start-up interrupt"


@dataclass(slots=True)
class BareCpu:
    """One CPU with what its engine does not know: whether it runs at all, and that INIT has come."""

    cpu: Cpu
    state: Run
    held: int = 0
    """Instructions for which an interrupt has been held back by IF."""

    def start_up(self, page: int) -> None:
        """Begin in real mode at CS = page << 8, IP = 0 (SDM 3A, 8.4.3), if it waits for that."""
        if self.state is not Run.WAITING:
            return
        self.cpu.reset()
        state = self.cpu.context
        state.cr0, state.cr4 = CR0_ET, 0
        for name in ("es", "ss", "ds", "fs", "gs"):
            state.set_segment(name, 0, 0, 0xFFFF, 0x9300)
        state.set_segment("cs", page << 8, page << 12, 0xFFFF, 0x9B00)
        state.set_segment("idtr", 0, 0, 0x3FF, 0)
        state.eip = 0
        self.state = Run.RUNNING


class Turns:
    """The round of CPUs.

    ``wakes`` says whether a halted CPU has an interrupt to take; ``switched`` is told of the CPU that goes on and of
    the one that waits from now on, by index.
    """

    def __init__(
        self,
        cpus: Sequence[BareCpu],
        seed: int,
        wakes: Callable[[BareCpu], bool],
        switched: Callable[[int, int], None],
    ) -> None:
        self._cpus, self._random = cpus, Random(seed)
        self._wakes, self._switched = wakes, switched
        self.current = 0
        """Index of the CPU whose turn it is."""
        self.end = 0
        """That CPU's clock, in blocks, at which its turn is over."""

    def present(self) -> BareCpu | None:
        """The CPU whose turn it is, the next one's if the last turn is over; None if no CPU can run."""
        each = self._cpus[self.current]
        if each.state is Run.RUNNING and each.cpu.clock < self.end:
            return each
        chosen = self._choose()
        if chosen is not None:
            self.end = chosen.cpu.clock + self._length()
        return chosen

    def _length(self) -> int:
        if len(self._cpus) == 1:
            return TURN_BLOCKS
        return self._random.randrange(SHARED_TURN_BLOCKS // 2, SHARED_TURN_BLOCKS * 3 // 2)

    def _choose(self) -> BareCpu | None:
        """The next CPU in the round that runs, or is halted and has an interrupt to take."""
        count = len(self._cpus)
        for step in range(1, count + 1):
            index = (self.current + step) % count
            each = self._cpus[index]
            if each.state is Run.RUNNING or (each.state is Run.HALTED and self._wakes(each)):
                each.state = Run.RUNNING
                if index != self.current:
                    previous, self.current = self.current, index
                    self._switched(index, previous)
                return each
        return None
