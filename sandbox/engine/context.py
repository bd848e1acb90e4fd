"""A CPU's state while it does not run: the engine's saved context, overlaid and patched.

Between two runs this blob is the CPU.  It holds fields that no register call reaches (hidden segment parts, the
translation flags that carry the CPL, the exception in flight), at offsets that no header promises; they are the
ones of 2.1.4 on 64-bit hosts, and ``sandbox.engine.selftest`` provokes known states once a process to verify each.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import overload

from sandbox.engine.library import (
    REG_EFLAGS,
    REG_FPCW,
    REG_FPSW,
    REG_MXCSR,
    check,
    library,
)
from sandbox.records import dataclass
from sandbox.x86.instruction import LONGEST_INSTRUCTION
from sandbox.x86.masks import (
    CR0_EM,
    CR0_ET,
    CR0_MP,
    CR0_PE,
    CR0_TS,
    CR4_OSFXSR,
    DR6_FIXED,
    DR7_FIXED,
    EFLAGS_FIXED,
    VM,
)

BLOB_HEADER = 40
"""Bytes of the engine's own before the CPU state in a context allocation."""

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
EIP = 16
_SEGMENTS = 184
SEGMENT_SLOTS = {
    name: (_SEGMENTS + 24 * slot) // 8
    for slot, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr"))
}
CS_BASE = SEGMENT_SLOTS["cs"] + 1
CR0, CR2, CR3, CR4 = 53, 55, 56, 57
INTERRUPT_START = 54
"""CR1, which no instruction reaches: where the last INT n began, prefixes and all (``native/system.S``)."""
HFLAGS32 = 176 // 4
SYSTEM_FIRST, SYSTEM_END = SEGMENT_SLOTS["ldtr"], CR0 + 9
"""Quad slots of LDTR, TR, GDTR, IDTR and the control registers: what belongs to a CPU rather than to a task."""

HF_CPL_MASK = 3
HF_INHIBIT, HF_CS32, HF_SS32, HF_ADDSEG, HF_PE = 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
HF_MP_EM_TS, HF_OSFXSR = 7 << 9, 1 << 22
HF_NO_FS, HF_NO_GS, HF_NO_DATA = 1 << 28, 1 << 29, 1 << 30
"""Of ours: FS, GS, or DS or ES may be null, so that code is translated with checks (``native/system.S``)."""
_PRESENT = 1 << 15
_NULL_FLAGS = {"fs": HF_NO_FS, "gs": HF_NO_GS, "ds": HF_NO_DATA, "es": HF_NO_DATA}
EFLAGS32, CC_SRC = 136 // 4, 152 // 8
_MP_EM_TS = CR0_MP | CR0_EM | CR0_TS
_TSS_BUSY = 1 << 9

_GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")

