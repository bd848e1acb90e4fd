"""A machine: physical memory, CPUs over it, devices, and the bus that events travel on."""

from __future__ import annotations

from sandbox.engine.cpu import Cpu
from sandbox.machine.board import Board
from sandbox.machine.events import EventBus
from sandbox.machine.memory import PhysicalMemory


class Machine:
    """1 to 8 CPUs over one physical memory, each with its own TLB; devices are plugged into ``board``."""

    def __init__(self, ram: int, cpus: int = 1, holes: tuple[tuple[int, int], ...] = ()) -> None:
        self.memory = PhysicalMemory(ram, holes)
        self.bus = EventBus()
        self.board = Board(self.memory, self.bus)
        self.cpus = [Cpu(index) for index in range(cpus)]
        for cpu in self.cpus:
            self.memory.map_into(cpu)
            self.board.connect(cpu)

    def close(self) -> None:
        """Release the engine's handles; the memory goes when nobody looks at it any more."""
        for cpu in self.cpus:
            cpu.close()
            self.memory.unmapped_from(cpu)
