"""A divergence as an image: an ordinary program that executes the vector and exits with 0 where the CPU does as told.

It works as the host's runner does: a signal's frame is filled with the vector's state, and the frame of the signal that
ends the vector is compared, word by word.  On hardware it passes; in the sandbox it fails at the word that differs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from sandbox.image.assemble import assemble_source, tool_for
from sandbox.records import dataclass
from sandbox.semantics.compare import VECTORS, Divergence
from sandbox.semantics.undefined import masked
from sandbox.semantics.vector import (
    BREAKPOINT,
    CODE,
    DATA,
    EAX,
    EBP,
    EBX,
    ECX,
    EDI,
    EDX,
    ESI,
    ESP,
    LOW,
    READ_ONLY,
    SELECTORS,
    STACK,
    Fpu,
    Result,
    Vector,
    word_before,
)
from sandbox.x86.masks import DF, STATUS_FLAGS
from sandbox.x86.paging import PAGE_SIZE

_CONTEXT, _FPU, _MEMORY = range(3)
"""Where a word is: struct sigcontext, struct _fpstate_32 behind it, an address."""
_GENERAL = {EDI: 16, ESI: 20, EBP: 24, ESP: 28, EBX: 32, EDX: 36, ECX: 40, EAX: 44}
_TRAP, _ERROR, _EIP, _CS, _EFLAGS, _SS, _CR2 = 48, 52, 56, 60, 64, 72, 84
_EXTENDED = 112
"""Offsets: asm/sigcontext.h."""
_COMPARED = STATUS_FLAGS | DF
_TEXT = """\
# {title}
#
# {form}: {code}
# On {processor}: {parts}.
# Written by `sandbox semantics --image`; the exit status is the number of the word that differs, 1 first.

        .include "linux.inc"
        .globl  _start
        .set    SYS_rt_sigaction, 174
        .set    SYS_sigaltstack, 186

        .text
_start: call    arena
        sys     sigaltstack, "offset stack_t", 0
        .irp    signal, 4, 5, 7, 8, 11
        sys     rt_sigaction, \\signal, "offset action", 0, 8
        .endr
        int3                                    # the handler puts the vector's state in the place of this
        hlt

arena:  mov     esi, offset areas               # address, bytes, protection, contents
1:      cmp     dword ptr [esi], 0
        je      3f
        push    esi
        mov     ebx, [esi]
        mov     ecx, [esi+4]
        mov     edx, 7
        mov     esi, 0x32                       # private, fixed, anonymous
        mov     edi, -1
        xor     ebp, ebp
        mov     eax, SYS_mmap2
        int     0x80
        pop     esi
        mov     edi, [esi]
        mov     eax, 0xcccccccc                 # INT3, where nothing else is
        mov     ecx, [esi+4]
        shr     ecx, 2
        rep     stosd
        add     esi, 12
        jmp     1b
3:      mov     esi, offset bytes               # address, number, value of each byte
4:      mov     edi, [esi]
        test    edi, edi
        jz      5f
        mov     ecx, [esi+4]
        add     esi, 8
        rep     movsb
        jmp     4b
5:      mov     esi, offset areas
6:      mov     ebx, [esi]
        test    ebx, ebx
        jz      7f
        mov     ecx, [esi+4]
        mov     edx, [esi+8]
        mov     eax, SYS_mprotect
        int     0x80
        add     esi, 12
        jmp     6b
7:      ret

        # The words of a table, each at an offset of esi (the context), of ebp (its x87 and SSE), or anywhere.
place:  mov     eax, [edi+4]
        cmp     dword ptr [edi], 1
        jb      1f
        ja      2f
        add     eax, ebp
        ret
1:      add     eax, esi
2:      ret

handler:
        mov     esi, [esp+12]
        add     esi, 20
        mov     ebp, [esi+76]
        inc     dword ptr signals
        cmp     dword ptr signals, 1
        ja      check
        or      byte ptr [ebp+{xstate}], 3
        mov     edi, offset loads
1:      cmp     dword ptr [edi], -1
        je      2f
        call    place
        mov     edx, [edi+8]
        mov     ecx, [eax]
        and     ecx, edx
        or      ecx, [edi+12]
        mov     [eax], ecx
        add     edi, 16
        jmp     1b
