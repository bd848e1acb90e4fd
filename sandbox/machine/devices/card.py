"""A memory-mapped card: something for vremap, memcpy_fromio and DMA to meet.  Usually at 0x80000000.

The window is 2 MB.  Registers, 32 bits each, in its first page::

    +0x00  ID         r   0x44524143, "CARD"
    +0x04  VERSION    r   1
    +0x08  SIZE       r   bytes of card memory, 0x100000
    +0x0C  STATUS     r/c bit 0 a command is done, bit 1 it was refused; writing a one clears the bit; bit 2 one is
                          under way
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
    +0x38  BURST      rw  bytes that move at once; 0, as at reset, for all of a transfer

Card memory is at +0x100000 and takes accesses of every size.  Registers take aligned 32-bit stores, and loads of
any size inside one register.  All else is unanswered: it reads as ones, loses stores, and is recorded.

DMA is an ISA card's: ``reach`` bounds the physical address (24 address lines), and a transfer may not cross a
64 KB boundary.  On PCI a bus master has 32 lines, and no boundary.  A transfer that breaks either rule, or meets
something that is not RAM, is refused and moves nothing.

With BURST a transfer takes time: the command begins it, and each load of STATUS lets one burst more go over the bus.
Until it is done the registers may be changed, but every other command is refused.
"""

from __future__ import annotations

from sandbox.machine.devices.device import Host, all_ones
from sandbox.records import dataclass

CARD_ADDRESS, PCI_CARD_ADDRESS = 0x80000000, 0xA0000000
WINDOW_BYTES, MEMORY_START, MEMORY_BYTES = 0x200000, 0x100000, 0x100000
ID, VERSION = 0x44524143, 1
(
    REG_ID, REG_VERSION, REG_SIZE, REG_STATUS, REG_VECTOR, REG_DOORBELL, REG_RUNG, REG_RINGS, REG_ADDRESS,
    REG_ADDRESS_HI, REG_LENGTH, REG_PATTERN, REG_OFFSET, REG_COMMAND, REG_BURST,
) = range(0, 0x3C, 4)  # fmt: skip
STATUS_DONE, STATUS_REFUSED, STATUS_BUSY = 1, 2, 4
COMMAND_FILL, COMMAND_STORE, COMMAND_LOAD, COMMAND_INTERRUPT = 1, 2, 3, 0x100
ISA_REACH, ISA_BOUNDARY, PCI_REACH = 1 << 24, 1 << 16, 1 << 32
_KEPT = frozenset((REG_VECTOR, REG_ADDRESS, REG_ADDRESS_HI, REG_LENGTH, REG_PATTERN, REG_OFFSET, REG_BURST))
_REMEMBERED = 64


@dataclass(slots=True)
class Transfer:
    """A command as it was when it was given: physical address, bytes, place in card memory; ``done`` bytes are over."""

    command: int
    address: int
    length: int
    offset: int
    pattern: bytes
    done: int = 0


class Card:
    """The card; ``memory`` is its own megabyte, ``unanswered`` the first accesses that met nothing."""

    name = "card"
    window_bytes = WINDOW_BYTES

    def __init__(self, host: Host, reach: int = ISA_REACH, boundary: int = ISA_BOUNDARY) -> None:
        self._host = host
        self._reach = reach
        self._boundary = boundary
        self.memory = bytearray(MEMORY_BYTES)
        self.registers = dict.fromkeys(range(0, 0x3C, 4), 0)
        self.registers.update({REG_ID: ID, REG_VERSION: VERSION, REG_SIZE: MEMORY_BYTES})
        self.unanswered: list[tuple[int, int, bool]] = []
        """(offset, size, write)"""
        self._under_way: Transfer | None = None

    def read_window(self, offset: int, size: int) -> int:
        at = offset - MEMORY_START
        if 0 <= at <= MEMORY_BYTES - size:
            return int.from_bytes(self.memory[at : at + size], "little")
        if self._under_way is not None and offset & ~3 == REG_STATUS:
            self._burst(self._under_way)
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
            self.registers[offset] &= ~value | STATUS_BUSY
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
        transfer = self._asked(command)
        if transfer is None:
            self._end(command, moved=False)
            return
        self._under_way = transfer
        self.registers[REG_STATUS] |= STATUS_BUSY
        if not self.registers[REG_BURST]:
            self._burst(transfer)

    def _asked(self, command: int) -> Transfer | None:
        """What a command asks for; None when it is unknown, its range is out of bounds, or another is under way."""
        registers = self.registers
        address = registers[REG_ADDRESS] | registers[REG_ADDRESS_HI] << 32
        length, offset = registers[REG_LENGTH], registers[REG_OFFSET]
        last, kind = address + length - 1, command & 0xFF
        if not length or last >= self._reach or address // self._boundary != last // self._boundary:
            return None
        known = kind == COMMAND_FILL or (kind in (COMMAND_STORE, COMMAND_LOAD) and offset + length <= MEMORY_BYTES)
        pattern = registers[REG_PATTERN].to_bytes(4, "little")
        return Transfer(command, address, length, offset, pattern) if known and self._under_way is None else None

    def _burst(self, transfer: Transfer) -> None:
        """Move the next bytes."""
        size = min(self.registers[REG_BURST] or transfer.length, transfer.length - transfer.done)
        moved = self._move(transfer, size)
        transfer.done += size
        if not moved or transfer.done == transfer.length:
            self._under_way = None
            self.registers[REG_STATUS] &= ~STATUS_BUSY
            self._end(transfer.command, moved)

    def _move(self, transfer: Transfer, size: int) -> bool:
        """So many bytes of a transfer; False where there is no RAM."""
        kind, at, offset = transfer.command & 0xFF, transfer.address + transfer.done, transfer.offset + transfer.done
        if kind == COMMAND_LOAD:
            data = self._host.dma_read(at, size, self.name)
            if data is not None:
                self.memory[offset : offset + size] = data
            return data is not None
        if kind == COMMAND_STORE:
            return self._host.dma_write(at, bytes(self.memory[offset : offset + size]), self.name)
        first = transfer.done % 4
        return self._host.dma_write(at, (transfer.pattern * (size // 4 + 2))[first : first + size], self.name)

    def _end(self, command: int, moved: bool) -> None:
        self.registers[REG_STATUS] |= STATUS_DONE | (0 if moved else STATUS_REFUSED)
        if command & COMMAND_INTERRUPT:
            self._interrupt()
