"""Error codes: of page faults (SDM 3A, 4.7) and of exceptions that name a selector (6.13)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag


class PageFaultCode(IntFlag):
    """The bits that a page fault pushes."""

    P = 1 << 0
    """The page was present: a protection violation."""
    W = 1 << 1
    U = 1 << 2
    RSVD = 1 << 3
    """A reserved bit is set in an entry."""
    I = 1 << 4  # noqa: E741 - the manual's name
    """Instruction fetch, reported with NX or SMEP on."""
    PK = 1 << 5

    def describe(self) -> str:
        """``user write protection``, ``kernel read not-present``, ``user fetch reserved-bit``."""
        who = "user" if self & self.U else "kernel"
        access = "write" if self & self.W else "fetch" if self & self.I else "read"
        why = "reserved-bit" if self & self.RSVD else "protection" if self & self.P else "not-present"
        return f"{who} {access} {why}"


@dataclass(frozen=True, slots=True)
class SelectorCode:
    """EXT, IDT, TI and the index, as #TS, #NP, #SS and #GP push them."""

    external: bool
    in_idt: bool
    in_ldt: bool
    index: int

    @classmethod
    def decode(cls, value: int) -> SelectorCode:
        return cls(bool(value & 1), bool(value & 2), bool(value & 4), value >> 3 & 0x1FFF)

    def encode(self) -> int:
        return self.external | self.in_idt << 1 | self.in_ldt << 2 | self.index << 3

    def describe(self) -> str:
        """``IDT entry 0x80``, ``GDT selector 0x28, external``."""
        table = "IDT entry" if self.in_idt else "LDT selector" if self.in_ldt else "GDT selector"
        number = self.index if self.in_idt else self.index << 3
        return f"{table} {number:#x}" + (", external" if self.external else "")
