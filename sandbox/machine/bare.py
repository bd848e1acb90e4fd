"""The bare machine: an image owns the CPU, its own descriptor tables and its own handlers.

The image is loaded at a physical address and entered at its first byte unless told otherwise, in the state that a
Multiboot loader leaves, so that the same file also runs elsewhere:

- protected mode, paging off, interrupts off; EAX is 0x2BADB002, EBX 0 (no information), the others 0;
- all segments flat, 0 to 4 GB, ring 0, and no descriptor table behind them: load a GDT before any selector;
- further CPUs wait for INIT and start-up interrupts from the local APIC, and begin in real mode.

Devices: a serial port at 0x3F8, the exit port at 0xF4, local APICs at 0xFEE00000, the card at 0x80000000 unless RAM
or another device is there.  Exceptions and interrupts go through the guest's IDT (``sandbox.machine.delivery``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import inf

from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import (
    BlocksSpent,
    BreakpointHit,
    BusError,
    Exit,
    Halt,
    Paused,
    PortDenied,
    Stepped,
    Stopped,
    Trap,
    Watched,
)
from sandbox.engine.ticks import ticking
from sandbox.machine import breakage
from sandbox.machine.delivery import Delivered, Interruption, Shutdown, Source, deliver
from sandbox.machine.devices.apic import APIC_ADDRESS, LocalApics
from sandbox.machine.devices.card import CARD_ADDRESS, Card
from sandbox.machine.devices.exit_port import EXIT_PORT, ExitPort
from sandbox.machine.devices.serial import COM1, Serial
from sandbox.machine.events import CpuSwitch, Delivery, InterProcessorInterrupt, TrapTaken
from sandbox.machine.machine import Machine
from sandbox.machine.memory import Reason
from sandbox.machine.outcome import (
    AtBreakpoint,
    AtWatch,
    Exited,
    Halted,
    LimitReached,
    NobodyAnswers,
    Outcome,
    TripleFault,
)
from sandbox.machine.switches import checked
from sandbox.machine.system_access import ProcessorFault, SystemAccess
from sandbox.machine.turns import TURN_BLOCKS, BareCpu, Run, Turns
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.masks import IF, IOPL, VM
from sandbox.x86.tss import io_allowed
from sandbox.x86.vectors import Vector, has_error_code

LOAD_ADDRESS = 0x100000
MULTIBOOT_MAGIC = 0x2BADB002
PATIENT_STEPS = 20_000
"""Instructions with an interrupt held back that are run one by one: a tenth of a second."""
IMPATIENT_BLOCKS = 64


class _Late(Exception):
    """The host's time is over while a device of this machine waits for the host."""