2:      ret

check:  mov     edi, offset checks
        xor     ebx, ebx
1:      inc     ebx
        cmp     dword ptr [edi], -1
        je      2f
        call    place
        mov     ecx, [eax]
        and     ecx, [edi+8]
        cmp     ecx, [edi+12]
        jne     3f
        add     edi, 16
        jmp     1b
2:      xor     ebx, ebx
3:      mov     eax, SYS_exit
        int     0x80

restorer:
        mov     eax, 173
        int     0x80

        .data
        .balign 4
action: .long   handler, 0x0c000004, restorer, -1, -1
stack_t: .long  alternate, 0, 65536
signals: .long  0
areas:
{areas}
        .long   0
bytes:
{bytes}
        .long   0
        .balign 4
loads:                                          # where, offset, what of it stays, value
{loads}
        .long   -1
checks:                                         # where, offset, what of it counts, value
{checks}
        .long   -1
        .bss
        .balign 64
alternate: .skip 65536
"""
_MANIFEST = """\
[image]
kind = "program"
title = "{title}"
file = "{name}.elf"
native = true
tool = "{tool}"

[expect]
status = 0
"""


@dataclass(frozen=True, slots=True)
class Word:
    """One of a table: which base, offset, mask, value."""

    base: int
    offset: int
    mask: int
    value: int
    note: str = ""


def can_show(vector: Vector) -> bool:
    """The program has ordinary pages and ordinary code; it brings nothing back."""
    return not (vector.absent or vector.forked or vector.writes_code) and vector.selectors == SELECTORS


def write(folder: Path, divergence: Divergence, processor: str, vendor: str) -> Path:
    """``NAME.S``, and ``NAME/manifest.toml`` with the program beside it.  Returns the manifest's folder."""
    name = name_of(divergence)
    source, home = folder / f"{name}.S", folder / name
    home.mkdir(parents=True, exist_ok=True)
    source.write_text(_source(divergence, processor, vendor))
    assemble_source(source, home / f"{name}.elf", "program", 0)
    manifest = _MANIFEST.format(title=_title(divergence), name=name, tool=tool_for(source))
    (home / "manifest.toml").write_text(manifest)
    return home


def name_of(divergence: Divergence) -> str:
    """``fcmovb-st-0xda-0xc1`` and so on: form, parts, code."""
    text = f"{divergence.vector.form} {' '.join(divergence.parts)} {divergence.vector.code.hex()}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80]


def _title(divergence: Divergence) -> str:
    return f"{divergence.vector.form}: {', '.join(divergence.parts)}"


def _source(divergence: Divergence, processor: str, vendor: str) -> str:
    vector = divergence.vector
    return _TEXT.format(
        title=_title(divergence),
        form=vector.form,
        code=vector.code.hex(" "),
        processor=processor,
        parts=_told(divergence.theirs),
        xstate=_EXTENDED + 512,
        areas="\n".join(f"        .long   {a:#x}, {size:#x}, {protection}" for a, size, protection in _areas(vector)),
        bytes="\n".join(_bytes(vector)),
        loads="\n".join(_lines(_loads(vector))),
        checks="\n".join(_lines(_checks(divergence, vendor))),
    )


def _told(result: Result) -> str:
    if result.fault is None:
        return f"goes on at {result.eip:#x}"
    fault = result.fault
    name = VECTORS.get(fault.vector, str(fault.vector))
    return f"{name}, error code {fault.error:#x}, CR2 {fault.address:#x}" if fault.vector == 14 else name


def _areas(vector: Vector) -> Iterator[tuple[int, int, int]]:
    """Address, size, protection at the end.  LOW, which kernels do not map for everyone, only where it is reached."""
    yield CODE, 64 * PAGE_SIZE, 5
    yield DATA, 2 * PAGE_SIZE, 3
    yield READ_ONLY, PAGE_SIZE, 1
    yield STACK, 2 * PAGE_SIZE, 3
    reached = (vector.operand, *(address for address, _ in vector.memory))
    if any(LOW <= each < LOW + 2 * PAGE_SIZE for each in reached):
        yield LOW, 2 * PAGE_SIZE, 3


