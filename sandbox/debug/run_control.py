"""How the CPUs of a stopped machine run on: instruction by instruction, to a place, or to a moment.

Every run of a CPU, of ring 3, of a kernel routine or of a ROM, may go through ``RunControl``, which tells its owner of
each stop.  How much of it stands in the way is decided when something is asked for or set, not at each run: nothing at
all, a look at how the engine came back (``Way.LIGHT``), or one before it, too (``run``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from sandbox.debug.goals import Goal, Steps, Until
from sandbox.debug.stops import StopKind
from sandbox.debug.ways import Watching, Way
from sandbox.engine import watch
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import (
    BlocksSpent,
    BreakpointHit,
    Exit,
    Halt,
    ModeChanged,
    Paused,
    Stepped,
    StoppedAhead,
    Trap,
    Watched,
)

_OURS = (BreakpointHit, ModeChanged, Stepped, Watched)
"""Exits that may be the debugger's."""
RUNS_BETWEEN_LOOKS = 256
"""Runs of the engine inside one run of a CPU, after which the host's time is looked at: stops use up no blocks."""


class RunControl:
    """What makes CPUs stop.

    ``now`` is the machine's clock.  ``flow`` names the flow of control that a CPU is about to run.
    ``stopped(cpu, kind, eip)`` is called at each stop, and the CPU goes on when it returns; ``admits(cpu, address)``
    says whether a breakpoint counts, now that it is hit.
    """

    def __init__(
        self,
        cpus: Sequence[Cpu],
        now: Callable[[], int],
        flow: Callable[[Cpu], Hashable],
        stopped: Callable[[Cpu, StopKind, int], None],
        admits: Callable[[Cpu, int], bool],
    ) -> None:
        self.cpus, self.now, self.flow, self.stopped, self.admits = cpus, now, flow, stopped, admits
        self.fetch_failed: Callable[[Cpu, Trap], bool] = lambda cpu, trap: False
        """A trap has come before its instruction was there to be counted."""
        self.look: Callable[[Cpu], None] | None = None
        """Called between two runs of the engine, when ``look_soon`` has asked for it."""
        self.check_time: Callable[[], object] = lambda: None
        """Raises what ends the guest's life when its host time is over."""
        self._runs = 0
        self.changed: Callable[[Cpu, int], None] = lambda cpu, before: None
        """A CPU's next block is run in another mode (``Cpu.mode``) than before: stop, or not."""
        self.modes: list[int] = []
        """Of each CPU what it ran in last, while changes are looked for."""
        self.breakpoints: set[int] = set()
        self.fetches: set[int] = set()
        """Physical addresses of breakpoints."""
        self.stops_inside = False
        """Stops may come while the engine is at work, from what devices tell."""
        self.running = False
        """The engine is at work, as far as anybody looks."""
        self._goal: Goal = None
        self._due: Until | None = None
        self._interrupted = self._yields = self._looks = self._alert = False
        self._watching: Watching | None = None
        self._holds: Callable[[Cpu], bool] | None = None
        self._way, self._attached = Way.BARE, False
        self._stood: tuple[int, int, int] | None = None
        """Where the last stop was: a breakpoint there has been seen."""

    # -- what is wanted ------------------------------------------------------------------------------------------

    @property
    def goal(self) -> Goal:
        """What is asked for."""
        return self._goal

    @goal.setter
    def goal(self, goal: Goal) -> None:
        self._goal = goal
        if goal is not None:
            self._take(Way.FULL)

    @property
    def due(self) -> Until | None:
        """A moment at which to stop besides: something is to be done there before the goal is gone on with."""
        return self._due

    @due.setter
    def due(self, due: Until | None) -> None:
        self._due = due
        self.alert()

    def stands_nowhere(self) -> None:
        """A breakpoint at the place of the last stop counts: nobody has seen it."""
        self._stood = None

    @property
    def interrupted(self) -> bool:
        """Somebody wants a stop soon."""
        return self._interrupted

    @interrupted.setter
    def interrupted(self, on: bool) -> None:
        self._interrupted = on
        self.alert()

    @property
    def yields(self) -> bool:
        """Who runs the next CPU shall look at his tasks first: something came for one while all stood still."""
        return self._yields

    @yields.setter
    def yields(self, on: bool) -> None:
        self._yields = on
        self.alert()

    @property
    def holds(self) -> Callable[[Cpu], bool] | None:
        """Whether what a CPU is about to run is to stand still; None while nothing is."""
        return self._holds

    @holds.setter
    def holds(self, holds: Callable[[Cpu], bool] | None) -> None:
        self._holds = holds
        self.alert()

    @property
    def watching(self) -> Watching | None:
        """None while nothing is watched."""
        return self._watching

    @watching.setter
    def watching(self, watching: Watching | None) -> None:
        self._watching = watching
        self.alert()

    def look_soon(self) -> None:
        """Have ``look`` called before the next run."""
        self._looks = True
        self.alert()

    def alert(self) -> None:
        """Something is to be done before the next run of a CPU, or behind the present one."""
        self._alert = True
        self._take(Way.FULL)

    def _take(self, way: Way) -> None:
        """Have at least so much in the way of each run."""
        if self._attached and way > self._way:
            self._set(way)

    def _set(self, way: Way) -> None:
        self._way = way
        for cpu in self.cpus:
            cpu.judge = partial(self._judged, cpu) if self._attached else None
            if way is Way.LIGHT:
                cpu.run_as(self._lightly(cpu), passes_ahead=True)
            else:
                cpu.run_by(self.run if way is Way.FULL else None)

    def _least(self) -> Way:
        """The least that will do."""
        watching = self._watching
        asked = self._goal is not None or self._due is not None or self._interrupted or self._yields or self._looks
        asked = asked or self._holds is not None
        if asked or (watching is not None and watching.busy):
            return Way.FULL
        ends = self.breakpoints or self.fetches or self.modes or self.stops_inside or watching is not None
        return Way.LIGHT if ends else Way.BARE

    def attach(self) -> None:
        """From now on runs go through here, where something is wanted."""
        self._attached = True
        self._set(Way.FULL)

    def detach(self) -> None:
        """The CPUs run by themselves again."""
        self.set_breakpoints(set())
        self.set_fetches(set())
        self.watch_modes(False)
        if self._watching is not None:
            self._watching.end()
        self._attached = False
        self._set(Way.BARE)

    def set_breakpoints(self, wanted: set[int]) -> None:
        """Stop before the instructions at these linear addresses, and at no others."""
        for cpu in self.cpus:
            for address in self.breakpoints - wanted:
                cpu.clear_breakpoint(address)
            for address in wanted - self.breakpoints:
                cpu.set_breakpoint(address)
        self.breakpoints = set(wanted)
        self._take(Way.FULL)

    def set_fetches(self, wanted: set[int]) -> None:
        """Stop before the instructions at these physical addresses, by whatever mapping.  Raises NoWatch."""
        if wanted != self.fetches:
            watch.set_fetches(self.cpus, wanted)
            self.fetches = set(wanted)
            self._take(Way.FULL)

    def watch_modes(self, on: bool) -> None:
        """Tell of changes of the CPUs' modes."""
        if on != bool(self.modes):
            self.modes = [cpu.mode for cpu in self.cpus] if on else []
            for cpu in self.cpus:
                cpu.watch_mode(on)
            self._take(Way.FULL)

    # -- running -------------------------------------------------------------------------------------------------

    def _lightly(self, cpu: Cpu) -> Callable[[int, int | None], Exit]:
        """In the place of ``run`` of a CPU, where nothing is to be done before."""
        run = Cpu.run

        def lightly(blocks: int, steps: int | None = None) -> Exit:
            self.running = True
            exit_ = run(cpu, blocks, steps)
            self.running = False
            kind = exit_.__class__
            if self._alert or (kind is not Trap and kind in _OURS):  # most runs end with what is the machine's
                # What went ahead is not this context's: who has sent it asks ``_judged`` when it is its turn.
                return exit_ if kind is StoppedAhead else self._looked(cpu, exit_, steps)
            return exit_

        return lightly

    def run(self, cpu: Cpu, blocks: int, steps: int | None = None) -> Exit:
        """In the place of ``Cpu.run``: to an exit that is the machine's to answer."""
        self._alert = False
        if self._looks:
            self._look(cpu)
        if self._yields or (self._holds is not None and self._holds(cpu)):
            self._yields = False
            return Paused(cpu.context.eip)
        if self._goal is not None or self._due is not None:
            return self._run(cpu, cpu.clock + blocks, steps)
        if self._interrupted:
            self._stop(cpu, StopKind.INTERRUPT)
            return self.run(cpu, blocks, steps)
        if self._watching is not None:
            self._watching.before(cpu)
        least = self._least()
        if least is not Way.FULL:
            self._set(least)
            return cpu.run(blocks, steps)
        self.running = True
        exit_ = Cpu.run(cpu, blocks, steps)
        self.running = False
        return self._looked(cpu, exit_, steps)

    def _looked(self, cpu: Cpu, exit_: Exit, steps: int | None) -> Exit:
        """A run of the engine is over, for which nothing was asked: stop for what is ours, and go on to another end."""
        touched = self._watching is not None and self._watching.touched()
        if not touched and exit_.__class__ not in _OURS and not self._interrupted:
            return exit_
        end = cpu.clock + cpu.blocks_left
        exit_ = self._behind(cpu, exit_)
        self._told(cpu)
        found = self._answered(cpu, exit_, None, end, steps)
        return self._run(cpu, end, steps) if found is None else found

    def _judged(self, cpu: Cpu, exit_: Exit) -> Exit:
        """What went ahead has stopped, and the CPU stands there now."""
        return self._looked(cpu, exit_, None)

    def _look(self, cpu: Cpu) -> None:
        self._looks = False
        if self.look is not None:
            self.look(cpu)

    def _told(self, cpu: Cpu) -> None:
        if self._watching is not None and self._watching.behind(cpu):
            self._stood = self._place(cpu)

    def _run(self, cpu: Cpu, end: int, steps: int | None) -> Exit:
        """Up to a time of the CPU's clock, or to an exit that is the machine's."""
        found = None
        while found is None:
            self._runs += 1
            if not self._runs % RUNS_BETWEEN_LOOKS:
                self.check_time()
            self._arrive(cpu)
            if self._looks:
                self._look(cpu)
            if self._yields or (self._holds is not None and self._holds(cpu)):
                self._yields = False
                return Paused(cpu.context.eip)
            if self._watching is not None:
                self._watching.before(cpu)
            goal, left, most = self._goal, max(0, end - cpu.clock), steps
            for each in (self._due, goal):
                if isinstance(each, Until):
                    left, most = each.ahead(self.now(), left, most)
            if isinstance(goal, Steps) and goal.concerns(cpu, self.flow):
                exit_ = self._step(cpu, goal, left, most)
            else:
                exit_ = self._go(cpu, left, most)
            self._told(cpu)
            found = self._answered(cpu, exit_, goal, end, steps)
        return found

    def _answered(self, cpu: Cpu, exit_: Exit, goal: Goal, end: int, steps: int | None) -> Exit | None:
        """Stop for what is the debugger's; the exit if it is the machine's, None to go on."""
        if self._interrupted:
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
        self.running = True
        exit_ = Cpu.run(cpu, blocks, steps)
        self.running = False
        return self._behind(cpu, exit_)

    def _behind(self, cpu: Cpu, exit_: Exit) -> Exit:
        if not isinstance(exit_, Watched):
            return exit_
        if cpu.context.watched != -1:
            return Cpu.run(cpu, cpu.blocks_left, 1)
        if self._watching is not None:
            self._watching.loaded(cpu)
        return Stepped(exit_.eip)

    def _mode_changed(self, cpu: Cpu) -> None:
        if self.modes:
            before, self.modes[cpu.index] = self.modes[cpu.index], cpu.mode
            if self._place(cpu) != self._stood:
                self.changed(cpu, before)

    def _place(self, cpu: Cpu) -> tuple[int, int, int]:
        return cpu.index, self.time_at(cpu), cpu.context.linear_eip & 0xFFFFFFFF

    def _stop(self, cpu: Cpu, kind: StopKind) -> None:
        self._goal, self._interrupted = None, False
        self._stood = self._place(cpu)
        self.stopped(cpu, kind, cpu.context.linear_eip & 0xFFFFFFFF)

    def _arrive(self, cpu: Cpu) -> None:
        """Stop before anything runs, where that is what was asked for; again for as long as it is."""
        while True:
            goal = self._goal
            if self._due is not None and self._reached(self._due, cpu):
                self._due = None
                self._stop(cpu, StopKind.MOMENT)
            elif isinstance(goal, Steps) and goal.concerns(cpu, self.flow):
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

    def _cut_short(self, goal: Goal, cpu: Cpu, exit_: Exit, end: int) -> bool:
        """Blocks are left that only the search for a moment did not give."""
        searched = isinstance(goal, Until) or self._due is not None
        return searched and isinstance(exit_, BlocksSpent) and cpu.clock < end