EFER = 592 // 8
FPU_TOP, FPU_STATUS, FPU_CONTROL, FPU_TAGS, FPU_REGISTERS = 604, 608, 610, 612, 624
_LAST_AT, _LAST = 754, struct.Struct("<2H2x2II4x")
"""FCS, FDS, FIP, FOP and FDP in the blob, as ``native/x87.S`` has them."""
_OPCODE_KNOWN, _OPCODE = 0x8000, 0x7FF
_PENDING = 0x80
"""ES of the status word."""
MXCSR, XMM, XMM_STRIDE = 816, 824, 64
FXSAVE_SIZE, MXCSR_MASK = 512, 0xFFFF
ERROR_CODE32, IS_SOFTWARE32, NEXT_EIP, OLD_EXCEPTION32 = 5384 // 4, 5388 // 4, 5392 // 8, 5496 // 4
DEBUG_REGISTERS, BREAKPOINTS = 5400 // 8, 5464 // 8


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment register with its hidden part: base (linear), limit (bytes - 1), flags (descriptor's high word)."""

    selector: int
    base: int
    limit: int
    flags: int


class _Word:
    """A 32-bit field at a quad slot of the blob.  The engine's own Jcc may carry EIP into the upper half."""

    def __init__(self, slot: int) -> None:
        self._slot = slot

    @overload
    def __get__(self, context: None, owner: type[CpuContext]) -> _Word: ...

    @overload
    def __get__(self, context: CpuContext, owner: type[CpuContext]) -> int: ...

    def __get__(self, context: CpuContext | None, owner: type[CpuContext]) -> int | _Word:
        return self if context is None else context.quads[self._slot] & 0xFFFFFFFF

    def __set__(self, context: CpuContext, value: int) -> None:
        context.quads[self._slot] = value & 0xFFFFFFFF


class CpuContext:
    """One saved CPU state.  ``quads`` and ``longs`` are the raw words for hot paths; attributes are for the rest."""

    __slots__ = ("_handle", "data", "handle", "longs", "passes", "quads", "resumes_at", "size", "watched")

    watched: int
    """Linear address of the instruction at which a watch has stopped, and which shall pass, or -1."""
    resumes_at: int
    """Linear address at which the next block goes on with one already counted, or -1."""
    passes: int
    """Linear address of a breakpoint that has been reported and shall be passed once, or -1."""
    handle: int
    """Host address of the engine's allocation."""

    eax, ecx, edx, ebx = _Word(EAX), _Word(ECX), _Word(EDX), _Word(EBX)
    esp, ebp, esi, edi = _Word(ESP), _Word(EBP), _Word(ESI), _Word(EDI)
    eip = _Word(EIP)
    cr2, cr3 = _Word(CR2), _Word(CR3)
    efer = _Word(EFER)

    def __init__(self, uc: ctypes.c_void_p) -> None:
        engine = library()
        handle = ctypes.c_void_p()
        check(engine.uc_context_alloc(uc, ctypes.byref(handle)), "a context")
        self._handle = handle
        self.handle = handle.value or 0
        self.resumes_at = self.passes = self.watched = -1
        self.size = int(engine.uc_context_size(uc)) - BLOB_HEADER
        raw = (ctypes.c_uint8 * self.size).from_address((handle.value or 0) + BLOB_HEADER)
        self.data = memoryview(raw).cast("B")
        whole = self.size & ~7
        self.quads = self.data[:whole].cast("Q")
        self.longs = self.data[:whole].cast("I")

    def __del__(self) -> None:
        handle, self._handle = getattr(self, "_handle", None), ctypes.c_void_p()
        if handle:
            self.data = self.quads = self.longs = memoryview(b"")
            library().uc_context_free(handle)

    @property
    def eflags(self) -> int:
        """EFLAGS; the engine keeps the arithmetic flags lazily, so this is a call."""
        return self._read(REG_EFLAGS) | EFLAGS_FIXED

    @eflags.setter
    def eflags(self, value: int) -> None:
        self._write(REG_EFLAGS, value & 0xFFFFFFFF | EFLAGS_FIXED)

    @property
    def cr0(self) -> int:
        """CR0.  Setting it changes what the translator assumes (PE, and TS, EM and MP for #NM), not the TLB."""
        return self.longs[2 * CR0]

    @cr0.setter
    def cr0(self, value: int) -> None:
        self.quads[CR0] = value & 0xFFFFFFFF | CR0_ET
        hidden = self.longs[HFLAGS32] & ~(HF_PE | HF_MP_EM_TS)
        self.longs[HFLAGS32] = hidden | (value & CR0_PE) << 7 | (value & _MP_EM_TS) << 8
        self._set_addseg()

    @property
    def cr4(self) -> int:
        """CR4.  Setting it changes what the translator assumes (OSFXSR), not the TLB."""
        return self.longs[2 * CR4]

    @cr4.setter
    def cr4(self, value: int) -> None:
        self.quads[CR4] = value & 0xFFFFFFFF
        hidden = self.longs[HFLAGS32] & ~HF_OSFXSR
        self.longs[HFLAGS32] = hidden | (HF_OSFXSR if value & CR4_OSFXSR else 0)

    @property
    def cpl(self) -> int:
        """Current privilege level, 0 or 3 (1 and 2 where a guest uses them)."""
        return self.longs[HFLAGS32] & HF_CPL_MASK

    @property
    def interrupt_shadow(self) -> bool:
        """The last instruction was STI, MOV SS or POP SS: no interrupt before the next one (SDM 3A, 6.8.3)."""
        return bool(self.longs[HFLAGS32] & HF_INHIBIT)

    def general(self) -> dict[str, int]:
        """The eight general registers by name, in encoding order."""
        return {name: self.quads[slot] for slot, name in enumerate(_GENERAL)}

    def segment(self, name: str) -> SegmentState:
        """A segment or system-segment register (``cs`` … ``gs``, ``ldtr``, ``tr``, ``gdtr``, ``idtr``)."""
        slot = SEGMENT_SLOTS[name]
        last = self.quads[slot + 2]
        return SegmentState(self.quads[slot] & 0xFFFF, self.quads[slot + 1] & 0xFFFFFFFF, last & 0xFFFFFFFF, last >> 32)

    def set_segment(self, name: str, selector: int, base: int, limit: int, flags: int) -> None:
        """Load a segment register, hidden part and all, as a descriptor load by the CPU would.

        Writing ``ss`` sets the CPL to its descriptor's DPL; ``cs`` and ``ss`` set the default operand and stack
        sizes.  ``flags`` is the descriptor's second word (SDM 3A, 3.4.5) without its base bits.  A task register's
        busy bit is dropped: the engine refuses call gates with it.
        """
        slot = SEGMENT_SLOTS[name]
        if name == "tr":
            flags &= ~_TSS_BUSY
        self.quads[slot] = selector
        self.quads[slot + 1] = base
        self.quads[slot + 2] = limit | flags << 32
        hidden = self.longs[HFLAGS32]
        wide = 1 << 22
        if name == "cs":
            self.longs[HFLAGS32] = hidden & ~HF_CS32 | (HF_CS32 if flags & wide else 0)
        elif name == "ss":
            hidden = hidden & ~(HF_SS32 | HF_CPL_MASK) | (HF_SS32 if flags & wide else 0) | flags >> 13 & 3
            self.longs[HFLAGS32] = hidden
        elif not flags & _PRESENT and name in _NULL_FLAGS:
            self.longs[HFLAGS32] = hidden | _NULL_FLAGS[name]
        if name in ("cs", "ds", "es", "ss"):
            self._set_addseg()

    def _set_addseg(self) -> None:
        """Tell the translator whether segment bases matter: always but with flat 32-bit protected segments."""
        hidden = self.longs[HFLAGS32]
        simple = hidden & HF_PE and hidden & HF_CS32 and not self.longs[EFLAGS32] & VM
        based = not simple or any(self.quads[SEGMENT_SLOTS[each] + 1] for each in ("ds", "es", "ss"))
        self.longs[HFLAGS32] = hidden & ~HF_ADDSEG | (HF_ADDSEG if based else 0)

    @property
    def linear_eip(self) -> int:
        """EIP with the base of CS, as the engine has it: behind 4 GB it does not begin again at 0."""
        return self.quads[CS_BASE] + self.quads[EIP]

    def code_address(self, eip: int) -> int:
        """The linear address of an EIP in the present CS."""
        return self.quads[CS_BASE] + eip & 0xFFFFFFFF

    @property
    def software(self) -> bool:
        """The last trap was INT n, INT3 or INTO, not a fault."""
        return bool(self.longs[IS_SOFTWARE32])

    def interrupt_start(self, eip: int) -> int:
        """EIP of the INT n, INT3 or INTO that trapped with ``eip`` behind it: that of its first prefix."""
        start = self.longs[2 * INTERRUPT_START]
        return start if 0 < (eip - start) & 0xFFFFFFFF <= LONGEST_INSTRUCTION else eip - 2 & 0xFFFFFFFF

    @property
    def error_code(self) -> int:
        return self.longs[ERROR_CODE32]

    def debug_register(self, number: int) -> int:
        """DR0 to DR3, DR6, DR7."""
        return self.longs[2 * (DEBUG_REGISTERS + number)]

    def reset_debug(self) -> None:
        """DR0 to DR3, DR6 and DR7 as after power-up (SDM 3A, table 9-1)."""
        for number in (0, 1, 2, 3, 6, 7):
            self.set_debug_register(number, 0)

    def set_debug_register(self, number: int, value: int) -> None:
        """Set DR0 to DR3, DR6 or DR7; their fixed bits stay (SDM 3B, 17.2)."""
        fixed = {6: DR6_FIXED, 7: DR7_FIXED}.get(number, 0)
        self.quads[DEBUG_REGISTERS + number] = value & 0xFFFFFFFF | fixed

    def xmm(self, number: int) -> bytes:
        """The 16 bytes of XMM0 to XMM7."""
        at = XMM + number * XMM_STRIDE
        return bytes(self.data[at : at + 16])

    def set_xmm(self, number: int, value: bytes) -> None:
        at = XMM + number * XMM_STRIDE
        self.data[at : at + 16] = value

    def mm(self, number: int) -> bytes:
        """The 8 bytes of MM0 to MM7, the significands of the physical x87 registers."""
        at = FPU_REGISTERS + number * 16
        return bytes(self.data[at : at + 8])

    def set_mm(self, number: int, value: bytes) -> None:
        """Set MM0 to MM7; as by an MMX instruction, exponent and sign become ones and all tags valid, TOP 0."""
        at = FPU_REGISTERS + number * 16
        self.data[at : at + 10] = value + b"\xff\xff"
        self.data[FPU_TAGS : FPU_TAGS + 8] = bytes(8)
        self.data[FPU_TOP] = 0

    @property
    def mxcsr(self) -> int:
        """MXCSR.  Setting it sets the engine's rounding and denormal modes with it."""
        return int.from_bytes(self.data[MXCSR : MXCSR + 4], "little")

    @mxcsr.setter
    def mxcsr(self, value: int) -> None:
        self._write(REG_MXCSR, value)

    def x87(self) -> tuple[int, int, int, list[bytes]]:
        """Control word, status word (with TOP), tag word in FXSAVE's short form (bit set: in use), ST(0) to ST(7)."""
        data = self.data
        top = data[FPU_TOP] & 7
        control = int.from_bytes(data[FPU_CONTROL : FPU_CONTROL + 2], "little")
        status = int.from_bytes(data[FPU_STATUS : FPU_STATUS + 2], "little") & ~0x3800 | top << 11
        tags = sum((not data[FPU_TAGS + number]) << number for number in range(8))
        stack = []
        for number in range(8):
            at = FPU_REGISTERS + (number + top & 7) * 16
            stack.append(bytes(data[at : at + 10]))
        return control, status, tags, stack

    def set_x87(self, control: int, status: int, tags: int, stack: Sequence[bytes]) -> None:
        """Set what ``x87`` gives, in the same forms; precision and rounding follow the control word.

        ES and B of the status follow its exceptions and the masks, as behind FRSTOR and FXRSTOR (SDM 1, 8.1.3.3).
        """
        status = status & ~0x8080 | (0x8080 if status & ~control & 0x3F else 0)
        self._write(REG_FPCW, control)
        self._write(REG_FPSW, status)
        top = status >> 11 & 7
        for number in range(8):
            self.data[FPU_TAGS + number] = not tags >> number & 1
            at = FPU_REGISTERS + (number + top & 7) * 16
            self.data[at : at + 10] = stack[number]

    @property
    def last_x87(self) -> tuple[int, int, int, int, int]:
        """FIP, FCS, FOP, FDP, FDS (SDM 1, 8.1.8): the last x87 instruction that is no control instruction, its operand.

        FOP is known from when the exception is raised, or from when it was loaded or stored; before it is 0.
        """
        selector, operand_selector, offset, opcode, operand = _LAST.unpack_from(self.data, _LAST_AT)
        return offset, selector, opcode & _OPCODE, operand, operand_selector

    @last_x87.setter
    def last_x87(self, value: tuple[int, int, int, int, int]) -> None:
        offset, selector, opcode, operand, operand_selector = value
        known = opcode & _OPCODE | _OPCODE_KNOWN
        _LAST.pack_into(self.data, _LAST_AT, selector, operand_selector, offset, known, operand)

    def fxsave(self) -> bytes:
        """The 512 bytes of FXSAVE as a 64-bit kernel has them: offsets, no selectors (SDM 1, 10.5.1).

        The last instruction and operand are told while an exception is pending, else 0, as by an AMD processor.
        """
        control, status, tags, stack = self.x87()
        image = bytearray(FXSAVE_SIZE)
        struct.pack_into("<HHB", image, 0, control, status, tags)
        if status & _PENDING:
            offset, _, opcode, operand, _ = self.last_x87
            struct.pack_into("<HQQ", image, 6, opcode, offset, operand)
        struct.pack_into("<II", image, 24, self.mxcsr, MXCSR_MASK)
        for number in range(8):
            image[32 + 16 * number : 42 + 16 * number] = stack[number]
            image[160 + 16 * number : 176 + 16 * number] = self.xmm(number)
        return bytes(image)

    def fxrstor(self, image: bytes) -> None:
        """Set x87, MMX and SSE from the 512 bytes of FXSAVE.  Raises ValueError for a reserved bit of MXCSR."""
        control, status, tags = struct.unpack_from("<HHB", image, 0)
        (mxcsr,) = struct.unpack_from("<I", image, 24)
        if mxcsr & ~MXCSR_MASK:
            raise ValueError(f"MXCSR {mxcsr:#x} has reserved bits; the CPU would raise #GP")
        self.set_x87(control, status, tags, [image[at : at + 10] for at in range(32, 160, 16)])
        opcode, offset, operand = struct.unpack_from("<HI4xI", image, 6)
        self.last_x87 = (offset, 0, opcode, operand, 0)
        for number in range(8):
            self.set_xmm(number, image[160 + 16 * number : 176 + 16 * number])
        self.mxcsr = mxcsr

    def reset_fpu(self) -> None:
        """x87 and SSE as after FNINIT and power-up: all exceptions masked, all registers empty (SDM 3A, 9.1.1)."""
        self.set_x87(0x37F, 0, 0, [bytes(10)] * 8)
        self.last_x87 = (0, 0, 0, 0, 0)
        for number in range(8):
            self.set_xmm(number, bytes(16))
        self.mxcsr = 0x1F80

    def _read(self, register: int) -> int:
        value = ctypes.c_uint64()
        check(library().uc_context_reg_read(self._handle, register, ctypes.byref(value)), "to read a register")
        return value.value & 0xFFFFFFFF

    def _write(self, register: int, value: int) -> None:
        word = ctypes.c_uint64(value)
        check(library().uc_context_reg_write(self._handle, register, ctypes.byref(word)), "to write a register")

    def copy_from(self, other: CpuContext) -> None:
        """Make this the same state as ``other``, of whatever CPU (the self-test proves the blob portable)."""
        self.data[:] = other.data
        self.longs[OLD_EXCEPTION32] = 0xFFFFFFFF
        self.resumes_at, self.passes, self.watched = other.resumes_at, other.passes, other.watched

    def copy_system_from(self, other: CpuContext) -> None:
        """Take LDTR, TR, GDTR, IDTR and CR0 to CR4 from another state: what belongs to a CPU, not to a task."""
        self.quads[SYSTEM_FIRST:SYSTEM_END] = other.quads[SYSTEM_FIRST:SYSTEM_END]
        self.cr0, self.cr4 = other.cr0, other.cr4
