"""Vectors and results as words, for the runner's shared memory (``native/runner.c`` has the same layout)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sandbox.records import replace
from sandbox.semantics.vector import (
    BREAKPOINT,
    CODE16_SELECTOR,
    IN_CHILD,
    IN_PARENT,
    SELECTORS,
    Fault,
    Fpu,
    Result,
    Vector,
)

HEADER, WORDS = struct.Struct("<13I"), struct.Struct("<18I")
FPU = struct.Struct("<4HI80s128s")
FPU_SIZE = 220
BASE, INPUT, OUTPUT, SHARED = 0x1000, 0x20000, 0x820000, 0xC20000
_HAS_FPU, _GOES_ON, _CODE16, _OTHER, _WRITES_CODE = 1, 2, 4, 8, 64
_FORKED = IN_CHILD | IN_PARENT
_ABSENT = 1 << 31
_PAGE_FAULT = 14
_WITH_CODE = (8, 10, 11, 12, 13, 14, 17)


def pack_fpu(fpu: Fpu) -> bytes:
    """220 bytes: control, status, tags, 0, MXCSR, ST(0) to ST(7), XMM0 to XMM7."""
    return FPU.pack(fpu.control, fpu.status, fpu.tags, 0, fpu.mxcsr, fpu.stack, fpu.xmm)


def unpack_fpu(data: bytes, at: int) -> Fpu:
    control, status, tags, _, mxcsr, stack, xmm = FPU.unpack_from(data, at)
    return Fpu(control, status, tags, mxcsr, stack, xmm)


def pack_vector(vector: Vector) -> bytes:
    """One record: size, EIP, EFLAGS, registers, flags, pieces of memory; x87 and SSE; the pieces, code first."""
    body = b"" if vector.fpu is None else pack_fpu(vector.fpu)
    pieces = ((vector.place, vector.code), *vector.memory)
    for address, data in pieces:
        body += struct.pack("<II", address, len(data)) + data + bytes(-len(data) % 4)
    for address, left in vector.absent:
        body += struct.pack("<II", address, _ABSENT | left)
    return (
        HEADER.pack(
            HEADER.size + len(body),
            vector.eip,
            vector.eflags,
            *vector.registers,
            _flags_of(vector),
            len(pieces) + len(vector.absent),
        )
        + body
    )


def _flags_of(vector: Vector) -> int:
    narrow = vector.selectors[0] == CODE16_SELECTOR
    return (vector.fpu is not None) | narrow * _CODE16 | vector.forked | vector.writes_code * _WRITES_CODE


def unpack_results(data: bytes, count: int) -> Iterator[Result]:
    """As many results from the runner's output."""
    at = 0
    for _ in range(count):
        result, at = unpack_whole(data, at)
        yield result


def unpack_whole(data: bytes, at: int) -> tuple[Result, int]:
    """The result at an offset, with the records of faults before it and of another process behind it; their end."""
    restarts = []
    while _flags(data, at) & _GOES_ON:
        restarts.append(unpack_result(data, at))
        at += record_size(data, at)
    result, forked = unpack_result(data, at), _flags(data, at) & _FORKED
    at += record_size(data, at)
    if forked:
        result = replace(result, other=unpack_result(data, at).written)
        at += record_size(data, at)
    return (replace(result, restarts=tuple(restarts)) if restarts else result), at


def _flags(data: bytes, at: int) -> int:
    """Of the result's record at an offset."""
    return int.from_bytes(data[at + WORDS.size - 4 : at + WORDS.size], "little")


def record_size(data: bytes, at: int) -> int:
    """Bytes of the record at an offset, a vector's or a result's."""
    return int.from_bytes(data[at : at + 4], "little")


def unpack_result(data: bytes, at: int) -> Result:
    """The result whose record begins at an offset."""
    size, vector, error, cr2, eip, eflags, *rest = WORDS.unpack_from(data, at)
    end, at = at + size, at + WORDS.size
    fpu = None
    if rest[11] & _HAS_FPU:
        fpu = unpack_fpu(data, at)
        at += FPU_SIZE
    words = struct.unpack_from(f"<{(end - at) // 4}I", data, at)
    selectors = tuple(half for pair in rest[8:11] for half in (pair & 0xFFFF, pair >> 16))
    return Result(
        tuple(rest[:8]),
        eip - (vector == BREAKPOINT),
        eflags,
        selectors,
        tuple(zip(words[::2], words[1::2], strict=True)),
        _fault(vector, error, cr2),
        fpu,
    )


def _fault(vector: int, error: int, cr2: int) -> Fault | None:
    if vector == BREAKPOINT:
        return None
    return Fault(vector, error if vector in _WITH_CODE else 0, cr2 if vector == _PAGE_FAULT else 0)


def pack_result(result: Result, has_fpu: bool) -> bytes:
    """As the runner writes it."""
    made = b"".join(_record(each, has_fpu | _GOES_ON) for each in result.restarts)
    made += _record(result, has_fpu | (IN_CHILD if result.other else 0))
    if result.other:
        made += _record(Result((0,) * 8, 0, 0, (0,) * 6, result.other), _OTHER)
    return made


def _record(result: Result, flags: int) -> bytes:
    fault = result.fault or Fault(BREAKPOINT)
    body = pack_fpu(result.fpu) if result.fpu is not None else b""
    body += b"".join(struct.pack("<II", *each) for each in result.written)
    pairs = (low | high << 16 for low, high in zip(result.selectors[::2], result.selectors[1::2], strict=True))
    head = WORDS.pack(
        WORDS.size + len(body),
        fault.vector,
        fault.error,
        fault.address,
        result.eip + (fault.vector == BREAKPOINT),
        result.eflags,
        *result.registers,
        *pairs,
        flags,
    )
    return head + body


def unpack_vector(data: bytes, at: int, form: str, operand: int) -> Vector:
    """The vector whose record begins at an offset; form and operand are not in it."""
    size, eip, eflags, *rest = HEADER.unpack_from(data, at)
    end, at = at + size, at + HEADER.size
    fpu = None
    if rest[8] & _HAS_FPU:
        fpu = unpack_fpu(data, at)
        at += FPU_SIZE
    pieces, absent = [], []
    while at < end:
        address, length = struct.unpack_from("<II", data, at)
        if length & _ABSENT:
            absent.append((address, length & ~_ABSENT))
            at += 8
            continue
        pieces.append((address, data[at + 8 : at + 8 + length]))
        at += 8 + length + -length % 4
    made = Vector(form, pieces[0][1], eip, tuple(rest[:8]), eflags, tuple(pieces[1:]), fpu, operand)
    selectors = (CODE16_SELECTOR, *SELECTORS[1:]) if rest[8] & _CODE16 else SELECTORS
    return replace(
        made,
        selectors=selectors,
        absent=tuple(absent),
        forked=rest[8] & _FORKED,
        writes_code=bool(rest[8] & _WRITES_CODE),
    )
