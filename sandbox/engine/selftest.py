"""What must hold of the installed engine before a CPU of it is used: known states and faults, provoked once a process.

The layout of the saved context is nobody's promise.  Each field that ``sandbox.engine.context`` or ``native/stubs.S``
reads or patches is set by a register call or by guest code and found where 2.1.4 keeps it, or the build is refused.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Protocol

from sandbox.engine import context as ctx
from sandbox.engine import library as lib
from sandbox.engine.context import CpuContext
from sandbox.engine.exits import Exit, Halt, Trap
from sandbox.engine.handle import Handle
from sandbox.engine.library import DescriptorTable, Msr, UnknownEngine, check, library
from sandbox.x86.masks import (
    CR0_PAGED,
    CR0_TS,
    CR4_SSE,
    EFER_NXE,
    MSR_EFER,
    PF_USER,
    PF_WRITE,
)
from sandbox.x86.paging import RW, US, P

_PHYSICAL = 0xFEE00000
"""Where the scratch pages are while the test runs: an address that is never RAM."""
_DIRECTORY, _TABLE, _CODE = (_PHYSICAL + offset for offset in (0, 0x1000, 0x2000))
_LINEAR, _MISSING = 0x400000, 0x402000
_FULL = P | RW | US
_DEBUG_EXCEPTION, _DEVICE_NOT_AVAILABLE, _PAGE_FAULT = 1, 7, 14


class Probed(Protocol):
    """What the test asks of the CPU that it tests."""

    handle: Handle
    context: CpuContext

    @property
    def clock(self) -> int: ...

    @clock.setter
    def clock(self, value: int) -> None: ...

    def run(self, blocks: int) -> Exit: ...

    def reset(self) -> None: ...

    def flush_tlb(self) -> None: ...

    def drop_all_code(self) -> None: ...


_first_state: bytes | None = None


def verify_once(cpu: Probed) -> None:
    """Test the first CPU of this process; compare the fresh state of each later one with its.

    Takes about half a millisecond and leaves nothing behind.  Raises UnknownEngine, which names the field.
    """
    global _first_state
    state = bytes(cpu.context.data)
    if _first_state is None:
        _registers(cpu)
        _faults(cpu)
        cpu.context.data[:] = state
        cpu.reset()
        _first_state = state
    elif state != _first_state:
        at = next(index for index, pair in enumerate(zip(state, _first_state, strict=True)) if pair[0] != pair[1])
        raise _unknown(f"a state that is the same in every handle (it differs at {at})")


def _unknown(what: str) -> UnknownEngine:
    return UnknownEngine(
        f"the engine does not keep {what} where 2.1.4 does",
        "Its saved CPU state has another layout. pip install unicorn==2.1.4",
    )


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise _unknown(what)


_TABLE_REGISTERS = (("gdtr", lib.REG_GDTR), ("idtr", lib.REG_IDTR), ("ldtr", lib.REG_LDTR), ("tr", lib.REG_TR))


def _registers(cpu: Probed) -> None:
    """Set each register by a call, save, and look for it."""
    uc = cpu.handle.uc
    _set_registers(uc)
    state = CpuContext(uc)
    check(library().uc_context_save(uc, state.handle), "to save a context")
    _expect_integers(state)
    _expect_tables(state)
    _expect_vectors(state)


def _set_registers(uc: ctypes.c_void_p) -> None:
    engine = library()

    def write(register: int, value: object) -> None:
        check(engine.uc_reg_write(uc, register, ctypes.byref(value)), f"register {register}")  # type: ignore[arg-type]

    def word(value: int) -> ctypes.c_uint64:
        return ctypes.c_uint64(value)

    general = (lib.REG_EAX, lib.REG_ECX, lib.REG_EDX, lib.REG_EBX, lib.REG_ESP, lib.REG_EBP, lib.REG_ESI, lib.REG_EDI)
    for number, register in enumerate(general):
        write(register, word(0xA1B2C300 + number))
    write(lib.REG_EIP, word(0xB1B2B3B4))
    write(lib.REG_EFLAGS, word(0x3AD7))
    write(lib.REG_CR2, word(0xC2C2C2C2))
    for number in range(4):
        write(lib.REG_DR0 + number, word(0xD0D0D000 + number))
    write(lib.REG_DR0 + 6, word(0xFFFF4FF0))
    for number, (_, register) in enumerate(_TABLE_REGISTERS):
        write(register, DescriptorTable(0x30 + 8 * number, 0xE0E00000 + number, 0x7F0 + number, 0x8900))
    write(lib.REG_MSR, Msr(MSR_EFER, EFER_NXE))
    write(lib.REG_FPCW, word(0x27F))
    write(lib.REG_FPSW, word(0x2841))
    write(lib.REG_FPTAG, word(0x3FFF))
    write(lib.REG_MXCSR, word(0x3F80))
    for number in range(8):
        write(lib.REG_FP0 + number, (ctypes.c_uint8 * 10)(*range(number, number + 10)))
        write(lib.REG_XMM0 + number, (ctypes.c_uint64 * 2)(0xF0F0F0F000 + number, ~number & 0xFFFFFFFF))


def _expect_integers(state: CpuContext) -> None:
    for number in range(8):
        _expect(f"general register {number}", state.quads[number], 0xA1B2C300 + number)
    _expect("EIP", state.eip, 0xB1B2B3B4)
    _expect("EFLAGS", (state.eflags, state.longs[ctx.EFLAGS32] & 0x3300), (0x3AD7, 0x3200))
    _expect("CR2", state.cr2, 0xC2C2C2C2)
    _expect("DR0 to DR3", [state.debug_register(each) for each in range(4)], [0xD0D0D000 + each for each in range(4)])
    _expect("DR6", state.debug_register(6), 0xFFFF4FF0)
    _expect("EFER", state.efer, EFER_NXE)


def _expect_tables(state: CpuContext) -> None:
    for number, (name, _) in enumerate(_TABLE_REGISTERS):
        seen = state.segment(name)
        _expect(name.upper(), (seen.base, seen.limit), (0xE0E00000 + number, 0x7F0 + number))
        if name in ("ldtr", "tr"):
            _expect(name.upper(), (seen.selector, seen.flags), (0x30 + 8 * number, 0x8900))


def _expect_vectors(state: CpuContext) -> None:
    """x87 and SSE."""
    for number in range(8):
        _expect(f"XMM{number}", state.xmm(number), struct.pack("<QQ", 0xF0F0F0F000 + number, ~number & 0xFFFFFFFF))
    control, status, tags, stack = state.x87()
    _expect("the x87 control word", control, 0x27F)
    _expect("the x87 status word", status, 0x2841)
    _expect("the x87 tags", tags, 0x80)
    _expect("the x87 registers", stack, [bytes(range((5 + n) % 8, (5 + n) % 8 + 10)) for n in range(8)])
    _expect("MXCSR", state.mxcsr, 0x3F80)


def _faults(cpu: Probed) -> None:
    """Run a few instructions with paging on and compare what is captured."""
    scratch = mmap.mmap(-1, 3 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    struct.pack_into("<I", scratch, _LINEAR >> 20, _TABLE | _FULL)
    struct.pack_into("<I", scratch, 0x1000, _CODE | _FULL)
    address = ctypes.addressof(ctypes.c_char.from_buffer(scratch))
    cpu.handle.map_ram(_PHYSICAL, len(scratch), address)
    try:
        _capture(cpu, scratch)
    finally:
        cpu.handle.unmap_ram(_PHYSICAL, len(scratch))
        cpu.drop_all_code()
        cpu.flush_tlb()
        cpu.clock = 0


def _capture(cpu: Probed, scratch: mmap.mmap) -> None:
    state = cpu.context

    def run(code: str, ring: int = 3) -> Exit:
        """Run bytes at the scratch page's start, each time from a fresh state.  Ends at HLT."""
        raw = bytes.fromhex(code) + b"\xf4"
        scratch[0x2000 : 0x2000 + len(raw)] = raw
        cpu.drop_all_code()
        state.eip = _LINEAR
        for name in ("ss", "ds", "es"):
            state.set_segment(name, 0, 0, 0xFFFFFFFF, 0xCF9300 | ring << 13)
        state.set_segment("cs", 0, 0, 0xFFFFFFFF, 0xCF9B00 | ring << 13)
        return cpu.run(4)

    def trap(what: str, exit_: Exit, *wanted: object) -> None:
        if not isinstance(exit_, Trap):
            raise _unknown(what)
        _expect(what, (exit_.vector, exit_.error_code, exit_.address, exit_.eip - _LINEAR), wanted)

    state.cr0, state.cr3, state.cr4, state.efer, state.esp = CR0_PAGED, _DIRECTORY, CR4_SSE, 0, 0
    store, load = "a300204000", "a100204000"
    trap("the error code", run(store), _PAGE_FAULT, PF_USER | PF_WRITE, _MISSING, 0)
    _expect("the CPL", (state.cpl, state.longs[ctx.IS_SOFTWARE32]), (3, 0))
    trap("the exception in flight", run(load), _PAGE_FAULT, PF_USER, _MISSING, 0)
    trap("CR3 or the exception in flight", run(load), _PAGE_FAULT, PF_USER, _MISSING, 0)
    trap("the flag of a software interrupt", run("90cd80"), 0x80, 0, 0, 3)
    _expect("the flag of a software interrupt", (state.software, state.quads[ctx.NEXT_EIP]), (True, _LINEAR + 3))
    trap("the ring in a page fault", run(load, ring=0), _PAGE_FAULT, 0, _MISSING, 0)
    _expect("the CPL", (state.cpl, state.software), (0, False))

    state.cr0 |= CR0_TS
    trap("CR0.TS", run("90d9ee"), _DEVICE_NOT_AVAILABLE, 0, 0, 1)
    state.cr0 &= ~CR0_TS
    state.cr4 = 0
    trap("CR4.OSFXSR", run("900f57c0"), 6, 0, 0, 1)
    state.cr4 = CR4_SSE
    _expect("CR0 and CR4", isinstance(run("900f57c0d9ee", ring=0), Halt), True)

    state.set_segment("fs", 0, _LINEAR, 0xFFFFFFFF, 0xCF9300)
    run("64a100000000", ring=0)
    _expect("the base of FS", state.eax, 0x0000A164)
    run("eb00", ring=0)
    state.quads[ctx.EAX], state.longs[ctx.HFLAGS32] = 0x12345678, state.longs[ctx.HFLAGS32] & ~ctx.HF_CS32
    state.eip = _LINEAR + 0x100
    scratch[0x2100:0x2104] = b"\xb8\x01\x00\xf4"
    cpu.run(4)
    _expect("the operand size", state.eax, 0x12340001)
    _expect("the interrupt shadow", isinstance(run("fb", ring=0), Halt) and not state.interrupt_shadow, True)
    if cpu.handle.native:
        state.set_debug_register(0, _LINEAR + 1)
        state.set_debug_register(7, 1)
        trap("DR7", run("9090", ring=0), _DEBUG_EXCEPTION, 0, 0, 1)
        _expect("the hardware breakpoints", list(state.quads[ctx.BREAKPOINTS : ctx.BREAKPOINTS + 4]), [0] * 4)
        state.set_debug_register(7, 0)
        _expect("DR7", isinstance(run("9090", ring=0), Halt), True)
