"""The port bus: 65,536 ports, and who answers at them.

A port that nobody claimed reads as ones and loses what is written, as on hardware.  An access that is wider than its
device, or that runs past its device's last port, is cut into smaller ones, lowest port first.
"""

from __future__ import annotations

from sandbox.machine.devices.device import PortDevice, all_ones
from sandbox.x86.errors import ConfigurationError

PORTS = 1 << 16


class PortBus:
    """Who answers where."""

    def __init__(self) -> None:
        self._devices: dict[int, tuple[PortDevice, int, int]] = {}
        self._named: list[tuple[int, int, PortDevice]] = []

    @property
    def devices(self) -> list[tuple[int, int, PortDevice]]:
        """(first port, last port, device), by port."""
        return sorted(self._named, key=lambda entry: entry[0])

    def register(self, first: int, last: int, device: PortDevice) -> None:
        """Let a device answer at [first, last].  Raises ConfigurationError when a port is taken or is none."""
        if not 0 <= first <= last < PORTS:
            raise ConfigurationError(f"{device.name}: ports {first:#x}-{last:#x} do not exist")
        for port in range(first, last + 1):
            if port in self._devices:
                raise ConfigurationError(f"{device.name}: port {port:#x} is {self._devices[port][0].name}'s")
        self._devices.update(dict.fromkeys(range(first, last + 1), (device, first, last)))
        self._named.append((first, last, device))

    def name_at(self, port: int) -> str:
        """The name of the device at a port, or nothing."""
        found = self._devices.get(port)
        return found[0].name if found else ""

    def read(self, port: int, size: int) -> int:
        """IN of 1, 2 or 4 bytes."""
        found = self._devices.get(port)
        if found is not None:
            device, first, last = found
            if size <= device.port_width and port + size - 1 <= last:
                return device.read_port(port - first, size) & all_ones(size)
        if size == 1:
            return 0xFF
        half = size // 2
        return self.read(port, half) | self.read(port + half & PORTS - 1, half) << 8 * half

    def write(self, port: int, size: int, value: int) -> None:
        """OUT of 1, 2 or 4 bytes."""
        found = self._devices.get(port)
        if found is not None:
            device, first, last = found
            if size <= device.port_width and port + size - 1 <= last:
                device.write_port(port - first, size, value & all_ones(size))
                return
        if size > 1:
            half = size // 2
            self.write(port, half, value & all_ones(half))
            self.write(port + half & PORTS - 1, half, value >> 8 * half)
