"""An ISA card's shared memory: plain bytes behind a window, the first of which say who answers.

Two places are usual: below 1 MB, where the CPU never has RAM, and the hole from 14 to 16 MB, which a chipset gives
either to RAM or to the bus.
"""

from __future__ import annotations

ISA_ADDRESS, ISA_BYTES = 0xD0000, 16 << 10
HOLE_ADDRESS, HOLE_BYTES = 14 << 20, 2 << 20
SIGNATURE = b"ISA CARD"


class IsaMemory:
    """Memory of ``size`` bytes that begins with SIGNATURE, which stores do not change."""

    def __init__(self, name: str = "isa", size: int = ISA_BYTES) -> None:
        self.name = name
        self.window_bytes = size
        self.memory = bytearray(SIGNATURE.ljust(size, b"\0"))

    def read_window(self, offset: int, size: int) -> int:
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def write_window(self, offset: int, size: int, value: int) -> None:
        data = value.to_bytes(size, "little")
        kept = max(0, min(size, len(SIGNATURE) - offset))
        self.memory[offset + kept : offset + size] = data[kept:]
