"""A vector and its result: plain data, that any oracle takes and gives.

An instruction is executed in ring 3 of a flat 32-bit machine as Linux sets it up: CS 23h, SS, DS and ES 2Bh, FS and GS
null, IOPL 0, interrupts on.  The memory that it can reach is the arena: all that is not in it is not mapped.
"""

from __future__ import annotations

import struct
from typing import Protocol

from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE

LOW, CODE, DATA, READ_ONLY, STACK = 0x8000, 0x20000000, 0x20100000, 0x20102000, 0x20200000
"""Linear addresses of the arena's areas.  LOW is what 16-bit addresses reach; DATA ends where READ_ONLY begins."""
CODE_PAGES = 64
SLOT = 64
"""Bytes of code that belong to one vector, INT3 where it says nothing."""
SLOTS = CODE_PAGES * PAGE_SIZE // SLOT
WRITABLE = ((DATA, 2), (STACK, 2), (LOW, 2))
"""Areas that vectors may change: linear address, pages; in the order in which changes are told."""
CODE_SELECTOR, DATA_SELECTOR, CODE16_SELECTOR = 0x23, 0x2B, 0x07
"""The last is of the LDT: 16 bits, 64 KB from CODE (modify_ldt(2))."""
SELECTORS = (CODE_SELECTOR, DATA_SELECTOR, DATA_SELECTOR, DATA_SELECTOR, 0, 0)
"""CS, SS, DS, ES, FS, GS before a vector."""
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
NOTHING, READING, FRESH, FILED = 0, 1, 8, 9
"""What there is of a page until a fault on it: as PROT_NONE and PROT_READ, by mprotect; anonymous and not touched yet
(of zeros, then); a file's, not present yet (its contents being the vector's)."""
ALONE, IN_CHILD, IN_PARENT = 0, 16, 32
"""Which process executes a vector behind a fork."""
HANG = 255
"""In the place of an exception's vector: it did not end."""
BREAKPOINT = 3


@dataclass(frozen=True, slots=True)
class Fpu:
    """x87, MMX and SSE state.

    ``status`` has TOP, ``tags`` is FXSAVE's short form (bit of a physical register set: in use), ``stack`` is ST(0) to
    ST(7), ten bytes each (MM0 to MM7 are in its significands, TOP being 0), ``xmm`` XMM0 to XMM7, sixteen each.
    """

    control: int = 0x37F
    status: int = 0
    tags: int = 0
    mxcsr: int = 0x1F80
    stack: bytes = bytes(80)
    xmm: bytes = bytes(128)


RESET_FPU = Fpu()


@dataclass(frozen=True, slots=True)
class Vector:
    """``form`` names the instruction's form; ``registers`` are EAX to EDI in encoding order; ``memory`` is what the
    arena holds otherwise than always (address, bytes).  Without ``fpu`` the state is RESET_FPU and is not compared."""

    form: str
    code: bytes
    eip: int
    registers: tuple[int, ...]
    eflags: int
    memory: tuple[tuple[int, bytes], ...] = ()
    fpu: Fpu | None = None
    operand: int = 0
    """Linear address of the memory operand, by which what it stores is told apart; 0: none."""
    selectors: tuple[int, ...] = SELECTORS
    """Others in real mode (``realmode``), where ``eip`` is an offset; the same with CODE16_SELECTOR in CS."""
    absent: tuple[tuple[int, int], ...] = ()
    """Pages of the arena (linear address) that a fault brings back, and what there is of each until then.  The vector
    goes on behind each such fault as a program does whose page is filled or copied on demand."""
    forked: int = ALONE
    """Otherwise all of its pages are shared with another process, to be copied when they are written."""
    writes_code: bool = False
    """The code's pages can be written."""

    @property
    def place(self) -> int:
        """Linear address of the code."""
        return self.eip + CODE if self.selectors[0] == CODE16_SELECTOR else self.eip


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception's vector, error code (0 where there is none), and CR2 for a page fault, else 0."""

    vector: int
    error: int = 0
    address: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """``eip`` is that of the fault or of the INT3 that ended the vector; ``selectors`` as in SELECTORS; ``written`` are
    the words of the arena that changed (address, new value); ``fpu`` where the vector had one."""

    registers: tuple[int, ...]
    eip: int
    eflags: int
    selectors: tuple[int, ...]
    written: tuple[tuple[int, int], ...] = ()
    fault: Fault | None = None
    fpu: Fpu | None = None
    restarts: tuple[Result, ...] = ()
    """The states at faults behind which it went on, in order."""
    other: tuple[tuple[int, int], ...] = ()
    """As ``written``, in the process that did not execute a vector that was ``forked``."""


class Oracle(Protocol):
    """Who executes vectors."""

    name: str

    def run(self, vectors: list[Vector]) -> list[Result]:
        """One result a vector, in order."""
        ...

    def close(self) -> None: ...


def arena() -> bytes:
    """What DATA, READ_ONLY, STACK and LOW (2, 1, 2, 2 pages) hold before a vector: words that differ."""
    size = 7 * PAGE_SIZE // 4
    return struct.pack(f"<{size}I", *((at * 0x9E3779B1 ^ 0x5A5A5A5A) & 0xFFFFFFFF for at in range(size)))


def word_before(vector: Vector, address: int) -> int:
    """What a word of the arena holds before the vector; 0 where there is none."""
    if (address & -PAGE_SIZE, FRESH) in vector.absent:
        return 0
    size, value = 4, 0
    place = 0
    for first, pages in ((DATA, 2), (READ_ONLY, 1), (STACK, 2), (LOW, 2)):
        if first <= address < first + pages * PAGE_SIZE:
            number = (place + address - first) // 4
            value = (number * 0x9E3779B1 ^ 0x5A5A5A5A) & 0xFFFFFFFF
        place += pages * PAGE_SIZE
    word = bytearray(struct.pack("<I", value))
    for start, data in vector.memory:
        for at in range(max(start, address), min(start + len(data), address + size)):
            word[at - address] = data[at - start]
    return int.from_bytes(word, "little")


def slot_address(number: int) -> int:
    """Where the code of the vector with that number in its batch lies; room for jumps on both sides."""
    return CODE + number % SLOTS * SLOT + 24
