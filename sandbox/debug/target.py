"""What can be stopped and looked at: one small protocol over a kernel's session and a ROM on the bare machine.

``resume`` runs the guest in a greenlet of its own and comes back with a ``Stop`` wherever it stands; between two calls
the machine may be looked at, from outside and without effect.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from greenlet import getcurrent, greenlet

from sandbox.debug.goals import Goal
from sandbox.debug.looked import LONGEST, Looked
from sandbox.debug.looked import WRAP as WRAP
from sandbox.debug.looked import Refused as Refused
from sandbox.debug.run_control import RunControl
from sandbox.debug.stops import Moment, Stop, StopKind
from sandbox.debug.timeline import Timeline, Woken
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Trap
from sandbox.machine.devices.openbus import OpenBus
from sandbox.machine.machine import Machine
from sandbox.runner.followed import Followed
from sandbox.runner.outside import Outside
from sandbox.runner.result import Result
from sandbox.sanitize.report import StaleReport
from sandbox.x86.walk import VECTOR_PF, Access, walk

if TYPE_CHECKING:
    from sandbox.sanitize.watch import TlbWatch


class _Left(Exception):
    """The debugger is left: unwinds what the guest was doing."""


class Target(Looked):
    """A guest on its machine.

    ``on_stop(cpu, kind)`` says what to tell of a stop; None lets the guest go on as if nothing had been.
    """

    session: Followed

    def __init__(self, name: str, machine: Machine) -> None:
        super().__init__(name, machine)
        self.control = RunControl(
            [*machine.cpus], lambda: self.now, self.flow, self._stopped, lambda cpu, at: self.admitted(cpu, at)
        )
        self.control.fetch_failed = self._fetch_failed
        self.admits: Callable[[Cpu, int], bool] = lambda cpu, address: True
        """Whether a breakpoint that was hit counts; set by who has conditions."""
        self.result: Result | None = None
        """What the run came to, at its end."""
        self.watched_since = ""
        """Moment from which on the TLBs were followed, where that was not the beginning."""
        self._caller: greenlet | None = None
        self._standing: greenlet | None = None
        self._life: greenlet | None = None
        self.timeline: Timeline | None = None
        self.outside: Outside | None = None
        """What comes in and goes out, kept for who goes back."""
        self.person = True
        """Somebody who takes his time looks at stops: it counts for no limit."""

    # -- running -------------------------------------------------------------------------------------------------

    def resume(self, goal: Goal = None) -> Stop:
        """Run on to the next stop: what ``goal`` asks for, a breakpoint, an event, Ctrl-C, or the guest's end.

        Raises Refused when the guest is at its end, and what running it raises: bad files, faults of our own.
        """
        if self.result is not None:
            raise Refused("the guest is at its end: nothing runs any more")
        self.control.goal = goal
        self._caller = getcurrent()
        if self._life is None:
            self.control.attach()
            self._life = self._standing = greenlet(self._live)
        self._life.parent = self._caller
        assert self._standing is not None
        if self.timeline is not None:
            self.timeline.resumed()
            if not self.timeline.paused and self.timeline.another_future() and self.outside:
                self.outside.new_future()
        found = self._standing.switch()
        if isinstance(found, Woken):
            raise found
        if self.timeline is not None:
            self.timeline.stopped()
        assert isinstance(found, Stop)
        return found

    def remember(self, timeline: Timeline) -> None:
        """From now on checkpoints are made while the guest runs; ``resume`` raises Woken in their copies."""
        self.timeline = timeline
        self.control.look = self._look

    def _look(self, cpu: Cpu) -> None:
        assert self.timeline is not None
        try:
            self.timeline.look(lambda: (self.moment(cpu), self.fault_count))
        except Woken as woken:
            self.hold(self.stop_at(cpu, StopKind.MOMENT, ""), woken)

    def woke(self) -> None:
        """This is the copy of a checkpoint, which goes on."""

    def _live(self) -> Stop:
        try:
            self.result = self.finish()
        except _Left:
            return self.stop_at(self.machine.cpus[0], StopKind.END, "left")
        cpu = self.running_cpu  # not who was looked at last: on another way here that is somebody else
        self.viewed_cpu = cpu.index
        return self.stop_at(cpu, StopKind.END, self.result.headline())

    def _stopped(self, cpu: Cpu, kind: StopKind, eip: int) -> None:
        words = {StopKind.MOMENT: "here", StopKind.INTERRUPT: "interrupted"}
        self.hold(self.stop_at(cpu, kind, words.get(kind, "")))

    def hold(self, stop: Stop, woken: Woken | None = None) -> None:
        """From inside the guest's life: give ``stop`` to who called ``resume``; back when that is called again."""
        assert self._caller is not None
        self.viewed_cpu = stop.moment.cpu
        self.look_again(stop)
        self._standing = getcurrent()
        began = time.monotonic()
        if self._caller.switch(stop if woken is None else woken) == "leave":
            raise _Left
        if self.person:
            self.excuse(time.monotonic() - began)

    def close(self) -> None:
        """Leave the guest where it stands, and release the machine."""
        if self.result is None and self._life is not None and self._standing is not None and not self._life.dead:
            self._caller = self._life.parent = getcurrent()
            self._standing.switch("leave")
        self.control.detach()
        self.release()

    def _fetch_failed(self, cpu: Cpu, trap: Trap) -> bool:
        """A page fault is one of the fetch: bit 4 of its code says so, or the tables, for it needs NX (SDM 3A, 4.7)."""
        state, memory = cpu.context, self.machine.memory
        if trap.vector != VECTOR_PF or trap.address - state.linear_eip & WRAP >= LONGEST:
            return False
        access = Access(user=trap.cpl == 3, fetch=True)
        found = walk(memory.read_entry, state.cr3, trap.address, access, cr0=state.cr0, cr4=state.cr4, efer=state.efer)
        return bool(trap.error_code & 16) or found.physical is None

    def admitted(self, cpu: Cpu, address: int) -> bool:
        """A breakpoint was hit: whether the guest stops."""
        return self.admits(cpu, address)

    @abstractmethod
    def finish(self) -> Result:
        """The guest's life, from its first instruction on."""

    @abstractmethod
    def release(self) -> None:
        """Give the machine back."""

    def reports(self) -> list[StaleReport]:
        """What ``--sanitize`` has found so far."""
        return self.session.reports()

    @abstractmethod
    def excuse(self, seconds: float) -> None:
        """So much of the host's time was no time of the run, and counts for no limit."""

    @property
    @abstractmethod
    def now(self) -> int:
        """The machine's clock, in blocks."""

    @property
    @abstractmethod
    def fault_count(self) -> int:
        """Page faults so far."""

    @abstractmethod
    def flow(self, cpu: Cpu) -> Hashable:
        """The flow of control that a CPU runs, or is about to run."""

    @property
    @abstractmethod
    def running_cpu(self) -> Cpu:
        """The CPU that is at work, or for which Python is."""

    @abstractmethod
    def root_of(self, pid: int, cpu: int) -> int | None:
        """CR3 of a task's tables, with 0 of the kernel's own, or where there are no tasks of a CPU's; None: no more."""

    def follow_roots(self, tell: Callable[[], None] | None) -> bool:
        """Have ``tell`` called when ``root_of`` may answer otherwise; False where nobody can tell."""
        return False

    def windows(self) -> list[tuple[int, int]]:
        """Physical start and bytes of what devices answer for: the open bus is none."""
        return [
            (start, each.window_bytes) for start, each in self.machine.board.windows if not isinstance(each, OpenBus)
        ]

    def renew_views(self) -> None:
        """What is watched of Python's stores is something else now (``PhysicalMemory.store_watch``)."""

    def look_again(self, stop: Stop) -> None:
        """The target stands at a stop: what is shown follows."""
        self.view_cpu(stop.moment.cpu)

    def view_cpu(self, index: int) -> None:
        """Look at what a CPU runs."""
        self.viewed_cpu = index

    def pid_on(self, cpu: Cpu) -> int:
        """The task that a CPU runs, 0 for none."""
        return 0

    def process_on(self, cpu: Cpu) -> int:
        """The process whose task a CPU runs, 0 for none."""
        return 0

    def moment(self, cpu: Cpu, event: str = "") -> Moment:
        """Where a CPU stands."""
        at = self.now if event else self.control.time_at(cpu)
        return Moment(at, cpu.index, cpu.context.linear_eip & WRAP, event)

    def stop_at(self, cpu: Cpu, kind: StopKind, headline: str, points: Sequence[int] = ()) -> Stop:
        """A stop where a CPU stands now."""
        return Stop(kind, self.moment(cpu), self.pid_on(cpu), headline, tuple(points))

    # -- TLBs ----------------------------------------------------------------------------------------------------

    @property
    def tlb_watch(self) -> TlbWatch | None:
        """Who follows the TLBs; None where nobody does."""
        return self.session.tlb_watch

    def watch_tlbs(self) -> None:
        """Follow the TLBs from now on.  Raises NoFeed."""
        if self.tlb_watch is None:
            self.session.trace_walks()
            here = self.moment(self.cpu)
            self.watched_since = "" if self._life is None or here.time <= 1 else here.text()
