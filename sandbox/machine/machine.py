"""A machine: physical memory, CPUs over it, devices, and the bus that events travel on."""

from __future__ import annotations

from sandbox.engine.cpu import Cpu
from sandbox.machine.board import Board
from sandbox.machine.devices.device import WindowDevice
from sandbox.machine.events import EventBus
from sandbox.machine.memory import OutsideRam, PhysicalMemory, pieces_without


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
        self.hole_device: WindowDevice | None = None
        """A card that would answer from 14 to 16 MB if the chipset let it."""

    def cover(self, physical: int, device: WindowDevice) -> None:
        """Let a device answer where RAM is: CPUs see the device, the RAM behind it is still there for the host.

        Raises OutsideRam when the window is not RAM throughout.
        """
        size = device.window_bytes
        if not self.memory.is_ram(physical, size):
            raise OutsideRam(physical, size, f"no place for {device.name}")
        for cpu in self.cpus:
            start, length, base = next(each for each in cpu.handle.ram if each[0] <= physical < each[0] + each[1])
            cpu.unmap_ram(start, length)
            for piece, left, offset in pieces_without([(start, length, 0)], physical, size):
                cpu.map_ram(piece, left, base + offset)
        self.board.cover_window(physical, device)
        for cpu in self.cpus:
            cpu.flush_tlb()
            cpu.drop_all_code()

    def open_hole(self, physical: int, device: WindowDevice) -> None:
        """The chipset gives a range to the bus for good: a device answers there, and the range is RAM no more."""
        self.cover(physical, device)
        self.memory.cut(physical, device.window_bytes)

    def close(self) -> None:
        """Release the engine's handles; the memory goes when nobody looks at it any more."""
        for cpu in self.cpus:
            cpu.close()
            self.memory.unmapped_from(cpu)
