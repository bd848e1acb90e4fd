"""Addresses of the ISA bus where no card is: loads read ones, stores are lost, as on a PC's pulled-up bus."""

from __future__ import annotations

from sandbox.machine.devices.device import all_ones


class OpenBus:
    """``size`` bytes of nothing."""

    name = "open bus"

    def __init__(self, size: int) -> None:
        self.window_bytes = size

    def read_window(self, offset: int, size: int) -> int:
        return all_ones(size)

    def write_window(self, offset: int, size: int, value: int) -> None:
        """Nobody takes it."""