def _bytes(vector: Vector) -> Iterator[str]:
    """Code, the pieces of memory, and what the arena holds around operand, stack and pointers."""
    near = sorted({at + step & ~3 for at in (vector.operand, *vector.registers) for step in range(-64, 576, 4)})
    words = [at for at in near if _in_arena(vector, at)]
    for at in words:
        yield _piece(at, struct.pack("<I", word_before(vector, at)))
    for address, data in (*vector.memory, (vector.eip, vector.code)):
        yield _piece(address, data)


def _piece(address: int, data: bytes) -> str:
    return f"        .long   {address:#x}, {len(data)}\n        .byte   {', '.join(map(hex, data))}"


def _in_arena(vector: Vector, address: int) -> bool:
    return any(first <= address < first + size for first, size, _ in _areas(vector) if first != CODE)


def _lines(words: Iterator[Word]) -> Iterator[str]:
    for word in words:
        line = f"        .long   {word.base}, {word.offset:#x}, {word.mask:#x}, {word.value:#x}"
        yield f"{line}  # {word.note}" if word.note else line


def _loads(vector: Vector) -> Iterator[Word]:
    for number, offset in _GENERAL.items():
        yield Word(_CONTEXT, offset, 0, vector.registers[number])
    yield Word(_CONTEXT, _EIP, 0, vector.eip)
    yield Word(_CONTEXT, _EFLAGS, 0, vector.eflags)
    if vector.fpu is not None:
        yield from (Word(base, offset, ~mask & 0xFFFFFFFF, value) for base, offset, mask, value, _ in _fpu(vector.fpu))


def _fpu(fpu: Fpu) -> Iterator[tuple[int, int, int, int, str]]:
    """Words of FSAVE's image, and of FXSAVE's for SSE: base, offset, mask, value, name."""
    full = sum(0 if fpu.tags >> each & 1 else 3 << 2 * each for each in range(8))
    yield _FPU, 0, 0xFFFF, fpu.control, "control"
    yield _FPU, 4, 0xFFFF, fpu.status, "status"
    yield _FPU, 8, 0xFFFF, full, "tags"
    yield _FPU, _EXTENDED + 24, 0xFFFFFFFF, fpu.mxcsr, "mxcsr"
    for at, value in enumerate(struct.unpack("<20I", fpu.stack)):
        yield _FPU, 28 + 4 * at, 0xFFFFFFFF, value, "stack"
    for at, value in enumerate(struct.unpack("<32I", fpu.xmm)):
        yield _FPU, _EXTENDED + 160 + 4 * at, 0xFFFFFFFF, value, "xmm"


def _checks(divergence: Divergence, vendor: str) -> Iterator[Word]:
    vector, theirs = divergence.vector, divergence.theirs
    ours_masked, other = masked(vector, vendor, theirs, divergence.ours)
    fault = theirs.fault
    yield Word(_CONTEXT, _TRAP, 0xFFFFFFFF, fault.vector if fault else BREAKPOINT, "exception")
    if fault is not None and fault.vector == 14:
        yield Word(_CONTEXT, _ERROR, 0xFFFFFFFF, fault.error, "error code")
        yield Word(_CONTEXT, _CR2, 0xFFFFFFFF, fault.address, "cr2")
    yield Word(_CONTEXT, _EIP, 0xFFFFFFFF, theirs.eip + (fault is None), "eip")
    for number, offset in _GENERAL.items():
        yield Word(_CONTEXT, offset, 0xFFFFFFFF, theirs.registers[number], "register")
    flags = _COMPARED & ~(ours_masked.eflags ^ theirs.eflags | other.eflags ^ divergence.ours.eflags)
    yield Word(_CONTEXT, _EFLAGS, flags, theirs.eflags & flags, "eflags")
    for address in sorted({at for at, _ in ours_masked.written + other.written}):
        value = dict(theirs.written).get(address, word_before(vector, address))
        yield Word(_MEMORY, address, 0xFFFFFFFF, value, "memory")
    if theirs.fpu is not None:
        for base, offset, mask, value, note in _fpu(theirs.fpu):
            if note != "tags":
                yield Word(base, offset, mask, value & mask, note)
        yield Word(_FPU, _EXTENDED + 4, 0xFF, theirs.fpu.tags, "tags")
