"""``struct sigcontext`` and ``struct _fpstate`` of Linux i386, and the tag words of FSAVE and FXSAVE.

The state of the FPU lies in a signal frame twice: as FSAVE has it, and as FXSAVE has it right behind::

    0         28          108     110    112                  112 + 512
    | env     | ST0..ST7  | swd   | magic | FXSAVE's 512 bytes |
"""

from __future__ import annotations

from struct import Struct

from sandbox.records import dataclass

_SIGCONTEXT = Struct("<" + 4 * "H2x" + "8I" + "3I" + "H2x" + "2I" + "H2x" + "3I")
SIGCONTEXT_BYTES = _SIGCONTEXT.size
_FSAVE = Struct("<7I80s2H")
FSAVE_BYTES = _FSAVE.size
FXSAVE_BYTES = 512
MXCSR_BITS = 0xFFFF
_X87_STACK = range(32, 160, 16)


@dataclass(slots=True)
class SigContext:
    """The registers of an interrupted program, in the order in which they lie in memory."""

    gs: int
    fs: int
    es: int
    ds: int
    edi: int
    esi: int
    ebp: int
    esp: int
    ebx: int
    edx: int
    ecx: int
    eax: int
    trapno: int
    err: int
    eip: int
    cs: int
    eflags: int
    esp_at_signal: int
    ss: int
    fpstate: int
    oldmask: int
    cr2: int

    @classmethod
    def unpack(cls, data: bytes) -> SigContext:
        return cls(*_SIGCONTEXT.unpack(data))

    def pack(self) -> bytes:
        return _SIGCONTEXT.pack(
            self.gs, self.fs, self.es, self.ds, self.edi, self.esi, self.ebp, self.esp, self.ebx, self.edx, self.ecx,
            self.eax, self.trapno, self.err, self.eip, self.cs, self.eflags, self.esp_at_signal, self.ss, self.fpstate,
            self.oldmask, self.cr2,
        )  # fmt: skip


def _full_tags(image: bytes) -> int:
    """FSAVE's two bits a register from FXSAVE's one: 0 valid, 1 zero, 2 special, 3 empty (SDM 1, 8.1.7)."""
    top = image[3] >> 3 & 7
    tags = 0
    for number in range(8):
        tag = 3
        if image[4] >> number & 1:
            at = 32 + 16 * (number - top & 7)
            exponent = int.from_bytes(image[at + 8 : at + 10], "little") & 0x7FFF
            if exponent == 0x7FFF:
                tag = 2
            elif not exponent:
                tag = 2 if any(image[at : at + 8]) else 1
            else:
                tag = 0 if image[at + 7] & 0x80 else 2
        tags |= tag << 2 * number
    return tags


def fsave_image(image: bytes, code: int = 0x23) -> bytes:
    """The 112 bytes that lie before FXSAVE's 512 in a frame; magic 0 says that they are there.

    Where the last instruction's selector would be stands ``code``, the interrupted program's CS, for FXSAVE in a 64-bit
    kernel keeps none (convert_from_fxsr, arch/x86/kernel/fpu/regset.c).
    """
    control, status = int.from_bytes(image[0:2], "little"), int.from_bytes(image[2:4], "little")
    offset, operand = (int.from_bytes(image[at : at + 4], "little") for at in (8, 16))
    stack = b"".join(image[at : at + 10] for at in _X87_STACK)
    high = 0xFFFF0000
    head = control | high, status | high, _full_tags(image) | high
    return _FSAVE.pack(*head, offset, code, operand, high | 0x2B, stack, status, 0)


def merge_fsave(legacy: bytes, image: bytes) -> bytes:
    """FXSAVE's image with x87 taken from FSAVE's part and MXCSR's reserved bits cleared, as sigreturn restores it."""
    control, status, tags, offset, code, operand, _, stack, _, _ = _FSAVE.unpack(legacy)
    merged = bytearray(image)
    merged[0:2] = (control & 0xFFFF).to_bytes(2, "little")
    merged[2:4] = (status & 0xFFFF).to_bytes(2, "little")
    merged[4] = sum((tags >> 2 * number & 3 != 3) << number for number in range(8))
    merged[6:8] = (code >> 16).to_bytes(2, "little")
    merged[8:24] = offset.to_bytes(8, "little") + operand.to_bytes(8, "little")
    for number, at in enumerate(_X87_STACK):
        merged[at : at + 10] = stack[10 * number : 10 * number + 10]
    mxcsr = int.from_bytes(merged[24:28], "little") & MXCSR_BITS
    merged[24:28] = mxcsr.to_bytes(4, "little")
    return bytes(merged)
