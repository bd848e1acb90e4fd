"""A board that writes down what a device asks for."""

from __future__ import annotations


class FakeHost:
    """RAM is the 64 KB from 1 MB on."""

    def __init__(self) -> None:
        self.interrupts: list[int] = []
        self.stops = 0
        self.ram = bytearray(0x10000)

    def request_interrupt(self, vector: int, device: str) -> None:
        self.interrupts.append(vector)

    def dma_write(self, physical: int, data: bytes, device: str) -> bool:
        at = physical - 0x100000
        if at < 0 or at + len(data) > len(self.ram):
            return False
        self.ram[at : at + len(data)] = data
        return True

    def dma_read(self, physical: int, size: int, device: str) -> bytes | None:
        at = physical - 0x100000
        return bytes(self.ram[at : at + size]) if at >= 0 and at + size <= len(self.ram) else None

    def stop(self) -> None:
        self.stops += 1
