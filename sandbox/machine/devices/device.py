"""What a device is to its board, and what the board is to a device."""

from __future__ import annotations

from typing import Protocol


class Host(Protocol):
    """What a device may ask for while it answers an access."""

    def request_interrupt(self, vector: int, device: str) -> None:
        """Raise an interrupt line; it is delivered when the CPU next looks, not during the access."""

    def dma_write(self, physical: int, data: bytes, device: str) -> bool:
        """Store into RAM; False, and nothing stored, when the range is not RAM throughout."""

    def dma_read(self, physical: int, size: int, device: str) -> bytes | None:
        """Bytes of RAM, or None when the range is not RAM throughout."""

    def stop(self) -> None:
        """Bring the running CPU back at the end of its present block."""


class PortDevice(Protocol):
    """A device on the port bus.  ``offset`` counts from the first port that it was registered at."""

    name: str
    port_width: int
    """Bytes that it takes at once; the bus cuts wider accesses into this many, upwards, as ISA does."""

    def read_port(self, offset: int, size: int) -> int: ...

    def write_port(self, offset: int, size: int, value: int) -> None: ...


class WindowDevice(Protocol):
    """A device that answers ``window_bytes`` of physical addresses, a multiple of the page size."""

    name: str
    window_bytes: int

    def read_window(self, offset: int, size: int) -> int: ...

    def write_window(self, offset: int, size: int, value: int) -> None: ...


def all_ones(size: int) -> int:
    """What a bus reads where nobody drives it: ``size`` bytes of 0xFF."""
    return (1 << 8 * size) - 1
