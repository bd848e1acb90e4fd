"""EFLAGS, control, debug and feature registers, bit by bit (SDM 3A, 2.3, 2.5, 2.2.1 and 3B, 17.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sandbox.x86.bits import Bits

MSR_EFER = 0xC0000080
"""Number of the MSR that holds NXE (SDM 4, table 2-2)."""
CR3_FRAME, CR3_PAE_TABLE = 0xFFFFF000, 0xFFFFFFE0
"""The part of CR3 that is the directory's (PAE: the four pointers') physical address."""
BREAKPOINTS = 4


class Eflags(Bits):
    """Status, control and system flags (SDM 3A, 2.3).  Bit 1 always reads as one."""

    CF = 1 << 0
    FIXED = 1 << 1
    PF = 1 << 2
    AF = 1 << 4
    ZF = 1 << 6
    SF = 1 << 7
    TF = 1 << 8
    IF = 1 << 9
    DF = 1 << 10
    OF = 1 << 11
    IOPL = 3 << 12
    NT = 1 << 14
    RF = 1 << 16
    VM = 1 << 17
    AC = 1 << 18
    VIF = 1 << 19
    VIP = 1 << 20
    ID = 1 << 21

    @property
    def iopl(self) -> int:
        """The highest CPL that may use IN, OUT, CLI and STI: 0 to 3."""
        return int(self) >> 12 & 3

    def names(self) -> list[str]:
        plain = Bits.names(Eflags(int(self) & ~(Eflags.IOPL | Eflags.FIXED)))
        return [*plain, f"IOPL={self.iopl}"] if self.iopl else plain


STATUS_FLAGS = int(Eflags.CF | Eflags.PF | Eflags.AF | Eflags.ZF | Eflags.SF | Eflags.OF)


class Cr0(Bits):
    """Operating mode (SDM 3A, 2.5)."""

    PE = 1 << 0
    MP = 1 << 1
    EM = 1 << 2
    TS = 1 << 3
    ET = 1 << 4
    NE = 1 << 5
    WP = 1 << 16
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = 1 << 31


class Cr4(Bits):
    """Extensions that the operating system has switched on (SDM 3A, 2.5)."""

    VME = 1 << 0
    PVI = 1 << 1
    TSD = 1 << 2
    DE = 1 << 3
    PSE = 1 << 4
    PAE = 1 << 5
    MCE = 1 << 6
    PGE = 1 << 7
    PCE = 1 << 8
    OSFXSR = 1 << 9
    OSXMMEXCPT = 1 << 10
    UMIP = 1 << 11
    VMXE = 1 << 13
    SMXE = 1 << 14
    FSGSBASE = 1 << 16
    PCIDE = 1 << 17
    OSXSAVE = 1 << 18
    SMEP = 1 << 20
    SMAP = 1 << 21
    PKE = 1 << 22


class Efer(Bits):
    """Extended features (SDM 3A, 2.2.1).  Only SCE and NXE matter to 32-bit code."""

    SCE = 1 << 0
    LME = 1 << 8
    LMA = 1 << 10
    NXE = 1 << 11


class Dr6(Bits):
    """Which debug conditions were met (SDM 3B, 17.2.3).  The processor sets bits and never clears them."""

    B0 = 1 << 0
    B1 = 1 << 1
    B2 = 1 << 2
    B3 = 1 << 3
    BD = 1 << 13
    BS = 1 << 14
    BT = 1 << 15


DR6_FIXED = 0xFFFF0FF0
"""Bits of DR6 that read as one (RTM, bit 16, among them)."""
DR7_FIXED = 0x400


class BreakOn(Enum):
    """R/W fields of DR7 (SDM 3B, 17.2.4); IO needs CR4.DE."""

    EXECUTE = 0
    WRITE = 1
    IO = 2
    READ_WRITE = 3


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """One of the four conditions in DR7; ``size`` in bytes (8 exists in 64-bit processors only)."""

    number: int
    on: BreakOn
    size: int
    local: bool
    everywhere: bool


_SIZES = (1, 2, 8, 4)


class Dr7(Bits):
    """Which breakpoints are armed (SDM 3B, 17.2.4).  R/W and LEN fields are read by ``breakpoint``."""

    L0 = 1 << 0
    G0 = 1 << 1
    L1 = 1 << 2
    G1 = 1 << 3
    L2 = 1 << 4
    G2 = 1 << 5
    L3 = 1 << 6
    G3 = 1 << 7
    LE = 1 << 8
    GE = 1 << 9
    FIXED = 1 << 10
    RTM = 1 << 11
    GD = 1 << 13

    def breakpoint(self, number: int) -> Breakpoint:
        """The condition that goes with DR0 to DR3."""
        value = int(self)
        enabled = value >> 2 * number & 3
        kind = value >> 16 + 4 * number & 3
        return Breakpoint(
            number, BreakOn(kind), _SIZES[value >> 18 + 4 * number & 3], bool(enabled & 1), bool(enabled & 2)
        )

    @classmethod
    def encode(cls, *breakpoints: Breakpoint) -> Dr7:
        """The register with these conditions.  Raises ValueError for a size that LEN cannot tell."""
        value = DR7_FIXED
        for each in breakpoints:
            value |= (each.local | each.everywhere << 1) << 2 * each.number
            value |= (each.on.value | _SIZES.index(each.size) << 2) << 16 + 4 * each.number
        return cls(value)

    def names(self) -> list[str]:
        told = Bits.names(Dr7(int(self) & 0xFFFF & ~DR7_FIXED))
        armed = (self.breakpoint(number) for number in range(BREAKPOINTS))
        return told + [f"{b.number}:{b.on.name}/{b.size}" for b in armed if b.local or b.everywhere]
