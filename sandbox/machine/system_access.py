"""System accesses: those that the processor makes by itself, through the guest's own page tables.

Descriptor tables, the TSS and pushed frames are read and written at linear addresses with supervisor rights, whatever
the CPL (SDM 3A, 4.6.1), but for pushes onto the stack of a ring-3 handler.  The tables are walked afresh each time: a
translation that a real CPU might still hold is not used.
"""

from __future__ import annotations

from sandbox.engine.context import CpuContext
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.paging import PAGE_SIZE
from sandbox.x86.vectors import Vector
from sandbox.x86.walk import PDPTES_IN_MEMORY, Access, walk

_ADDRESS_MASK = 0xFFFFFFFF


class ProcessorFault(Exception):
    """An exception raised by something that the processor did by itself; ``why`` is one line for people.

    ``address`` is linear, for a page fault; ``error_code`` is without the EXT bit.
    """

    def __init__(self, vector: Vector, error_code: int, why: str, address: int = 0) -> None:
        super().__init__(f"#{vector.name}({error_code:#x}): {why}")
        self.vector = vector
        self.error_code = error_code
        self.why = why
        self.address = address


class SystemAccess:
    """Linear memory as a CPU in a saved state sees it by itself; it sets A and D bits on the way."""

    def __init__(self, memory: PhysicalMemory, context: CpuContext, sets_accessed: bool = True) -> None:
        self._memory = memory
        self._sets_accessed = sets_accessed
        self._cr0, self._cr3, self._cr4 = context.cr0, context.cr3, context.cr4
        self._efer = context.efer

    def translate(self, linear: int, write: bool, user: bool, what: str) -> int:
        """The physical address.  Raises ProcessorFault with #PF; ``what`` says what the access was for."""
        found = walk(
            self._memory.read_entry,
            self._cr3,
            linear,
            Access(write=write, user=user),
            cr0=self._cr0,
            cr4=self._cr4,
            efer=self._efer,
            profile=PDPTES_IN_MEMORY,
        )
        if found.physical is None:
            why = f"{what} at {linear:#010x}: {found.reason.value}"
            raise ProcessorFault(Vector.PF, found.error_code or 0, why, linear)
        if self._sets_accessed and found.format is not None:
            for physical, entry in found.updates:
                if self._memory.is_ram(physical, found.format.entry_size):
                    data = entry.to_bytes(found.format.entry_size, "little")
                    self._memory.host_write(physical, data, Reason.PROCESSOR)
        return found.physical

    def read(self, linear: int, size: int, what: str) -> int:
        """The little-endian number at a linear address, with supervisor rights.  Raises ProcessorFault."""
        data = b""
        for at, length in _pages(linear, size):
            physical = self.translate(at, False, False, what)
            if self._memory.is_ram(physical, length):
                data += self._memory.read(physical, length)
            else:
                data += b"\xff" * length
        return int.from_bytes(data, "little")

    def write(self, linear: int, size: int, value: int, what: str, user: bool = False) -> None:
        """Store a little-endian number; nothing is stored when a part of it faults.  Raises ProcessorFault."""
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        pieces = [(self.translate(at, True, user, what), length) for at, length in _pages(linear, size)]
        for physical, length in pieces:
            if self._memory.is_ram(physical, length):
                self._memory.host_write(physical, data[:length], Reason.PROCESSOR)
            data = data[length:]


def _pages(linear: int, size: int) -> list[tuple[int, int]]:
    """The pieces (linear address, bytes) of an access, none crossing a page."""
    pieces = []
    while size > 0:
        linear &= _ADDRESS_MASK
        length = min(size, PAGE_SIZE - linear % PAGE_SIZE)
        pieces.append((linear, length))
        linear += length
        size -= length
    return pieces
