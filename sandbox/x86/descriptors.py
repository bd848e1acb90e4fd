"""Selectors, segment descriptors and gates (SDM 3A, 3.4.2, 3.4.5, 3.5, 5.8.3 and 6.11), as 64-bit numbers."""

from __future__ import annotations

from enum import Enum

from sandbox.records import dataclass

DESCRIPTOR_BYTES = 8
FLAG_ACCESSED, FLAG_WRITABLE, FLAG_READABLE = 1 << 8, 1 << 9, 1 << 9
FLAG_EXPAND_DOWN, FLAG_CONFORMING = 1 << 10, 1 << 10
FLAG_CODE, FLAG_NOT_SYSTEM, FLAG_PRESENT = 1 << 11, 1 << 12, 1 << 15
FLAG_BIG, FLAG_GRANULAR = 1 << 22, 1 << 23
FLAGS_MASK = 0x00F0FF00
"""The bits of a descriptor's second word that are neither base nor limit."""

_SYSTEM = {1: "16-bit TSS", 2: "LDT", 3: "busy 16-bit TSS", 9: "32-bit TSS", 11: "busy 32-bit TSS"}
TYPE_TSS16, TYPE_LDT, TYPE_TSS16_BUSY, TYPE_TSS32, TYPE_TSS32_BUSY = 1, 2, 3, 9, 11


@dataclass(frozen=True, slots=True)
class Selector:
    """A visible segment register: index into a table, which table, requested privilege level."""

    index: int
    local: bool
    rpl: int

    @classmethod
    def decode(cls, value: int) -> Selector:
        return cls(value >> 3 & 0x1FFF, bool(value & 4), value & 3)

    def encode(self) -> int:
        return self.index << 3 | self.local << 2 | self.rpl

    @property
    def null(self) -> bool:
        """Entry 0 of the GDT, whatever the RPL."""
        return not self.index and not self.local


@dataclass(frozen=True, slots=True)
class SegmentDescriptor:
    """A code, data or system segment: base (linear), limit (bytes - 1), flags (the rest)."""

    base: int
    limit: int
    flags: int

    @classmethod
    def decode(cls, quad: int) -> SegmentDescriptor:
        high = quad >> 32
        base = quad >> 16 & 0xFFFFFF | high & 0xFF000000
        limit = quad & 0xFFFF | high & 0xF0000
        if high & FLAG_GRANULAR:
            limit = limit << 12 | 0xFFF
        return cls(base, limit, high & FLAGS_MASK)

    def encode(self) -> int:
        """The eight bytes as a number; a limit that needs pages must be one page's last byte."""
        limit = self.limit >> 12 if self.flags & FLAG_GRANULAR else self.limit
        high = self.base & 0xFF000000 | self.base >> 16 & 0xFF | limit & 0xF0000 | self.flags
        return high << 32 | (self.base & 0xFFFF) << 16 | limit & 0xFFFF

    @property
    def present(self) -> bool:
        return bool(self.flags & FLAG_PRESENT)

    @property
    def dpl(self) -> int:
        return self.flags >> 13 & 3

    @property
    def system(self) -> bool:
        """An LDT, a TSS or a gate."""
        return not self.flags & FLAG_NOT_SYSTEM

    @property
    def type(self) -> int:
        return self.flags >> 8 & 15

    @property
    def code(self) -> bool:
        return not self.system and bool(self.flags & FLAG_CODE)

    @property
    def conforming(self) -> bool:
        return self.code and bool(self.flags & FLAG_CONFORMING)

    @property
    def writable_data(self) -> bool:
        """What a stack segment must be."""
        return not self.system and not self.flags & FLAG_CODE and bool(self.flags & FLAG_WRITABLE)

    @property
    def big(self) -> bool:
        """D/B: 32-bit operands and stack pointer, 4 GB upper bound when expand-down."""
        return bool(self.flags & FLAG_BIG)

    def describe(self) -> str:
        """``code 32-bit DPL 3, base 0x00000000, limit 0xffffffff``."""
        if self.system:
            what = _SYSTEM.get(self.type, f"system type {self.type}")
        else:
            bits = "32-bit" if self.big else "16-bit"
            kind = "code" if self.code else "data" if self.writable_data else "read-only data"
            grown = not self.code and bool(self.flags & FLAG_EXPAND_DOWN)
            what = f"{'conforming ' if self.conforming else ''}{kind} {bits}{' expand-down' if grown else ''}"
        absent = "" if self.present else ", not present"
        return f"{what} DPL {self.dpl}, base {self.base:#010x}, limit {self.limit:#010x}{absent}"

    def allows(self, offset: int, size: int) -> bool:
        """``size`` bytes from an offset on are inside the limit (SDM 3A, 5.3); expand-down turns it round."""
        last = offset + size - 1
        if self.system or self.flags & (FLAG_CODE | FLAG_EXPAND_DOWN) != FLAG_EXPAND_DOWN:
            return last <= self.limit
        return self.limit < offset and last <= (0xFFFFFFFF if self.big else 0xFFFF)


class GateKind(Enum):
    """Gates by what they do to IF and the stack."""

    TASK = "task gate"
    CALL = "call gate"
    INTERRUPT = "interrupt gate"
    TRAP = "trap gate"


_GATES = {
    4: (GateKind.CALL, 16),
    5: (GateKind.TASK, 32),
    6: (GateKind.INTERRUPT, 16),
    7: (GateKind.TRAP, 16),
    12: (GateKind.CALL, 32),
    14: (GateKind.INTERRUPT, 32),
    15: (GateKind.TRAP, 32),
}
_TYPES = {of: number for number, of in _GATES.items()}


@dataclass(frozen=True, slots=True)
class Gate:
    """An entry of an IDT, or a call or task gate of a GDT or LDT.

    ``bits`` is 16 or 32; ``parameters`` is the count of stack words or doublewords that a call gate copies.
    """

    kind: GateKind
    bits: int
    selector: int
    offset: int
    dpl: int
    present: bool
    parameters: int = 0

    @classmethod
    def decode(cls, quad: int) -> Gate | None:
        """The gate in eight bytes, or None when their type is no gate's."""
        high = quad >> 32
        found = None if high & FLAG_NOT_SYSTEM else _GATES.get(high >> 8 & 15)
        if found is None:
            return None
        kind, bits = found
        offset = quad & 0xFFFF | (high & 0xFFFF0000 if bits == 32 else 0)
        copied = high & 0x1F if kind is GateKind.CALL else 0
        return cls(kind, bits, quad >> 16 & 0xFFFF, offset, high >> 13 & 3, bool(high & FLAG_PRESENT), copied)

    def encode(self) -> int:
        """The eight bytes as a number."""
        high = self.offset & 0xFFFF0000 | self.present << 15 | self.dpl << 13
        high |= _TYPES[self.kind, self.bits] << 8 | self.parameters
        return high << 32 | self.selector << 16 | self.offset & 0xFFFF

    def describe(self) -> str:
        """``32-bit interrupt gate to 0x0008:0x00101234, DPL 0``."""
        absent = "" if self.present else ", not present"
        if self.kind is GateKind.TASK:
            return f"task gate to TSS {self.selector:#06x}, DPL {self.dpl}{absent}"
        return f"{self.bits}-bit {self.kind.value} to {self.selector:#06x}:{self.offset:#010x}, DPL {self.dpl}{absent}"
