"""EFLAGS, control, debug and feature registers, bit by bit (SDM 3A, 2.3, 2.5, 2.2.1 and 3B, 17.2)."""

from __future__ import annotations

from enum import Enum

from sandbox.records import dataclass
from sandbox.x86 import masks
from sandbox.x86.bits import Bits

BREAKPOINTS = 4


class Eflags(Bits):
    """Status, control and system flags (SDM 3A, 2.3).  Bit 1 always reads as one."""

    CF = masks.CF
    FIXED = masks.EFLAGS_FIXED
    PF = masks.PF
    AF = masks.AF
    ZF = masks.ZF
    SF = masks.SF
    TF = masks.TF
    IF = masks.IF
    DF = masks.DF
    OF = masks.OF
    IOPL = masks.IOPL
    NT = masks.NT
    RF = masks.RF
    VM = masks.VM
    AC = masks.AC
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


class Cr0(Bits):
    """Operating mode (SDM 3A, 2.5)."""

    PE = masks.CR0_PE
    MP = masks.CR0_MP
    EM = masks.CR0_EM
    TS = masks.CR0_TS
    ET = masks.CR0_ET
    NE = masks.CR0_NE
    WP = masks.CR0_WP
    AM = 1 << 18
    NW = 1 << 29
    CD = 1 << 30
    PG = masks.CR0_PG


class Cr4(Bits):
    """Extensions that the operating system has switched on (SDM 3A, 2.5)."""

    VME = 1 << 0
    PVI = 1 << 1
    TSD = masks.CR4_TSD
    DE = 1 << 3
    PSE = masks.CR4_PSE
    PAE = masks.CR4_PAE
    MCE = 1 << 6
    PGE = masks.CR4_PGE
    PCE = 1 << 8
    OSFXSR = masks.CR4_OSFXSR
    OSXMMEXCPT = masks.CR4_OSXMMEXCPT
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
    NXE = masks.EFER_NXE


class Dr6(Bits):
    """Which debug conditions were met (SDM 3B, 17.2.3).  The processor sets bits and never clears them."""

    B0 = 1 << 0
    B1 = 1 << 1
    B2 = 1 << 2
    B3 = 1 << 3
    BD = 1 << 13
    BS = 1 << 14
    BT = 1 << 15


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
        value = masks.DR7_FIXED
        for each in breakpoints:
            value |= (each.local | each.everywhere << 1) << 2 * each.number
            value |= (each.on.value | _SIZES.index(each.size) << 2) << 16 + 4 * each.number
        return cls(value)

    def names(self) -> list[str]:
        told = Bits.names(Dr7(int(self) & 0xFFFF & ~masks.DR7_FIXED))
        armed = (self.breakpoint(number) for number in range(BREAKPOINTS))
        return told + [f"{b.number}:{b.on.name}/{b.size}" for b in armed if b.local or b.everywhere]
