"""What can be stopped and looked at: one small protocol over a kernel's session and a ROM on the bare machine.

``resume`` runs the guest in a greenlet of its own and comes back with a ``Stop`` wherever it stands; between two calls
the machine may be looked at, from outside and without effect.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from greenlet import getcurrent, greenlet

from sandbox.debug.goals import Goal
from sandbox.debug.run_control import RunControl
from sandbox.debug.stops import Moment, Stop, StopKind
from sandbox.debug.timeline import Timeline, Woken
from sandbox.debug.walked import Read, Walked
from sandbox.engine.context import CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Trap
from sandbox.image.disassemble import Instruction, disassemble
from sandbox.machine.devices.openbus import OpenBus
from sandbox.machine.machine import Machine
from sandbox.machine.memory import Reason
from sandbox.runner.outside import Outside
from sandbox.runner.result import Result
from sandbox.sanitize.report import StaleReport
from sandbox.x86.descriptors import FLAG_BIG
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_MASK, PAGE_SIZE
from sandbox.x86.walk import VECTOR_PF, Access, Walk, walk

if TYPE_CHECKING:
    from sandbox.debug.lines import Line, LineTable
    from sandbox.debug.unwind import Unwinder
    from sandbox.sanitize.watch import TlbWatch

LONGEST = 15
WRAP = 0xFFFFFFFF


class Refused(SandboxError):
    """A command that cannot be carried out: why, in one line."""

    exit_status = 2


class _Left(Exception):
    """The debugger is left: unwinds what the guest was doing."""


class Target(ABC):
    """A guest on its machine.

    ``on_stop(cpu, kind)`` says what to tell of a stop; None lets the guest go on as if nothing had been.
    """

    kind: str
    """``program``, ``module`` or ``rom``."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.name, self.machine = name, machine
        self.control = RunControl(
            [*machine.cpus], lambda: self.now, self.flow, self._stopped, lambda cpu, at: self.admitted(cpu, at)
        )
        self.control.fetch_failed = self._fetch_failed
        self.admits: Callable[[Cpu, int], bool] = lambda cpu, address: True
        """Whether a breakpoint that was hit counts; set by who has conditions."""
        self.result: Result | None = None
        """What the run came to, at its end."""
        self.viewed_cpu = 0
        self.watched_since = ""
        """Moment from which on the TLBs were followed, where that was not the beginning."""
        self._walked = Walked(self._entry)
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

    def woke(self) -> None:  # noqa: B027
        """This is the copy of a checkpoint, which goes on."""

    def _live(self) -> Stop:
        try:
            self.result = self.finish()
        except _Left:
            return self.stop_at(self.machine.cpus[0], StopKind.END, "left")
        return self.stop_at(self.machine.cpus[self.viewed_cpu], StopKind.END, self.result.headline())

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

    @abstractmethod
    def reports(self) -> list[StaleReport]:
        """What ``--sanitize`` has found so far."""

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

    def renew_views(self) -> None:  # noqa: B027
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

    # -- looking -------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def tlb_watch(self) -> TlbWatch | None:
        """Who follows the TLBs; None where nobody does."""

    def watch_tlbs(self) -> None:
        """Follow the TLBs from now on.  Raises NoFeed."""
        if self.tlb_watch is None:
            self.follow_tlbs()
            here = self.moment(self.cpu)
            self.watched_since = "" if self._life is None or here.time <= 1 else here.text()

    @abstractmethod
    def follow_tlbs(self) -> None:
        """Have a ``tlb_watch``."""

    @property
    def cpu(self) -> Cpu:
        """The CPU that is looked at."""
        return self.machine.cpus[self.viewed_cpu]

    @property
    def context(self) -> CpuContext:
        """The registers that are looked at; those of a task that waits are what it goes on with."""
        return self.cpu.context

    @property
    def cr3(self) -> int:
        """The root of the tables by which linear addresses are looked at."""
        return self.context.cr3

    def _entry(self, physical: int, size: int) -> int:
        memory = self.machine.memory
        at = memory.host_index(physical)
        return int.from_bytes(memory.bytes[at : at + size], "little")

    def walk(
        self,
        linear: int,
        access: Access = Access(),  # noqa: B008
        cr3: int | None = None,
        read: Read | None = None,
    ) -> Walk:
        """The walk of an address by the manual, read from outside.  Raises Refused where a table is not in RAM.

        ``read`` takes down the entries, by physical address and size.
        """
        state, memory = self.context, self.machine.memory

        def entry(physical: int, size: int) -> int:
            if not memory.is_ram(physical, size):
                raise Refused(f"the walk of {linear:08x} comes to a table at {physical:#x}, where no RAM is")
            value = self._entry(physical, size)
            if read is not None:
                read[physical, size] = value
            return value

        root = self.cr3 if cr3 is None else cr3
        return walk(entry, root, linear & WRAP, access, cr0=state.cr0, cr4=state.cr4, efer=state.efer)

    def translate(self, linear: int, cr3: int | None = None) -> int | None:
        """The physical address behind a linear one, None where nothing is mapped or no RAM answers.

        A walk comes to what it came to before where the registers and all entries that it read are what they were.
        """
        state = self.context
        page, offset = linear & WRAP & PAGE_MASK, linear % PAGE_SIZE
        key = self.cr3 if cr3 is None else cr3, page, state.cr0, state.cr4, state.efer
        try:
            frame = self._walked.frame(key, lambda read: self._frame(page, key[0], read))
        except Refused:
            return None
        return None if frame is None else frame + offset

    def _frame(self, page: int, cr3: int, read: Read) -> int | None:
        found = self.walk(page, cr3=cr3, read=read).physical
        return found if found is not None and self.machine.memory.is_ram(found) else None

    def read(self, linear: int, size: int, cr3: int | None = None) -> bytes:
        """Bytes at a linear address; short where nothing is mapped."""
        memory, found = self.machine.memory, b""
        while size > 0:
            physical = self.translate(linear, cr3)
            if physical is None:
                break
            take = min(size, PAGE_SIZE - linear % PAGE_SIZE)
            at = memory.host_index(physical)
            found += bytes(memory.bytes[at : at + take])
            linear, size = linear + take & WRAP, size - take
        return found

    def read_physical(self, physical: int, size: int) -> bytes:
        """Bytes at a physical address; short where RAM ends."""
        memory = self.machine.memory
        while size and not memory.is_ram(physical, size):
            size -= 1 if size <= PAGE_SIZE else size - PAGE_SIZE
        at = memory.host_index(physical) if size else 0
        return bytes(memory.bytes[at : at + size])

    def write(self, linear: int, data: bytes) -> None:
        """Set bytes at a linear address, whatever its protection.  Raises Refused where nothing is mapped."""
        found = []
        for at in pieces(linear, len(data)):
            physical = self.translate(at[0])
            if physical is None:
                raise Refused(f"nothing is mapped at {at[0]:08x}")
            found.append((physical, at[1]))
        for physical, size in found:
            self.write_physical(physical, data[:size])
            data = data[size:]

    def write_physical(self, physical: int, data: bytes) -> None:
        """Set bytes of RAM; what was translated from them is dropped.  Raises Refused where no RAM is."""
        if not self.machine.memory.is_ram(physical, max(len(data), 1)):
            raise Refused(f"no RAM at physical {physical:#x}")
        self.machine.memory.host_write(physical, data, Reason.DEBUGGER)
        for cpu in self.machine.cpus:
            cpu.drop_all_code()

    def code(self, linear: int, count: int) -> list[Instruction]:
        """Up to ``count`` instructions from a linear address on, as wide as CS makes them."""
        wide = self.context.segment("cs").flags & FLAG_BIG
        return disassemble(self.read(linear, LONGEST * count), linear, count, 32 if wide else 16)

    def line_tables(self) -> Iterator[LineTable]:
        """Of what runs here and was compiled with line numbers."""
        return iter(())

    def source_at(self, linear: int) -> Line | None:
        """The source line of an address."""
        return next((line for table in self.line_tables() if (line := table.at(linear)) is not None), None)

    def line_begins(self, linear: int) -> bool:
        """The code of a source line begins at this very address."""
        return any(table.begins(linear) for table in self.line_tables())

    def line_address(self, name: str, number: int) -> int:
        """Where the code of a line begins.  Raises Refused."""
        tables = list(self.line_tables())
        found = next((at for table in tables if (at := table.address(name, number)) is not None), None)
        if found is None:
            known = any(table.knows(name) for table in tables)
            why = "no code from this line on" if known else "no line numbers of this file: compile with -g"
            raise Refused(f"{name}:{number}: {why}")
        return found

    def frame_info(self) -> Unwinder | None:
        """The call frame information of what is looked at."""
        return None

    @abstractmethod
    def address_of(self, name: str) -> int | None:
        """The linear address of a symbol, None when nobody knows it."""

    @abstractmethod
    def name_of(self, linear: int) -> str:
        """``name+0x10`` of what lies at a linear address, empty when nobody knows."""

    @abstractmethod
    def symbol_names(self) -> list[str]:
        """All symbols, for completion."""

    def refuse(self, what: str, why: str) -> NoReturn:
        """Raises Refused: this kind of target has no such thing."""
        raise Refused(f"{self.name}: a {self.kind}; {what}: {why}")


def pieces(linear: int, size: int) -> list[tuple[int, int]]:
    """(linear address, bytes) page by page."""
    found = []
    while size > 0:
        take = min(size, PAGE_SIZE - linear % PAGE_SIZE)
        found.append((linear & WRAP, take))
        linear, size = linear + take, size - take
    return found
