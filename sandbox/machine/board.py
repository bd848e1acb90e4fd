"""The board: what devices and CPUs plug into.  It is every device's ``Host``.

Interrupts are vectors, as an interrupt controller that was set up hands them to a CPU: a device is told its
vector and asks for it; pending vectors are kept by CPU, once each; the highest comes first, as on an APIC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sandbox.machine.devices.device import PortDevice, WindowDevice
from sandbox.machine.events import DeviceInterrupt, DmaTransfer, EventBus, MmioAccess, PortAccess
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.machine.ports import PortBus
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.paging import PAGE_SIZE


class BoardCpu(Protocol):
    """What the board needs of a CPU."""

    index: int

    def connect_ports(self, read: Callable[[int, int], int], write: Callable[[int, int, int], None]) -> None: ...

    def map_mmio(
        self,
        physical: int,
        size: int,
        read: Callable[[int, int], int],
        write: Callable[[int, int, int], None],
    ) -> None: ...

    def stop(self) -> None: ...


class Board:
    """Devices, their addresses, and the interrupts that they have asked for.

    Devices and CPUs may come in any order.  ``clock`` gives the time of events.  ``dma_done`` is
    called after a device has stored into RAM, with physical address and size, while the CPU is still inside its
    access: whoever keeps translations of code remembers the range and drops them when the CPU is back.
    """

    def __init__(self, memory: PhysicalMemory, bus: EventBus) -> None:
        self.memory = memory
        self.bus = bus
        self.ports = PortBus()
        self.windows: list[tuple[int, WindowDevice]] = []
        self._cpus: list[BoardCpu] = []
        self.clock: Callable[[], int] = lambda: 0
        self.dma_done: Callable[[int, int], None] = lambda physical, size: None
        self.interrupt_cpu = 0
        """The CPU that devices' interrupts go to."""
        self.asked = False
        """A vector has been made pending since who answers them last looked."""
        self._pending: dict[int, set[int]] = {}
        self._accessing: BoardCpu | None = None

    # -- plugging in

    def add_ports(self, first: int, last: int, device: PortDevice) -> None:
        """Let a device answer at ports [first, last].  Raises ConfigurationError when one is taken."""
        self.ports.register(first, last, device)

    def add_window(self, physical: int, device: WindowDevice) -> None:
        """Let a device answer from a physical address on.

        Raises ConfigurationError for an unaligned window, and for one that meets RAM or another device.
        """
        size = device.window_bytes
        if physical % PAGE_SIZE or size % PAGE_SIZE or size <= 0:
            raise ConfigurationError(f"{device.name}: a window of {size:#x} bytes at {physical:#x} is not whole pages")
        taken = [(start, length, "RAM") for start, length, _ in self.memory.ranges]
        taken += [(start, each.window_bytes, each.name) for start, each in self.windows]
        for start, length, who in taken:
            if start < physical + size and physical < start + length:
                raise ConfigurationError(f"{device.name}: {physical:#x}-{physical + size - 1:#x} meets {who}")
        self.cover_window(physical, device)

    def cover_window(self, physical: int, device: WindowDevice) -> None:
        """The same where RAM was: the CPUs must have given it up."""
        self.windows.append((physical, device))
        for cpu in self._cpus:
            self._open_window(cpu, physical, device)

    def connect(self, cpu: BoardCpu) -> None:
        """Let a CPU reach every device, those that are plugged in later too."""
        self._cpus.append(cpu)
        cpu.connect_ports(self._port_reader(cpu), self._port_writer(cpu))
        for physical, device in self.windows:
            self._open_window(cpu, physical, device)

    # -- interrupts

    def post(self, cpu: int, vector: int) -> None:
        """Make a vector pending for a CPU."""
        self._pending.setdefault(cpu, set()).add(vector)
        self.asked = True

    def pending(self, cpu: int) -> int | None:
        """The vector that the CPU shall take next, or None."""
        waiting = self._pending.get(cpu)
        return max(waiting) if waiting else None

    def waiting(self, cpu: int) -> set[int]:
        """All vectors that are pending for a CPU."""
        return set(self._pending.get(cpu, ()))

    def acknowledge(self, cpu: int) -> int:
        """Take the vector that ``pending`` told of."""
        waiting = self._pending[cpu]
        vector = max(waiting)
        waiting.discard(vector)
        return vector

    # -- what devices ask for

    def request_interrupt(self, vector: int, device: str) -> None:
        """Make a vector pending for the CPU of devices, and bring the accessing CPU back to look."""
        if self.bus.active:
            self.bus.emit(DeviceInterrupt(self.clock(), self.interrupt_cpu, vector, device))
        self.post(self.interrupt_cpu, vector)
        self.stop()

    def dma_write(self, physical: int, data: bytes, device: str) -> bool:
        """Store for a device; False when the range is not RAM throughout."""
        if not self.memory.is_ram(physical, len(data)):
            return False
        self.memory.host_write(physical, data, Reason.DMA)
        if self.bus.active:
            cpu = self._accessing.index if self._accessing else 0
            self.bus.emit(DmaTransfer(self.clock(), cpu, physical, len(data), device))
        self.dma_done(physical, len(data))
        self.stop()
        return True

    def dma_read(self, physical: int, size: int, device: str) -> bytes | None:
        """Load for a device; None when the range is not RAM throughout."""
        return self.memory.read(physical, size) if self.memory.is_ram(physical, size) else None

    def stop(self) -> None:
        """Bring back the CPU whose access is being answered, at the end of its present block."""
        if self._accessing is not None:
            self._accessing.stop()

    # -- answering

    def _port_reader(self, cpu: BoardCpu) -> Callable[[int, int], int]:
        def read(port: int, size: int) -> int:
            self._accessing = cpu
            value = self.ports.read(port, size)
            self._accessing = None
            self._tell_port(cpu, port, size, False, value)
            return value

        return read

    def _port_writer(self, cpu: BoardCpu) -> Callable[[int, int, int], None]:
        def write(port: int, size: int, value: int) -> None:
            self._tell_port(cpu, port, size, True, value)
            self._accessing = cpu
            self.ports.write(port, size, value)
            self._accessing = None

        return write

    def _open_window(self, cpu: BoardCpu, physical: int, device: WindowDevice) -> None:
        read, write = self._window_reader(cpu, physical, device), self._window_writer(cpu, physical, device)
        cpu.map_mmio(physical, device.window_bytes, read, write)

    def _window_reader(self, cpu: BoardCpu, physical: int, device: WindowDevice) -> Callable[[int, int], int]:
        def read(offset: int, size: int) -> int:
            self._accessing = cpu
            value = device.read_window(offset, size)
            self._accessing = None
            if self.bus.active:
                at = physical + offset
                self.bus.emit(MmioAccess(self.clock(), cpu.index, at, size, False, value, device.name))
            return value

        return read

    def _window_writer(self, cpu: BoardCpu, physical: int, device: WindowDevice) -> Callable[[int, int, int], None]:
        def write(offset: int, size: int, value: int) -> None:
            if self.bus.active:
                at = physical + offset
                self.bus.emit(MmioAccess(self.clock(), cpu.index, at, size, True, value, device.name))
            self._accessing = cpu
            device.write_window(offset, size, value)
            self._accessing = None

        return write

    def _tell_port(self, cpu: BoardCpu, port: int, size: int, write: bool, value: int) -> None:
        if self.bus.active:
            name = self.ports.name_at(port)
            self.bus.emit(PortAccess(self.clock(), cpu.index, port, size, write, value, name))
