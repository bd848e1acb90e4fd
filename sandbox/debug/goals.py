"""What is asked for of a machine that runs on: so many instructions, or a moment."""

from __future__ import annotations

from collections.abc import Hashable

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


@dataclass(slots=True)
class Until:
    """Run to a time of the machine's clock, and from there to an instruction, both linear and on a CPU."""

    time: int
    eip: int | None = None
    cpu: int | None = None


Goal = Steps | Until | None
