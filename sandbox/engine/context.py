"""A CPU's state while it does not run: the engine's saved context, overlaid and patched.

Between two runs this blob is the CPU.  It holds fields that no register call reaches (hidden segment parts, the
translation flags that carry the CPL, the exception in flight), at offsets that no header promises; they are the
ones of 2.1.4 on 64-bit hosts, and ``sandbox.engine.selftest`` provokes known states once a process to verify each.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import overload

from sandbox.engine.library import REG_EFLAGS, check, library

BLOB_HEADER = 40
"""Bytes of the engine's own before the CPU state in a context allocation."""

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
EIP = 16
EFLAGS, CC_SRC = 17, 19
CC_OP32, DF32 = 42, 43
CC_OP_EFLAGS = 1
ARITHMETIC, DIRECTION = 0x8D5, 0x400
_SEGMENTS = 184
SEGMENT_SLOTS = {
    name: (_SEGMENTS + 24 * slot) // 8
    for slot, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr"))
}
CR0, CR2, CR3, CR4 = 53, 55, 56, 57
HFLAGS32 = 176 // 4
SYSTEM_FIRST, SYSTEM_END = SEGMENT_SLOTS["ldtr"], CR0 + 9
"""Quad slots of LDTR, TR, GDTR, IDTR and the control registers: what belongs to a CPU rather than to a task."""

HF_CPL_MASK = 3
HF_INHIBIT = 1 << 3
HF_CS32, HF_SS32, HF_ADDSEG, HF_PE = 1 << 4, 1 << 5, 1 << 6, 1 << 7
EFLAGS_FIXED = 0x2

_GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")


EFER = 592 // 8
FPU_TOP, FPU_STATUS, FPU_CONTROL, FPU_TAGS, FPU_REGISTERS = 604, 608, 610, 612, 624
MXCSR, XMM, XMM_STRIDE = 816, 824, 64
ERROR_CODE32, IS_SOFTWARE32, NEXT_EIP, OLD_EXCEPTION32 = 5384 // 4, 5388 // 4, 5392 // 8, 5496 // 4
DEBUG_REGISTERS = 5400 // 8


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment register with its hidden part: base (linear), limit (bytes - 1), flags (descriptor's high word)."""

    selector: int
    base: int
    limit: int
    flags: int


class _Word:
    """A 32-bit field at a quad slot of the blob."""

    def __init__(self, slot: int) -> None:
        self._slot = slot

    @overload
    def __get__(self, context: None, owner: type[CpuContext]) -> _Word: ...

    @overload
    def __get__(self, context: CpuContext, owner: type[CpuContext]) -> int: ...

    def __get__(self, context: CpuContext | None, owner: type[CpuContext]) -> int | _Word:
        return self if context is None else context.quads[self._slot]

    def __set__(self, context: CpuContext, value: int) -> None:
        context.quads[self._slot] = value & 0xFFFFFFFF


class CpuContext:
    """One saved CPU state.  ``quads`` and ``longs`` are the raw words for hot paths; attributes are for the rest."""

    __slots__ = ("_handle", "data", "handle", "longs", "passes", "quads", "resumes_at", "size")

    resumes_at: int
    """Linear address at which a stop that was not the guest's own left a counted block unexecuted, or -1."""
    passes: int
    """Linear address of a breakpoint that has been reported and shall be passed once, or -1."""
    handle: int
    """Host address of the engine's allocation."""

    eax, ecx, edx, ebx = _Word(EAX), _Word(ECX), _Word(EDX), _Word(EBX)
    esp, ebp, esi, edi = _Word(ESP), _Word(EBP), _Word(ESI), _Word(EDI)
    eip = _Word(EIP)
    cr0, cr2, cr3, cr4 = _Word(CR0), _Word(CR2), _Word(CR3), _Word(CR4)
    efer = _Word(EFER)

    def __init__(self, uc: ctypes.c_void_p) -> None:
        engine = library()
        handle = ctypes.c_void_p()
        check(engine.uc_context_alloc(uc, ctypes.byref(handle)), "a context")
        self._handle = handle
        self.handle = handle.value or 0
        self.resumes_at = self.passes = -1
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
        value = ctypes.c_uint64()
        check(library().uc_context_reg_read(self._handle, REG_EFLAGS, ctypes.byref(value)), "to read EFLAGS")
        return value.value & 0xFFFFFFFF | EFLAGS_FIXED

    @eflags.setter
    def eflags(self, value: int) -> None:
        word = ctypes.c_uint64(value | EFLAGS_FIXED)
        check(library().uc_context_reg_write(self._handle, REG_EFLAGS, ctypes.byref(word)), "to write EFLAGS")

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
        sizes.  ``flags`` is the descriptor's second word (SDM 3A, 3.4.5) without its base bits.
        """
        slot = SEGMENT_SLOTS[name]
        self.quads[slot] = selector
        self.quads[slot + 1] = base
        self.quads[slot + 2] = limit | flags << 32
        hidden = self.longs[HFLAGS32]
        wide = 1 << 22
        if name == "cs":
            hidden = hidden & ~HF_CS32 | (HF_CS32 if flags & wide else 0)
        elif name == "ss":
            hidden = hidden & ~(HF_SS32 | HF_CPL_MASK) | (HF_SS32 if flags & wide else 0) | flags >> 13 & 3
        if name in ("ds", "es", "ss"):
            based = any(self.segment(each).base for each in ("ds", "es", "ss"))
            hidden = hidden & ~HF_ADDSEG | (HF_ADDSEG if based else 0)
        self.longs[HFLAGS32] = hidden

    @property
    def software(self) -> bool:
        """The last trap was INT n, INT3 or INTO, not a fault."""
        return bool(self.longs[IS_SOFTWARE32])

    @property
    def error_code(self) -> int:
        return self.longs[ERROR_CODE32]

    def debug_register(self, number: int) -> int:
        """DR0 to DR7 (DR4 and DR5 alias in the engine's own slots)."""
        return self.quads[DEBUG_REGISTERS + number] & 0xFFFFFFFF

    def xmm(self, number: int) -> bytes:
        """The 16 bytes of XMM0 to XMM7."""
        at = XMM + number * XMM_STRIDE
        return bytes(self.data[at : at + 16])

    def set_xmm(self, number: int, value: bytes) -> None:
        at = XMM + number * XMM_STRIDE
        self.data[at : at + 16] = value

    @property
    def mxcsr(self) -> int:
        return int.from_bytes(self.data[MXCSR : MXCSR + 4], "little")

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

    def copy_from(self, other: CpuContext) -> None:
        """Make this the same state as ``other``, of whatever CPU (the self-test proves the blob portable)."""
        self.data[:] = other.data
        self.longs[OLD_EXCEPTION32] = 0xFFFFFFFF

    def copy_system_from(self, other: CpuContext) -> None:
        """Take LDTR, TR, GDTR, IDTR and CR0 to CR4 from another state: what belongs to a CPU, not to a task."""
        self.quads[SYSTEM_FIRST:SYSTEM_END] = other.quads[SYSTEM_FIRST:SYSTEM_END]
