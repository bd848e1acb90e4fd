"""Exception vectors (SDM 3A, 6.3 and table 6-1)."""

from __future__ import annotations

from enum import IntEnum


class Vector(IntEnum):
    """The architectural vectors, by mnemonic."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19
    VE = 20
    CP = 21


WITH_ERROR_CODE = frozenset({8, 10, 11, 12, 13, 14, 17, 21})
TITLES = {
    0: "divide error", 1: "debug exception", 2: "NMI", 3: "breakpoint", 4: "overflow", 5: "BOUND range exceeded",
    6: "invalid opcode", 7: "device not available", 8: "double fault", 10: "invalid TSS",
    11: "segment not present", 12: "stack-segment fault", 13: "general protection", 14: "page fault",
    16: "x87 floating-point error", 17: "alignment check", 18: "machine check", 19: "SIMD floating-point exception",
    20: "virtualization exception", 21: "control protection exception",
}  # fmt: skip


class Class(IntEnum):
    """How two exceptions combine (SDM 3A, table 6-4)."""

    BENIGN = 0
    CONTRIBUTORY = 1
    PAGE_FAULT = 2


def exception_class(vector: int) -> Class:
    """Benign, contributory or page fault; #VE and #CP are grouped as the manual's table has them."""
    if vector in (Vector.PF, Vector.VE):
        return Class.PAGE_FAULT
    if vector in (Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.CP):
        return Class.CONTRIBUTORY
    return Class.BENIGN


def makes_double_fault(first: int, second: int) -> bool:
    """True when ``second``, raised while ``first`` is being delivered, becomes #DF (SDM 3A, table 6-5)."""
    one, two = exception_class(first), exception_class(second)
    if one is Class.CONTRIBUTORY:
        return two is Class.CONTRIBUTORY
    if one is Class.PAGE_FAULT:
        return two is not Class.BENIGN
    return False


def has_error_code(vector: int) -> bool:
    """The processor pushes an error code for this exception."""
    return vector in WITH_ERROR_CODE


def describe(vector: int) -> str:
    """``#PF page fault`` for 14; ``vector 0x41`` for one that the architecture does not define."""
    if vector in TITLES:
        return f"#{Vector(vector).name} {TITLES[vector]}"
    return f"vector {vector:#x}"
