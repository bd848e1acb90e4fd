"""A few instructions on a CPU of their own: what they make of registers and memory, or how they fault."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.engine.context import CpuContext
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Exit, Paused, PortDenied, Trap
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.records import dataclass, field
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.masks import CR0_PAGED, CR4_PAE, CR4_SSE, EFER_NXE
from sandbox.x86.paging import NX, PAGE_SIZE, RW, US, P
from sandbox.x86.registers import Eflags

CODE, DATA, DATA_BYTES = 0x400000, 0x500000, 0x10000
"""Linear addresses of the code's page, which nobody may write, and of memory to work with, which cannot be executed."""
LIMIT = 100_000
"""Blocks after which code that does not end is stopped."""
_PGD, _PMD, _TABLE, _CODE_FRAME, _DATA_FRAME = 0x1000, 0x2000, 0x3000, 0x8000, 0x10000
_INT3, _FLAGS, _GENERAL_PROTECTION = 0xCC, 0x202, 13


@dataclass(slots=True)
class Executed:
    """What came of it.  ``vector`` is None when the last instruction was done; else the exception's.

    With it come the error code and, for a page fault, the linear address; an INT n gives n, for there are no gates.
    ``eip`` counts from the code's first byte.
    """

    registers: dict[str, int]
    eflags: int
    eip: int
    memory: bytes
    """The ``DATA_BYTES`` at ``DATA``."""
    vector: int | None = None
    error_code: int = 0
    address: int = 0
    ended: bool = True
    """False for code that was stopped after ``LIMIT`` blocks."""
    flags: list[str] = field(default_factory=list)
    """Names of the flags that are set."""


def execute(
    code: bytes | str, registers: Mapping[str, int] | None = None, memory: Mapping[int, bytes] | None = None
) -> Executed:
    """Run instructions in ring 3 with paging on: bytes, or text in Intel syntax, at ``CODE``.

    ``registers`` are general ones and ``eflags``; ESP is the end of the data where it is not given.  ``memory`` is laid
    at linear addresses from ``DATA`` on.  Flat segments, PAE, x87 and SSE enabled.  Raises ConfigurationError.
    """
    text = _bytes(code)
    ram, cpu = PhysicalMemory(4 << 20), Cpu()
    try:
        ram.map_into(cpu)
        _map(ram)
        ram.host_fill(_CODE_FRAME, PAGE_SIZE, _INT3, Reason.IMAGE)
        ram.host_write(_CODE_FRAME, text, Reason.IMAGE)
        for linear, data in (memory or {}).items():
            if not DATA <= linear <= linear + len(data) <= DATA + DATA_BYTES:
                raise ConfigurationError(f"memory at {linear:#x}: it is {DATA:#x} to {DATA + DATA_BYTES:#x}")
            ram.host_write(linear - DATA + _DATA_FRAME, data, Reason.IMAGE)
        cpu.connect_ports(lambda port, size: 0, lambda port, size, value: None)
        _set(cpu.context, registers or {})
        exit_ = cpu.run(LIMIT)
        while isinstance(exit_, Paused) and cpu.clock < LIMIT:
            exit_ = cpu.run(LIMIT - cpu.clock)
        return _executed(exit_, cpu.context, ram, len(text))
    finally:
        cpu.close()
        ram.unmapped_from(cpu)


def _bytes(code: bytes | str) -> bytes:
    if isinstance(code, str):
        from sandbox.image.assemble import assemble_text

        code = assemble_text(code, CODE)
    if not 0 < len(code) < PAGE_SIZE:
        raise ConfigurationError(f"{len(code)} bytes of code: 1 to {PAGE_SIZE - 1}")
    return code


def _map(ram: PhysicalMemory) -> None:
    quads = ram.mutable_quads(Reason.TABLE)
    quads[_PGD >> 3] = _PMD | P
    for linear in (CODE, DATA):
        quads[(_PMD >> 3) + (linear >> 21)] = _TABLE | P | RW | US
    quads[(_TABLE >> 3) + (CODE >> 12 & 511)] = _CODE_FRAME | P | US
    for at in range(0, DATA_BYTES, PAGE_SIZE):
        quads[(_TABLE >> 3) + (DATA + at >> 12 & 511)] = _DATA_FRAME + at | P | RW | US | NX


def _set(state: CpuContext, registers: Mapping[str, int]) -> None:
    for name in ("es", "ds", "fs", "gs", "ss"):
        state.set_segment(name, 0x1B, 0, 0xFFFFFFFF, 0xCFF300)
    state.set_segment("cs", 0x13, 0, 0xFFFFFFFF, 0xCFFB00)
    state.cr3, state.cr4, state.efer, state.cr0 = _PGD, CR4_SSE | CR4_PAE, EFER_NXE, CR0_PAGED
    state.eip, state.eflags, state.esp = CODE, _FLAGS, DATA + DATA_BYTES
    known = (*state.general(), "eflags")
    for name, value in registers.items():
        if name not in known:
            raise ConfigurationError(f"no register {name!r} here", f"known are {', '.join(known)}")
        setattr(state, name, value & 0xFFFFFFFF)


def _executed(exit_: Exit, state: CpuContext, ram: PhysicalMemory, size: int) -> Executed:
    at = ram.host_index(_DATA_FRAME)
    general = {name: value & 0xFFFFFFFF for name, value in state.general().items()}
    eip = state.eip - CODE & 0xFFFFFFFF
    memory = bytes(ram.bytes[at : at + DATA_BYTES])
    made = Executed(general, state.eflags, eip, memory, flags=Eflags(state.eflags).names())
    if isinstance(exit_, Trap):
        made.eip = exit_.eip - CODE & 0xFFFFFFFF
        if exit_.software and exit_.vector == 3 and made.eip == size + 1:
            made.eip = size
        else:
            made.vector, made.error_code, made.address = exit_.vector, exit_.error_code, exit_.address
    elif isinstance(exit_, PortDenied):
        made.vector = _GENERAL_PROTECTION
    else:
        made.ended = False
    return made
