"""How the CPUs of a stopped machine run on: instruction by instruction, to a place, or to a moment.

Every run of a CPU, of ring 3, of a kernel routine or of a ROM, goes through ``RunControl.run``; it looks at what is
asked for before and after it lets the engine go on, and tells its owner of each stop.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from sandbox.debug.stops import StopKind
from sandbox.engine import watch
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import BlocksSpent, BreakpointHit, Exit, Halt, ModeChanged, Paused, Stepped, Trap, Watched
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
_OURS = (BreakpointHit, ModeChanged, Stepped, Watched)
"""Exits that may be the debugger's."""


class Watching(Protocol):
    """Who watches memory (``watching.Watching``)."""

    def before(self, cpu: Cpu) -> None:
        """The engine is about to go on."""
        ...

    def end(self) -> None:
        """Watch nothing any more."""
        ...

    def loaded(self, cpu: Cpu) -> None:
        """A watch has stopped the engine, behind a load of CR3."""
        ...

    def touched(self) -> bool:
        """The engine has come back: whether there is something for ``behind`` to tell."""
        ...

    def behind(self, cpu: Cpu) -> bool:
        """The engine has come back: whether something that is watched was touched, and told."""
        ...


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
    fetch_failed: Callable[[Cpu, Trap], bool] = lambda cpu, trap: False
    """A trap has come before its instruction was there to be counted."""
    goal: Goal = None
    look: Callable[[Cpu], None] | None = None
    """Called between two runs of the engine."""
    interrupted: bool = False
    """Somebody wants a stop soon."""
    yields: bool = False
    """Who runs the next CPU shall look at his tasks first: something came for one of them while all stood still."""
    watching: Watching | None = None
    """None while nothing is watched."""
    changed: Callable[[Cpu, int], None] = lambda cpu, before: None
    """A CPU's next block is run in another mode (``Cpu.mode``) than before: stop, or not."""
    modes: list[int] = field(default_factory=list)
    """Of each CPU what it ran in last, while changes are looked for."""
    breakpoints: set[int] = field(default_factory=set)
    fetches: set[int] = field(default_factory=set)
    """Physical addresses of breakpoints."""
    _stood: tuple[int, int, int] | None = None
    """Where the last stop was: a breakpoint there has been seen."""

    def attach(self) -> None:
        """From now on every run goes through here."""
        for cpu in self.cpus:
            cpu.run_by(self.run)

    def detach(self) -> None:
        """The CPUs run by themselves again."""
        self.set_breakpoints(set())
        self.set_fetches(set())
        self.watch_modes(False)
        if self.watching is not None:
            self.watching.end()
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

    def set_fetches(self, wanted: set[int]) -> None:
        """Stop before the instructions at these physical addresses, by whatever mapping.  Raises NoWatch."""
        if wanted != self.fetches:
            watch.set_fetches(self.cpus, wanted)
            self.fetches = set(wanted)

    def watch_modes(self, on: bool) -> None:
        """Tell of changes of the CPUs' modes."""
        if on != bool(self.modes):
            self.modes = [cpu.mode for cpu in self.cpus] if on else []
            for cpu in self.cpus:
                cpu.watch_mode(on)

    def run(self, cpu: Cpu, blocks: int, steps: int | None = None) -> Exit:
        """In the place of ``Cpu.run``: to an exit that is the machine's to answer."""
        if self.look is not None:
            self.look(cpu)
        if self.yields:
            self.yields = False
            return Paused(cpu.context.eip)
        if self.goal is not None:
            return self._run(cpu, cpu.clock + blocks, steps)
        watching = self.watching
        if watching is not None:
            watching.before(cpu)
        exit_ = Cpu.run(cpu, blocks, steps)  # most runs: nothing that was looked for is on the way
        touched = watching is not None and watching.touched()
        if not touched and type(exit_) not in _OURS and not self.interrupted:
            return exit_
        end = cpu.clock + cpu.blocks_left
        exit_ = self._behind(cpu, exit_)
        self._told(cpu)
        found = self._answered(cpu, exit_, None, end, steps)
        return self._run(cpu, end, steps) if found is None else found

    def _told(self, cpu: Cpu) -> None:
        if self.watching is not None and self.watching.behind(cpu):
            self._stood = self._place(cpu)

    def _run(self, cpu: Cpu, end: int, steps: int | None) -> Exit:
        """Up to a time of the CPU's clock, or to an exit that is the machine's."""
        found = None
        while found is None:
            self._arrive(cpu)
            if self.look is not None:
                self.look(cpu)
            if self.yields:
                self.yields = False
                return Paused(cpu.context.eip)
            if self.watching is not None:
                self.watching.before(cpu)
            goal, left = self.goal, max(0, end - cpu.clock)
            if isinstance(goal, Steps) and self._concerns(goal, cpu):
                exit_ = self._step(cpu, goal, left, steps)
            elif isinstance(goal, Until):
                exit_ = self._run_until(cpu, goal, left, steps)
            else:
                exit_ = self._go(cpu, left, steps)
            self._told(cpu)
            found = self._answered(cpu, exit_, goal, end, steps)
        return found

    def _answered(self, cpu: Cpu, exit_: Exit, goal: Goal, end: int, steps: int | None) -> Exit | None:
        """Stop for what is the debugger's; the exit if it is the machine's, None to go on."""
        if self.interrupted:
            self._stop(cpu, StopKind.INTERRUPT)
        if isinstance(exit_, ModeChanged):
            self._mode_changed(cpu)
        elif isinstance(exit_, BreakpointHit):
            if self._place(cpu) != self._stood and self.admits(cpu, cpu.context.linear_eip & 0xFFFFFFFF):
                self._stop(cpu, StopKind.BREAKPOINT)
        elif steps is not None or not (isinstance(exit_, Stepped) or self._cut_short(goal, cpu, exit_, end)):
            return exit_
        return None

    def _go(self, cpu: Cpu, blocks: int, steps: int | None) -> Exit:
        """One run of the engine; an instruction at which a watch stops it is done before anybody is told."""
        return self._behind(cpu, Cpu.run(cpu, blocks, steps))

    def _behind(self, cpu: Cpu, exit_: Exit) -> Exit:
        if not isinstance(exit_, Watched):
            return exit_
        if cpu.context.watched != -1:
            return Cpu.run(cpu, cpu.blocks_left, 1)
        if self.watching is not None:
            self.watching.loaded(cpu)
        return Stepped(exit_.eip)

    def _mode_changed(self, cpu: Cpu) -> None:
        if self.modes:
            before, self.modes[cpu.index] = self.modes[cpu.index], cpu.mode
            if self._place(cpu) != self._stood:
                self.changed(cpu, before)

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
        exit_ = self._go(cpu, left, goal.count if steps is None else min(steps, goal.count))
        executed = cpu.instructions - before
        if isinstance(exit_, Trap) and not exit_.software:
            executed -= not self.fetch_failed(cpu, exit_)
            goal.faulted_at = exit_.eip
        goal.count -= executed
        if isinstance(exit_, Halt) and goal.flow is not None:
            goal.flow, goal.cpu, goal.count = None, cpu.index, max(0, goal.count)
        return exit_

    def _run_until(self, cpu: Cpu, goal: Until, left: int, steps: int | None) -> Exit:
        """Blocks up to the time asked for, then instruction by instruction."""
        ahead = goal.time - 1 - self.now()
        if goal.eip is not None:
            ahead -= 1  # where the fetch of the next block faults, blocks are spent behind the fault only
        if ahead <= 0:
            return self._go(cpu, left, 1)
        return self._go(cpu, min(left, ahead), steps)

    @staticmethod
    def _cut_short(goal: Goal, cpu: Cpu, exit_: Exit, end: int) -> bool:
        """Blocks are left that only the search for a moment did not give."""
        return isinstance(goal, Until) and isinstance(exit_, BlocksSpent) and cpu.clock < end
