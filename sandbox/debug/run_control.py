"""How the CPUs of a stopped machine run on: instruction by instruction, to a place, or to a moment.

Every run of a CPU, of ring 3, of a kernel routine or of a ROM, goes through ``RunControl.run``; it looks at what is
asked for before and after it lets the engine go on, and tells its owner of each stop.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from sandbox.debug.stops import StopKind
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import BlocksSpent, BreakpointHit, Exit, Halt, Paused, Stepped, Trap
from sandbox.records import dataclass, field


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


@dataclass(slots=True)
class RunControl:
    """What makes CPUs stop.

    ``now`` is the machine's clock.  ``flow`` names the flow of control that a CPU is about to run.
    ``stopped(cpu, kind, eip)`` is called at each stop, and the CPU goes on when it returns; ``admits(cpu, address)``
    says whether a breakpoint counts, now that it is hit.
    """

    cpus: Sequence[Cpu]
    now: Callable[[], int]
    flow: Callable[[Cpu], Hashable]
    stopped: Callable[[Cpu, StopKind, int], None]
    admits: Callable[[Cpu, int], bool]
    goal: Goal = None
    look: Callable[[Cpu], None] | None = None
    """Called between two runs of the engine."""
    interrupted: bool = False
    """Somebody wants a stop soon."""
    yields: bool = False
    """Who runs the next CPU shall look at his tasks first: something came for one of them while all stood still."""
    breakpoints: set[int] = field(default_factory=set)
    _stood: tuple[int, int, int] | None = None
    """Where the last stop was: a breakpoint there has been seen."""

    def attach(self) -> None:
        """From now on every run goes through here."""
        for cpu in self.cpus:
            cpu.run_by(self.run)

    def detach(self) -> None:
        """The CPUs run by themselves again."""
        self.set_breakpoints(set())
        for cpu in self.cpus:
            cpu.run_by(None)

    def set_breakpoints(self, wanted: set[int]) -> None:
        """Stop before the instructions at these linear addresses, and at no others."""
        for cpu in self.cpus:
            for address in self.breakpoints - wanted:
                cpu.clear_breakpoint(address)
            for address in wanted - self.breakpoints:
                cpu.set_breakpoint(address)
        self.breakpoints = set(wanted)

    def run(self, cpu: Cpu, blocks: int, steps: int | None = None) -> Exit:
        """In the place of ``Cpu.run``: to an exit that is the machine's to answer."""
        end = cpu.clock + blocks
        while True:
            self._arrive(cpu)
            if self.look is not None:
                self.look(cpu)
            if self.yields:
                self.yields = False
                return Paused(cpu.context.eip)
            goal, left = self.goal, max(0, end - cpu.clock)
            if isinstance(goal, Steps) and self._concerns(goal, cpu):
                exit_ = self._step(cpu, goal, left, steps)
            elif isinstance(goal, Until):
                exit_ = self._run_until(cpu, goal, left, steps)
            else:
                exit_ = Cpu.run(cpu, left, steps)
            if self.interrupted:
                self._stop(cpu, StopKind.INTERRUPT)
            if isinstance(exit_, BreakpointHit):
                if self._place(cpu) != self._stood and self.admits(cpu, cpu.context.linear_eip & 0xFFFFFFFF):
                    self._stop(cpu, StopKind.BREAKPOINT)
            elif steps is not None or not (isinstance(exit_, Stepped) or self._cut_short(goal, cpu, exit_, end)):
                return exit_

    def _place(self, cpu: Cpu) -> tuple[int, int, int]:
        return cpu.index, self.time_at(cpu), cpu.context.linear_eip & 0xFFFFFFFF

    def _stop(self, cpu: Cpu, kind: StopKind) -> None:
        self.goal, self.interrupted = None, False
        self._stood = self._place(cpu)
        self.stopped(cpu, kind, cpu.context.linear_eip & 0xFFFFFFFF)

    def _concerns(self, goal: Steps, cpu: Cpu) -> bool:
        if goal.cpu is not None and goal.cpu != cpu.index:
            return False
        return goal.flow is None or goal.flow == self.flow(cpu)

    def _arrive(self, cpu: Cpu) -> None:
        """Stop before anything runs, where that is what was asked for; again for as long as it is."""
        while True:
            goal = self.goal
            if isinstance(goal, Steps) and self._concerns(goal, cpu):
                if goal.faulted_at is not None and cpu.context.eip != goal.faulted_at:
                    goal.count -= 1  # the kernel did the instruction, or a handler runs instead of it
                goal.faulted_at = None
                if goal.count > 0:
                    return
                self._stop(cpu, StopKind.STEP)
            elif isinstance(goal, Until) and self._reached(goal, cpu):
                self._stop(cpu, StopKind.MOMENT)
            else:
                return

    def time_at(self, cpu: Cpu) -> int:
        """The clock as the next instruction of a CPU finds it: who begins a block has it counted first."""
        return self.now() + (cpu.context.resumes_at == -1)

    def _reached(self, goal: Until, cpu: Cpu) -> bool:
        now = self.time_at(cpu)
        if now < goal.time:
            return False
        here = goal.cpu in (None, cpu.index) and goal.eip in (None, cpu.context.linear_eip & 0xFFFFFFFF)
        return here or now > goal.time

    def _step(self, cpu: Cpu, goal: Steps, left: int, steps: int | None) -> Exit:
        """Run the instructions that are still to be run, and count those that were."""
        before = cpu.instructions
        exit_ = Cpu.run(cpu, left, goal.count if steps is None else min(steps, goal.count))
        executed = cpu.instructions - before
        if isinstance(exit_, Trap) and not exit_.software:
            executed -= 1
            goal.faulted_at = exit_.eip
        goal.count -= executed
        if isinstance(exit_, Halt) and goal.flow is not None:
            goal.flow, goal.cpu, goal.count = None, cpu.index, max(0, goal.count)
        return exit_

    def _run_until(self, cpu: Cpu, goal: Until, left: int, steps: int | None) -> Exit:
        """Blocks up to the time asked for, then instruction by instruction."""
        ahead = goal.time - 1 - self.now()
        if ahead <= 0:
            return Cpu.run(cpu, left, 1)
        return Cpu.run(cpu, min(left, ahead), steps)

    @staticmethod
    def _cut_short(goal: Goal, cpu: Cpu, exit_: Exit, end: int) -> bool:
        """Blocks are left that only the search for a moment did not give."""
        return isinstance(goal, Until) and isinstance(exit_, BlocksSpent) and cpu.clock < end
