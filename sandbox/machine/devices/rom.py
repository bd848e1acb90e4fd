"""Read-only memory in a physical window: an adapter's or a BIOS's.

It holds data; the engine fetches no code from a device's window.  What is to be executed is loaded into RAM.
"""

from __future__ import annotations

from sandbox.machine.devices.device import all_ones
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.paging import PAGE_SIZE

ADAPTER_UNIT = 512


class Rom:
    """Bytes that can be read; what is behind them reads as 0xFF, and writes are counted and lost."""

    def __init__(self, content: bytes, name: str = "rom") -> None:
        if not content:
            raise ConfigurationError(f"{name}: a ROM without content")
        self.name = name
        self.window_bytes = -(-len(content) // PAGE_SIZE) * PAGE_SIZE
        self._content = content + b"\xff" * (self.window_bytes - len(content))
        self.writes = 0

    def read_window(self, offset: int, size: int) -> int:
        if offset + size > self.window_bytes:
            return all_ones(size)
        return int.from_bytes(self._content[offset : offset + size], "little")

    def write_window(self, offset: int, size: int, value: int) -> None:
        self.writes += 1


def adapter_rom(content: bytes) -> Rom:
    """A ROM as a PC's BIOS looks for it from 0xC0000 on: 55 AA, its length in 512 bytes, sum of bytes zero."""
    units = -(-(len(content) + 4) // ADAPTER_UNIT)
    if units > 255:
        raise ConfigurationError(f"{len(content)} bytes are too much for an adapter ROM")
    body = bytes((0x55, 0xAA, units)) + content
    body += bytes(units * ADAPTER_UNIT - len(body) - 1)
    return Rom(body + bytes((-sum(body) & 0xFF,)), "adapter")
