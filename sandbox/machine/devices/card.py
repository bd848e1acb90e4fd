"""A memory-mapped card: something for vremap, memcpy_fromio and DMA to meet.  Usually at 0x80000000.

The window is 2 MB.  Registers, 32 bits each, in its first page::

    +0x00  ID         r   0x44524143, "CARD"
    +0x04  VERSION    r   1
    +0x08  SIZE       r   bytes of card memory, 0x100000
    +0x0C  STATUS     r/c bit 0 a command is done, bit 1 it was refused; writing a one clears the bit
    +0x10  VECTOR     rw  interrupt vector, 0 for none
    +0x14  DOORBELL   w   asks for an interrupt; any value
    +0x18  RUNG       r   the value written to DOORBELL last
    +0x1C  RINGS      r   how often it was written
    +0x20  ADDRESS    rw  physical address of a transfer, low half
    +0x24  ADDRESS_HI rw  high half
    +0x28  LENGTH     rw  bytes
    +0x2C  PATTERN    rw  what FILL stores, a 32-bit word repeated (the last one cut)
    +0x30  OFFSET     rw  where in card memory STORE and LOAD begin
    +0x34  COMMAND    w   1 FILL, 2 STORE (card to RAM), 3 LOAD (RAM to card); plus 0x100: interrupt when done

Card memory is at +0x100000 and takes accesses of every size.  Registers take aligned 32-bit stores, and loads of
any size inside one register.  All else is unanswered: it reads as ones, loses stores, and is recorded.

DMA is an ISA card's: ``reach`` bounds the physical address (24 address lines), and a transfer may not cross a
64 KB boundary.  On PCI a bus master has 32 lines, and no boundary.  A transfer that breaks either rule, or meets
something that is not RAM, is refused and moves nothing.
"""

from __future__ import annotations

from sandbox.machine.devices.device import Host, all_ones

CARD_ADDRESS, PCI_CARD_ADDRESS = 0x80000000, 0xA0000000
WINDOW_BYTES, MEMORY_START, MEMORY_BYTES = 0x200000, 0x100000, 0x100000
ID, VERSION = 0x44524143, 1
(
    REG_ID, REG_VERSION, REG_SIZE, REG_STATUS, REG_VECTOR, REG_DOORBELL, REG_RUNG, REG_RINGS, REG_ADDRESS,
    REG_ADDRESS_HI, REG_LENGTH, REG_PATTERN, REG_OFFSET, REG_COMMAND,
) = range(0, 0x38, 4)  # fmt: skip
STATUS_DONE, STATUS_REFUSED = 1, 2
COMMAND_FILL, COMMAND_STORE, COMMAND_LOAD, COMMAND_INTERRUPT = 1, 2, 3, 0x100
ISA_REACH, ISA_BOUNDARY, PCI_REACH = 1 << 24, 1 << 16, 1 << 32
_KEPT = frozenset((REG_VECTOR, REG_ADDRESS, REG_ADDRESS_HI, REG_LENGTH, REG_PATTERN, REG_OFFSET))
_REMEMBERED = 64


class Card:
    """The card; ``memory`` is its own megabyte, ``unanswered`` the first accesses that met nothing."""

    name = "card"
    window_bytes = WINDOW_BYTES

    def __init__(self, host: Host, reach: int = ISA_REACH, boundary: int = ISA_BOUNDARY) -> None:
        self._host = host
        self._reach = reach
        self._boundary = boundary
        self.memory = bytearray(MEMORY_BYTES)
        self.registers = dict.fromkeys(range(0, 0x38, 4), 0)
        self.registers.update({REG_ID: ID, REG_VERSION: VERSION, REG_SIZE: MEMORY_BYTES})
        self.unanswered: list[tuple[int, int, bool]] = []
        """(offset, size, write)"""

    def read_window(self, offset: int, size: int) -> int:
        at = offset - MEMORY_START
        if 0 <= at <= MEMORY_BYTES - size:
            return int.from_bytes(self.memory[at : at + size], "little")
        value = self.registers.get(offset & ~3)
        if value is None or (offset & 3) + size > 4:
            return self._missed(offset, size, False)
        return value >> 8 * (offset & 3) & all_ones(size)

    def write_window(self, offset: int, size: int, value: int) -> None:
        at = offset - MEMORY_START
        if 0 <= at <= MEMORY_BYTES - size:
            self.memory[at : at + size] = value.to_bytes(size, "little")
        elif size != 4 or offset not in self.registers:
            self._missed(offset, size, True)
        elif offset in _KEPT:
            self.registers[offset] = value
        elif offset == REG_STATUS:
            self.registers[offset] &= ~value
        elif offset == REG_DOORBELL:
            self.registers[REG_RUNG] = value
            self.registers[REG_RINGS] += 1
            self._interrupt()
        elif offset == REG_COMMAND:
            self._command(value)
        else:
            self._missed(offset, size, True)

    def _missed(self, offset: int, size: int, write: bool) -> int:
        if len(self.unanswered) < _REMEMBERED:
            self.unanswered.append((offset, size, write))
        return all_ones(size)

    def _interrupt(self) -> None:
        if vector := self.registers[REG_VECTOR] & 0xFF:
            self._host.request_interrupt(vector, self.name)

    def _command(self, command: int) -> None:
        self.registers[REG_STATUS] |= STATUS_DONE | (0 if self._transfer(command & 0xFF) else STATUS_REFUSED)
        if command & COMMAND_INTERRUPT:
            self._interrupt()

    def _transfer(self, command: int) -> bool:
        """Move the bytes; False when the command is unknown or its range is out of bounds."""
        registers = self.registers
        address = registers[REG_ADDRESS] | registers[REG_ADDRESS_HI] << 32
        length, offset = registers[REG_LENGTH], registers[REG_OFFSET]
        last = address + length - 1
        if not length or last >= self._reach or address // self._boundary != last // self._boundary:
            return False
        if command == COMMAND_FILL:
            pattern = registers[REG_PATTERN].to_bytes(4, "little")
            return self._host.dma_write(address, (pattern * (length // 4 + 1))[:length], self.name)
        if offset + length > MEMORY_BYTES:
            return False
        if command == COMMAND_STORE:
            return self._host.dma_write(address, bytes(self.memory[offset : offset + length]), self.name)
        if command == COMMAND_LOAD:
            data = self._host.dma_read(address, length, self.name)
            if data is not None:
                self.memory[offset : offset + length] = data
            return data is not None
        return False