class BareMachine:
    """An image on a machine with nothing else on it.

    ``sink`` gets what the guest sends to the serial port; without one it collects in ``serial.sent``.  ``switches``
    leave out steps on purpose (``sandbox.machine.switches``).  The same image, seed and machine give the same run.
    Raises ConfigurationError for an unknown switch, and for an image that does not fit into RAM.
    """

    def __init__(
        self,
        machine: Machine,
        image: bytes,
        load: int = LOAD_ADDRESS,
        entry: int | None = None,
        *,
        switches: Iterable[str] = (),
        sink: Callable[[bytes], object] | None = None,
        seed: int = 0,
    ) -> None:
        self.machine = machine
        self.memory, self.bus = machine.memory, machine.bus
        self.switches = checked(switches)
        if not self.memory.is_ram(load, max(len(image), 1)):
            raise ConfigurationError(f"the image's {len(image)} bytes at {load:#x} do not fit into RAM")
        self.cpus = [BareCpu(cpu, Run.WAITING if cpu.index else Run.RUNNING) for cpu in machine.cpus]
        self.deliveries = 0
        self.traps = 0
        self.page_faults = 0
        self._stepper = breakage.Stepper(self.memory, self.switches)
        self._turns = Turns(self.cpus, seed, lambda each: self._wanted(each) is not None, self._switched)
        self._deadline = inf
        """The host's time at which a run is over."""
        self._changed_code = False
        self.after_instruction: Callable[[], object] | None = None
        """Called behind each; the machine then runs instruction by instruction."""
        self._ended: Outcome | None = None
        self.board = machine.board
        self.board.clock = lambda: self.clock
        self.board.dma_done = self._dma_done
        self.exit_port = ExitPort(self.board)
        self.serial = Serial(self.board, sink)
        self.card = Card(self.board)
        self.apics = LocalApics(self, len(self.cpus), "no-shootdown" not in self.switches)
        self.board.add_ports(EXIT_PORT, EXIT_PORT + 3, self.exit_port)
        self.board.add_ports(COM1, COM1 + 7, self.serial)
        self.board.add_window(CARD_ADDRESS, self.card)
        self.board.add_window(APIC_ADDRESS, self.apics)
        for each in self.cpus:
            each.cpu.port_gate = self._may_use_port
            each.cpu.time_stamp = lambda cpu: self.clock
        self.memory.host_write(load, image, Reason.IMAGE)
        first = self.cpus[0].cpu.context
        first.eax, first.eip = MULTIBOOT_MAGIC, load if entry is None else entry

    @property
    def clock(self) -> int:
        """Blocks executed by all CPUs."""
        return sum(each.cpu.clock for each in self.cpus)

    # -- running

    def run(self, limit: int = 0, seconds: float = 0.0) -> Outcome:
        """Run to an end, a breakpoint, or for ``limit`` blocks or about ``seconds`` of host time (0: without end).

        Host time is looked at after each exit of the engine, and ticks see to it that there is one.

        Raises NotModelled for what this machine does not have.
        """
        stop_at = self.clock + limit if limit else 0
        self._deadline = time.monotonic() + seconds if seconds else inf
        with ticking():
            while True:
                left = stop_at - self.clock if stop_at else TURN_BLOCKS
                if left <= 0:
                    return LimitReached(f"{limit} blocks")
                if self._is_late():
                    return LimitReached(f"{seconds:g} seconds")
                try:
                    outcome = self.turn(left)
                except _Late:
                    continue
                if outcome is not None:
                    return outcome

    def excuse(self, seconds: float) -> None:
        """So much host time was a person's, and does not count for the time limit."""
        self._deadline += seconds

    def look(self) -> None:
        """For a sink that waits for the host: ends the wait when the run's time is over."""
        if self._is_late():
            raise _Late

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def turn(self, limit: int = TURN_BLOCKS, steps: int | None = None) -> Outcome | None:
        """Let the CPU whose turn it is run on, for at most ``limit`` blocks (and ``steps`` instructions).

        How turns are cut into calls changes nothing in what the machine does.  Returns None when the turn, or this
        part of it, is over and the machine can go on.
        """
        each = self._ended is None and self._turns.present()
        if not each:
            return self._ended or Halted(tuple(each.cpu.context.eip for each in self.cpus))
        end = min(self._turns.end, each.cpu.clock + limit)
        while self._ended is None and each.state is Run.RUNNING and (left := end - each.cpu.clock) > 0:
            exit_ = self._go(each, left, steps)
            self._handle(each, exit_)
            if isinstance(exit_, BreakpointHit):
                return AtBreakpoint(each.cpu.index, exit_.eip)
            if isinstance(exit_, Watched):
                return AtWatch(each.cpu.index, exit_.eip)
            if isinstance(exit_, Stopped) and len(self.cpus) > 1:
                self._turns.end = each.cpu.clock
            if steps is not None or self._turns.end <= each.cpu.clock or self._is_late():
                break
        return self._ended

    def _switched(self, index: int, previous: int) -> None:
        if "no-code-drop" not in self.switches:
            self.cpus[index].cpu.drop_all_code()
        if self.bus.active:
            self.bus.emit(CpuSwitch(self.clock, index, previous))

    def _go(self, each: BareCpu, blocks: int, steps: int | None) -> Exit:
        """Run once, having delivered what waits.

        While an interrupt is held back by IF, a single instruction, so that the shortest window is seen; when that has
        lasted, some blocks, so that the guest gets on.
        """
        cpu = each.cpu
        if self.board.pending(cpu.index) is not None:
            shadow = cpu.context.interrupt_shadow and "no-interrupt-shadow" not in self.switches
            if self._wanted(each) is not None and not shadow:
                self._interrupt(each)
            elif shadow or (each.held < PATIENT_STEPS and not cpu.context.eflags & IF):
                steps = 1
                each.held += 1
            elif not cpu.context.eflags & IF:
                blocks = min(blocks, IMPATIENT_BLOCKS)
        if self._stepper.needed or self.after_instruction is not None:
            self._stepper.before(cpu)
            exit_ = cpu.run(blocks, 1)
            self._stepper.after(cpu)
            if self.after_instruction is not None:
                self.after_instruction()
            return exit_
        return cpu.run(blocks, steps)

    def _handle(self, each: BareCpu, exit_: Exit) -> None:
        cpu = each.cpu
        if isinstance(exit_, Trap):
            self._trap(each, exit_)
        elif isinstance(exit_, Halt):
            each.state = Run.HALTED
        elif isinstance(exit_, PortDenied):
            self._deliver(
                each, Interruption(int(Vector.GP), Source.EXCEPTION, exit_.eip, exit_.eip, 0, why="port denied")
            )
        elif isinstance(exit_, BusError):
            self._ended = NobodyAnswers(cpu.index, exit_.eip, exit_.physical, exit_.write, exit_.size)
        elif not isinstance(exit_, BlocksSpent | Paused | Stopped | Stepped | BreakpointHit | Watched):
            raise AssertionError(exit_)
        if self._changed_code:
            self._changed_code = False
            for other in self.cpus:
                if "no-code-drop" not in self.switches:
                    other.cpu.drop_all_code()
        if self.exit_port.status is not None:
            self._ended = Exited(self.exit_port.status)

    # -- traps and interrupts

    def _trap(self, each: BareCpu, trap: Trap) -> None:
        cpu = each.cpu
        self.traps += 1
        faulted = trap.vector == Vector.PF and not trap.software
        self.page_faults += faulted
        if self.bus.active:
            number = self.page_faults if faulted else 0
            seen = (trap.vector, trap.error_code, trap.address, trap.eip, trap.cpl, trap.software, number)
            self.bus.emit(TrapTaken(self.clock, cpu.index, *seen))
        if trap.software:
            restart = cpu.context.interrupt_start(trap.eip)
            what = Interruption(trap.vector, Source.SOFTWARE, trap.eip, restart)
        else:
            code = trap.error_code if has_error_code(trap.vector) else None
            what = Interruption(trap.vector, Source.EXCEPTION, trap.eip, trap.eip, code, trap.address)
        self._deliver(each, what)

    def _wanted(self, each: BareCpu) -> int | None:
        """The vector that the CPU would take now, if IF and its APIC let it."""
        vector = self.board.pending(each.cpu.index)
        if vector is None or not each.cpu.context.eflags & IF or not self.apics.admits(each.cpu.index, vector):
            return None
        return vector

    def _interrupt(self, each: BareCpu) -> None:
        index, eip = each.cpu.index, each.cpu.context.eip
        vector = self.board.acknowledge(index)
        self.apics.accepted(index, vector)
        each.held = 0
        self._deliver(each, Interruption(vector, Source.EXTERNAL, eip, eip))

    def _deliver(self, each: BareCpu, what: Interruption) -> None:
        cpu = each.cpu
        try:
            done = deliver(self.memory, cpu.context, what, self.switches)
        except Shutdown as shutdown:
            self._ended = TripleFault(cpu.index, shutdown.chain)
            return
        self.deliveries += 1
        cpu.context.resumes_at = -1
        if self.bus.active:
            self._tell(cpu, done)

    def _tell(self, cpu: Cpu, done: Delivered) -> None:
        last, state = done.chain[-1], cpu.context
        self.bus.emit(
            Delivery(
                self.clock,
                cpu.index,
                last.vector,
                last.source.value,
                last.error_code,
                done.from_cs,
                last.eip,
                state.segment("cs").selector,
                state.eip,
                done.from_cpl,
                done.to_cpl,
                state.esp,
            )
        )

    def _may_use_port(self, cpu: Cpu, port: int, size: int) -> bool:
        """IOPL, then the TSS's IO bitmap (SDM 1, 19.5); in virtual-8086 mode the bitmap alone."""
        if "no-port-check" in self.switches:
            return True
        state = cpu.context
        flags = state.eflags
        if not flags & VM and state.cpl <= (flags & IOPL) >> 12:
            return True
        task = state.segment("tr")
        system = SystemAccess(self.memory, state)
        try:
            return io_allowed(
                lambda offset, width: system.read(task.base + offset, width, "reading the IO bitmap"),
                task.limit,
                bool(task.flags >> 8 & 8),
                port,
                size,
            )
        except ProcessorFault:
            return False

    def _dma_done(self, physical: int, size: int) -> None:
        self._changed_code = True

    # -- what the local APICs ask for

    @property
    def accessing_cpu(self) -> int:
        """The CPU whose access is being answered."""
        return self._turns.current

    def post(self, cpu: int, vector: int) -> None:
        """Make a vector pending for a CPU."""
        self._tell_sent(cpu, "fixed", vector)
        self.board.post(cpu, vector)

    def _tell_sent(self, target: int, what: str, vector: int) -> None:
        if self.bus.active:
            self.bus.emit(InterProcessorInterrupt(self.clock, self._turns.current, target, what, vector))

    def waiting(self, cpu: int) -> set[int]:
        """The vectors pending for a CPU."""
        return self.board.waiting(cpu)

    def stop(self) -> None:
        """End the accessing CPU's turn soon."""
        self.board.stop()

    def initialise(self, cpu: int) -> None:
        """INIT: a CPU other than the sender waits for its start-up interrupt."""
        self._tell_sent(cpu, "init", 0)
        if cpu != self._turns.current:
            self.cpus[cpu].state = Run.WAITING

    def start_up(self, cpu: int, page: int) -> None:
        """A waiting CPU begins in real mode at CS = page << 8, IP = 0 (SDM 3A, 8.4.3)."""
        self._tell_sent(cpu, "start-up", page)
        self.cpus[cpu].start_up(page)
