"""Exception vectors, and how two exceptions combine (SDM 3A, 6.3, 6.5 and the entry of interrupt 8 in 6.15)."""

from __future__ import annotations

from enum import Enum, IntEnum

FIRST_FREE = 32
"""Vectors from here to 255 belong to the operating system."""


class Vector(IntEnum):
    """The 32 architectural vectors, by mnemonic (SDM 3A, table 6-1)."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    CSO = 9
    """Coprocessor segment overrun: the 386's; later processors raise #GP."""
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    RESERVED_15 = 15
    MF = 16
    AC = 17
    MC = 18
    XM = 19
    VE = 20
    CP = 21
    RESERVED_22 = 22
    RESERVED_23 = 23
    RESERVED_24 = 24
    RESERVED_25 = 25
    RESERVED_26 = 26
    RESERVED_27 = 27
    RESERVED_28 = 28
    RESERVED_29 = 29
    RESERVED_30 = 30
    RESERVED_31 = 31


WITH_ERROR_CODE = frozenset({8, 10, 11, 12, 13, 14, 17, 21})
TITLES = {
    0: "divide error", 1: "debug exception", 2: "NMI", 3: "breakpoint", 4: "overflow", 5: "BOUND range exceeded",
    6: "invalid opcode", 7: "device not available", 8: "double fault", 9: "coprocessor segment overrun",
    10: "invalid TSS", 11: "segment not present", 12: "stack-segment fault", 13: "general protection",
    14: "page fault", 16: "x87 floating-point error", 17: "alignment check", 18: "machine check",
    19: "SIMD floating-point exception", 20: "virtualization exception", 21: "control protection exception",
}  # fmt: skip


class Kind(Enum):
    """Where the saved EIP points, and whether the program can go on (SDM 3A, 6.5)."""

    FAULT = "fault"
    """At the instruction, which can be restarted."""
    TRAP = "trap"
    """Behind the instruction."""
    ABORT = "abort"
    """Nowhere in particular."""
    INTERRUPT = "interrupt"
    """At the next instruction: nothing that the program did."""
    FAULT_OR_TRAP = "fault or trap"
    """#DB: DR6 tells."""


def kind(vector: int) -> Kind:
    """What sort of event a vector is (SDM 3A, table 6-1); vectors above 31 are interrupts."""
    if vector in (Vector.BP, Vector.OF):
        return Kind.TRAP
    if vector in (Vector.DF, Vector.MC, Vector.CSO):
        return Kind.ABORT
    if vector == Vector.DB:
        return Kind.FAULT_OR_TRAP
    if vector == Vector.NMI or vector >= FIRST_FREE:
        return Kind.INTERRUPT
    return Kind.FAULT


class Class(IntEnum):
    """How an exception combines with another (SDM 3A, table 6-4)."""

    BENIGN = 0
    CONTRIBUTORY = 1
    PAGE_FAULT = 2


class Combined(Enum):
    """What the processor does with an exception met while it delivers another (SDM 3A, table 6-5)."""

    SERIAL = "handled one after the other"
    DOUBLE_FAULT = "double fault"
    SHUTDOWN = "shutdown (triple fault)"


def exception_class(vector: int) -> Class:
    """Benign, contributory or page fault; #VE and #CP are grouped as the manual's table has them."""
    if vector in (Vector.PF, Vector.VE):
        return Class.PAGE_FAULT
    if vector in (Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.CP):
        return Class.CONTRIBUTORY
    return Class.BENIGN


def combine(first: int, second: int) -> Combined:
    """What becomes of ``second``, raised while ``first`` is being delivered (SDM 3A, table 6-5)."""
    one, two = exception_class(first), exception_class(second)
    if first == Vector.DF:
        return Combined.SERIAL if two is Class.BENIGN else Combined.SHUTDOWN
    if two is Class.CONTRIBUTORY and one is not Class.BENIGN:
        return Combined.DOUBLE_FAULT
    if two is Class.PAGE_FAULT and one is Class.PAGE_FAULT:
        return Combined.DOUBLE_FAULT
    return Combined.SERIAL


def makes_double_fault(first: int, second: int) -> bool:
    """True when ``second``, raised while ``first`` is being delivered, becomes #DF."""
    return combine(first, second) is Combined.DOUBLE_FAULT


def has_error_code(vector: int) -> bool:
    """The processor pushes an error code for this exception."""
    return vector in WITH_ERROR_CODE


def describe(vector: int) -> str:
    """``#PF page fault`` for 14; ``vector 0x41`` for one that the architecture does not define."""
    if vector in TITLES:
        name = Vector(vector).name
        return "NMI" if vector == Vector.NMI else f"#{name} {TITLES[vector]}"
    return f"vector {vector:#x}"
