"""Local APICs at 0xFEE00000: enough of them for processors to find, start and interrupt each other.

Each CPU sees its own registers in the same window (SDM 3A, 10.4)::

    +0x020 ID        r    CPU index in bits 24-31        +0x0F0 SVR    bit 8 enables
    +0x030 VERSION   r                                   +0x100-170 ISR, +0x200-270 IRR   r
    +0x080 TPR       rw   kept and obeyed                +0x300 ICR    w: sends
    +0x0B0 EOI       w                                   +0x310 ICR    destination in bits 24-31

Fixed interrupts, INIT and start-up (SIPI) are sent, to one CPU, self, all, or all others.  Timer, local vectors,
logical destinations and other delivery modes are not there: such registers keep what is written.  While SVR is not
enabled, vectors pass without regard to TPR and EOI, so that a guest may leave the APIC alone.
"""

from __future__ import annotations

from typing import Protocol

from sandbox.x86.paging import PAGE_SIZE

APIC_ADDRESS = 0xFEE00000
ID, VERSION, TPR, EOI, SVR, ISR, IRR, ICR_LOW, ICR_HIGH = (
    0x20, 0x30, 0x80, 0xB0, 0xF0, 0x100, 0x200, 0x300, 0x310,
)  # fmt: skip
VERSION_VALUE = 0x00050014
SVR_ENABLE = 1 << 8
FIXED, INIT, STARTUP = 0, 5, 6
LEVEL_ASSERT, TRIGGER_LEVEL = 1 << 14, 1 << 15
BROADCAST = 0xFF


class Processors(Protocol):
    """What the APICs work on."""

    @property
    def accessing_cpu(self) -> int:
        """The CPU whose access is being answered."""

    def post(self, cpu: int, vector: int) -> None:
        """Make a vector pending."""

    def waiting(self, cpu: int) -> set[int]:
        """The vectors that are pending."""

    def initialise(self, cpu: int) -> None:
        """Bring a CPU into wait-for-SIPI."""

    def start_up(self, cpu: int, page: int) -> None:
        """Let a waiting CPU begin in real mode at the start of a page below 1 MB."""

    def stop(self) -> None:
        """End the accessing CPU's turn soon."""


class LocalApics:
    """The local APICs of all CPUs.  ``connected`` False loses fixed interrupts to other CPUs."""

    name = "local apic"
    window_bytes = PAGE_SIZE

    def __init__(self, processors: Processors, cpus: int, connected: bool = True) -> None:
        self._processors = processors
        self._connected = connected
        self._registers: list[dict[int, int]] = [{SVR: 0xFF} for _ in range(cpus)]
        self._in_service: list[list[int]] = [[] for _ in range(cpus)]
        self.sent = 0
        """Interrupts sent from one CPU to another."""

    # -- what delivery asks

    def admits(self, cpu: int, vector: int) -> bool:
        """The vector's class is above the task priority and everything in service."""
        registers = self._registers[cpu]
        if not registers[SVR] & SVR_ENABLE:
            return True
        return vector >> 4 > max(registers.get(TPR, 0) >> 4 & 15, *(each >> 4 for each in self._in_service[cpu]), 0)

    def accepted(self, cpu: int, vector: int) -> None:
        """The vector is being delivered: it is in service until EOI."""
        if self._registers[cpu][SVR] & SVR_ENABLE:
            self._in_service[cpu].append(vector)

    # -- the window

    def read_window(self, offset: int, size: int) -> int:
        cpu, register = self._processors.accessing_cpu, offset & ~15
        if offset & 15 or size != 4:
            return 0
        match register:
            case 0x20:
                return cpu << 24
            case 0x30:
                return VERSION_VALUE
            case _ if ISR <= register < ISR + 0x80:
                return _bits(self._in_service[cpu], register - ISR)
            case _ if IRR <= register < IRR + 0x80:
                return _bits(self._processors.waiting(cpu), register - IRR)
            case _:
                return self._registers[cpu].get(register, 0)

    def write_window(self, offset: int, size: int, value: int) -> None:
        cpu = self._processors.accessing_cpu
        if offset & 15 or size != 4 or offset in (ID, VERSION):
            return
        if offset == EOI:
            if self._in_service[cpu]:
                self._in_service[cpu].remove(max(self._in_service[cpu]))
            self._processors.stop()
            return
        self._registers[cpu][offset] = value
        if offset == ICR_LOW:
            self._send(cpu, value)
        elif offset == TPR:
            self._processors.stop()

    def _send(self, sender: int, command: int) -> None:
        everyone = range(len(self._registers))
        match command >> 18 & 3:
            case 0:
                to = self._registers[sender].get(ICR_HIGH, 0) >> 24
                targets = [each for each in everyone if to in (each, BROADCAST)]
            case 1:
                targets = [sender]
            case 2:
                targets = list(everyone)
            case _:
                targets = [each for each in everyone if each != sender]
        mode, vector = command >> 8 & 7, command & 0xFF
        for cpu in targets:
            if mode == INIT and (command & LEVEL_ASSERT or not command & TRIGGER_LEVEL):
                self._registers[cpu], self._in_service[cpu] = {SVR: 0xFF}, []
                self._processors.initialise(cpu)
            elif mode == STARTUP:
                self._processors.start_up(cpu, vector)
            elif mode == FIXED and vector >= 16 and (self._connected or cpu == sender):
                self.sent += cpu != sender
                self._processors.post(cpu, vector)
        self._processors.stop()


def _bits(vectors: set[int] | list[int], offset: int) -> int:
    """The 32 vectors that a register at an offset into ISR or IRR stands for."""
    first = offset // 16 * 32
    return sum(1 << vector - first for vector in set(vectors) if first <= vector < first + 32)
