"""What is asked for of a machine that runs on: so many instructions, or a moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from sandbox.engine.cpu import Cpu
from sandbox.records import dataclass


@dataclass(slots=True)
class Steps:
    """Instructions to be run: of one flow of control, or with ``flow`` None of whatever comes on a CPU.

    ``cpu`` None is any.  A step is done when its instruction is; one that faults is not, and comes again.
    """

    count: int
    flow: Hashable | None = None
    cpu: int | None = None
    faulted_at: int | None = None
    """EIP of the instruction that a trap has ended before it was done."""
    finished: bool = False
    """A trap has ended the last instruction asked for, and it was done."""

    def concerns(self, cpu: Cpu, flow: Callable[[Cpu], Hashable]) -> bool:
        """What a CPU is about to run counts; ``flow`` tells whose it is."""
        return self.cpu in (None, cpu.index) and (self.flow is None or self.flow == flow(cpu))


@dataclass(slots=True)
class Until:
    """Run to a time of the machine's clock, and from there to an instruction, both linear and on a CPU."""

    time: int
    eip: int | None = None
    cpu: int | None = None

    def ahead(self, now: int, left: int, steps: int | None) -> tuple[int, int | None]:
        """Blocks and instructions for one run of the engine: up to the time asked for, then one by one."""
        ahead = self.time - 1 - now
        if self.eip is not None:
            ahead -= 2  # where the fetch of the next block faults, blocks are spent behind the fault only
        return (left, 1) if ahead <= 0 else (min(left, ahead), steps)


Goal = Steps | Until | None
