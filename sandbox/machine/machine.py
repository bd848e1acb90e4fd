"""A machine: physical memory, CPUs over it, devices, and the bus that events travel on."""

from __future__ import annotations

from sandbox.engine.cpu import Cpu
from sandbox.machine.events import EventBus
from sandbox.machine.memory import PhysicalMemory


def _empty_port(port: int, size: int) -> int:
    """What IN reads where nothing is connected (``size`` bytes): all ones."""
    return (1 << 8 * size) - 1


def _ignore(port: int, size: int, value: int) -> None:
    """OUT to a port where nothing is connected."""


class Machine:
    """1 to 8 CPUs over one physical memory, each with its own TLB."""

    def __init__(self, ram: int, cpus: int = 1, holes: tuple[tuple[int, int], ...] = ()) -> None:
        self.memory = PhysicalMemory(ram, holes)
        self.bus = EventBus()
        self.cpus = [Cpu(index) for index in range(cpus)]
        for cpu in self.cpus:
            self.memory.map_into(cpu)
            cpu.connect_ports(_empty_port, _ignore)

    def close(self) -> None:
        """Release the engine's handles; the memory goes when nobody looks at it any more."""
        for cpu in self.cpus:
            cpu.close()
            self.memory.unmapped_from(cpu)
