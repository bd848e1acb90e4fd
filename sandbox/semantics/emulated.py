"""The sandbox's CPU as an oracle: one machine, kept warm, ring 3 on the MMU under PAE paging."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sandbox.engine import context as ctx
from sandbox.engine import mends
from sandbox.engine.cpu import Cpu, EngineAbortError
from sandbox.engine.exits import BlocksSpent, Exit, Paused, PortDenied, Trap
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.records import replace
from sandbox.semantics.vector import (
    BREAKPOINT,
    CODE,
    CODE16_SELECTOR,
    CODE_PAGES,
    DATA,
    HANG,
    LOW,
    READ_ONLY,
    READING,
    RESET_FPU,
    SLOT,
    STACK,
    WRITABLE,
    Fault,
    Fpu,
    Result,
    Vector,
    arena,
)
from sandbox.x86.masks import CR0_AM, CR0_PAGED, CR4_PAE, CR4_SSE, EFER_NXE
from sandbox.x86.paging import NX, PAGE_SIZE, RW, US, P

RAM = 4 << 20
BLOCKS = 100_000
"""Transfers of control after which a vector counts as endless."""
_BEHIND = 32
"""Bytes behind its code that a vector which writes code may have written, too."""
_FEW_BLOCKS = 1000
"""The same where each may have to be translated anew."""
_GENERAL_PROTECTION, _PAGE_FAULT = 13, 14
_POINTERS, _DIRECTORIES, _TABLES, _SYSTEM = 0x1000, 0x2000, 0x6000, 0x10000
_GDT, _TSS = 0xFF000000, 0xFF000800
"""Linear addresses, in a page of the supervisor's at _SYSTEM."""
_FRAMES, _CODE_FRAMES = 0x200000, 0x100000
_GATES = (3, 4, 0x80)
"""Vectors that ring 3 may name in INT n, as Linux sets its gates (arch/x86/kernel/idt.c)."""
_DESCRIPTORS = (0, 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF)
"""Selectors 0 to 28h as in Linux's table on x86-64 (arch/x86/include/asm/segment.h): a program sees them by LAR."""
_TR, _GDT_LIMIT = 0x40, 0x7F
_PAGES = ((DATA, 2, RW), (READ_ONLY, 1, 0), (STACK, 2, RW), (LOW, 2, RW))


class SandboxCpu:
    """The sandbox's CPU.  The engine of the process is the one that ``mends.choose`` said."""

    def __init__(self, low: bool = True) -> None:
        self.memory = PhysicalMemory(RAM)
        self.cpu = Cpu()
        self.name = f"sandbox ({mends.chosen()})"
        self.memory.map_into(self.cpu)
        self.cpu.connect_ports(lambda port, size: 0, lambda port, size, value: None)
        self._base = arena()
        self._areas = list(self._writable())
        self._entries: dict[int, tuple[int, int]] = {}
        """By linear address of each page: where its entry lies, in quads, and what it is."""
        self._code_writable = False
        self._build_tables(low)
        self.memory.host_write(_FRAMES, self._base, Reason.IMAGE)
        self.memory.host_fill(_CODE_FRAMES, CODE_PAGES * PAGE_SIZE, 0xCC, Reason.IMAGE)
        self._fresh()
        self._start = self.cpu.new_context()

    def run(self, vectors: list[Vector]) -> list[Result]:
        """Results in order.  Before a place of code is used again, the engine forgets all code."""
        results: list[Result] = []
        used: set[int] = set()
        for vector in vectors:
            slot = vector.place & -SLOT
            if slot in used or not used:
                self.cpu.drop_all_code()
                used.clear()
            used.add(slot)
            results.append(self._execute(vector))
        return results

    def close(self) -> None:
        self.cpu.close()

    def _execute(self, vector: Vector) -> Result:
        memory, place = self.memory, self._physical(vector.place)
        memory.host_write(place, vector.code, Reason.IMAGE)
        for address, data in vector.memory:
            memory.host_write(self._physical(address), data, Reason.IMAGE)
        self._load(vector)
        self._let_code_be_written(vector.writes_code)
        if vector.absent:
            result, exit_ = self._with_restarts(vector)
        else:
            exit_ = self._run(_FEW_BLOCKS if vector.writes_code else BLOCKS)
            result = self._result(vector, exit_)
        slot = vector.place - CODE & -SLOT
        memory.host_fill(_CODE_FRAMES + slot, SLOT, 0xCC, Reason.IMAGE)
        if vector.absent or vector.writes_code:
            size = len(vector.code) + _BEHIND * vector.writes_code
            left = _CODE_FRAMES + CODE_PAGES * PAGE_SIZE - place
            memory.host_fill(place, min(size, left), 0xCC, Reason.IMAGE)
        if exit_ is None or vector.absent or vector.writes_code:
            self.cpu.drop_all_code()
        return result

    def _run(self, blocks: int = BLOCKS) -> Exit | None:
        try:
            exit_: Exit = self.cpu.run(blocks)
            while isinstance(exit_, Paused):
                exit_ = self.cpu.run(blocks)
        except EngineAbortError:
            return None
        return exit_

    def _with_restarts(self, vector: Vector) -> tuple[Result, Exit | None]:
        """Each absent page comes back at its first fault, as a kernel's handler brings it, and the CPU goes on."""
        self.cpu.drop_all_code()
        absent = dict(vector.absent)
        for page, left in absent.items():
            self._set(page, left)
        self.cpu.flush_tlb()
        restarts: list[Result] = []
        exit_ = self._run()
        while isinstance(exit_, Trap) and exit_.vector == _PAGE_FAULT and not exit_.software:
            page = exit_.address & -PAGE_SIZE
            if absent.pop(page, None) is None:
                break
            restarts.append(self._result(vector, exit_, over=False))
            self._set(page)
            self.cpu.context.resumes_at = -1
            exit_ = self._run()
        for page in absent:
            self._set(page)
        self.cpu.flush_tlb()
        return replace(self._result(vector, exit_), restarts=tuple(restarts)), exit_

    def _set(self, page: int, left: int | None = None) -> None:
        """A page of the arena as it always is, or with what is ``left`` of it."""
        at, entry = self._entries[page]
        if left is not None:
            entry = entry & ~RW if left == READING else 0
        self.memory.mutable_quads(Reason.TABLE)[at] = entry

    def _let_code_be_written(self, writable: bool) -> None:
        if writable == self._code_writable:
            return
        self._code_writable = writable
        quads = self.memory.mutable_quads(Reason.TABLE)
        for page in range(CODE, CODE + CODE_PAGES * PAGE_SIZE, PAGE_SIZE):
            at, entry = self._entries[page]
            quads[at] = entry | RW if writable else entry
        self.cpu.flush_tlb()

    def _load(self, vector: Vector) -> None:
        state = self.cpu.context
        state.data[:] = self._start.data
        quads = state.quads
        for slot, value in enumerate(vector.registers):
            quads[slot] = value
        quads[ctx.EIP] = vector.eip
        if vector.selectors[0] == CODE16_SELECTOR:
            state.set_segment("cs", CODE16_SELECTOR, CODE, 0xFFFF, 0xFB00)
        state.resumes_at = state.passes = state.watched = -1
        state.eflags = vector.eflags
        if vector.fpu is not None:
            _load_fpu(state, vector.fpu)

    def _result(self, vector: Vector, exit_: Exit | None, over: bool = True) -> Result:
        state = self.cpu.context
        fault, eip = _fault(exit_, state.eip & 0xFFFFFFFF, vector)
        return Result(
            tuple(state.quads[:8]),
            eip,
            state.eflags,
            tuple(state.quads[ctx.SEGMENT_SLOTS[name]] & 0xFFFF for name in ("cs", "ss", "ds", "es", "fs", "gs")),
            tuple(self._changes(vector, over)),
            fault,
            None if vector.fpu is None else _fpu(state),
        )

    def _changes(self, vector: Vector, over: bool) -> Iterator[tuple[int, int]]:
        """Words that are not as the vector put them; and puts back what the arena always holds, if it is over."""
        for linear, physical, size, base in self._areas:
            now = self.memory.read(physical, size)
            was = _with_pieces(base, linear, vector.memory)
            if now == base and was is base:
                continue
            if now != was:
                words, before = struct.unpack(f"<{size // 4}I", now), struct.unpack(f"<{size // 4}I", was)
                for at, value in enumerate(words):
                    if value != before[at]:
                        yield linear + 4 * at, value
            if over:
                self.memory.host_write(physical, base, Reason.IMAGE)

    def _fresh(self) -> None:
        """Ring 3 as Linux has it, at no instruction yet."""
        cpu, state = self.cpu, self.cpu.context
        cpu.reset()
        state.cr3, state.cr4, state.efer, state.cr0 = _POINTERS, CR4_SSE | CR4_PAE, EFER_NXE, CR0_PAGED | CR0_AM
        state.set_segment("cs", 0x23, 0, 0xFFFFFFFF, 0xCFFB00)
        for name in ("ss", "ds", "es"):
            state.set_segment(name, 0x2B, 0, 0xFFFFFFFF, 0xCFF300)
        for name in ("fs", "gs"):
            state.set_segment(name, 0, 0, 0, 0)
        state.set_segment("gdtr", 0, _GDT, _GDT_LIMIT, 0)
        state.set_segment("tr", _TR, _TSS, 0x67, 0x8900)
        _load_fpu(state, RESET_FPU)
        cpu.flush_tlb()

    def _build_tables(self, low: bool) -> None:
        memory = self.memory
        quads = memory.mutable_quads(Reason.TABLE)
        for number in range(4):
            quads[(_POINTERS >> 3) + number] = _DIRECTORIES + number * PAGE_SIZE | P
        tables: dict[int, int] = {}
        for linear, physical, flags in self._mappings():
            if linear < CODE and not low:
                continue
            table = tables.setdefault(linear >> 21, _TABLES + len(tables) * PAGE_SIZE)
            quads[(_DIRECTORIES >> 3) + (linear >> 21)] = table | P | RW | US
            place = (table >> 3) + (linear >> 12 & 511)
            quads[place] = physical | flags | P | US
            self._entries[linear] = place, physical | flags | P | US
        table = _TABLES + len(tables) * PAGE_SIZE
        quads[(_DIRECTORIES >> 3) + (_GDT >> 21)] = table | P | RW | US
        quads[(table >> 3) + (_GDT >> 12 & 511)] = _SYSTEM | P | RW
        for number, descriptor in enumerate(_DESCRIPTORS):
            quads[(_SYSTEM >> 3) + number] = descriptor
        quads[(_SYSTEM + (_TSS - _GDT) + 0x60) >> 3] = 0x68 << 48  # the IO bitmap begins behind the limit

    def _mappings(self) -> Iterator[tuple[int, int, int]]:
        """Linear address, frame, flags of each page."""
        for page in range(CODE_PAGES):
            yield CODE + page * PAGE_SIZE, _CODE_FRAMES + page * PAGE_SIZE, 0
        frame = _FRAMES
        for linear, pages, flags in _PAGES:
            for page in range(pages):
                yield linear + page * PAGE_SIZE, frame, flags | NX
                frame += PAGE_SIZE

    def _writable(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Areas that vectors change: linear and physical address, bytes, contents."""
        sizes = dict(WRITABLE)
        at = 0
        found = {}
        for linear, pages, _ in _PAGES:
            size = pages * PAGE_SIZE
            if linear in sizes:
                found[linear] = (linear, _FRAMES + at, size, self._base[at : at + size])
            at += size
        yield from (found[linear] for linear, _ in WRITABLE)

    def _physical(self, linear: int) -> int:
        if linear - CODE in range(CODE_PAGES * PAGE_SIZE):
            return _CODE_FRAMES + linear - CODE
        frame = _FRAMES
        for first, pages, _ in _PAGES:
            if linear - first in range(pages * PAGE_SIZE):
                return frame + linear - first
            frame += pages * PAGE_SIZE
        raise ValueError(f"{linear:#x} is not in the arena")


def _with_pieces(base: bytes, linear: int, pieces: tuple[tuple[int, bytes], ...]) -> bytes:
    made = None
    for address, data in pieces:
        if 0 <= address - linear < len(base):
            made = made or bytearray(base)
            made[address - linear : address - linear + len(data)] = data
    return base if made is None else bytes(made)


def _fault(exit_: Exit | None, eip: int, vector: Vector) -> tuple[Fault | None, int]:
    """What ended the vector, and where it is told of.

    INT n through a gate that ring 3 may not use is #GP with its number (SDM 3A, 6.12.1.1), at the instruction; the
    engine leaves that to who delivers.
    """
    if isinstance(exit_, Trap):
        if exit_.vector == BREAKPOINT and exit_.software:
            return None, exit_.eip - 1
        if exit_.software and exit_.vector not in _GATES:
            whole = exit_.eip == vector.eip + len(vector.code)  # with its prefixes
            return Fault(_GENERAL_PROTECTION, exit_.vector * 8 + 2), vector.eip if whole else exit_.eip - 2
        return Fault(exit_.vector, exit_.error_code, exit_.address), exit_.eip
    if isinstance(exit_, PortDenied):
        return Fault(_GENERAL_PROTECTION), exit_.eip
    if exit_ is None or isinstance(exit_, BlocksSpent):
        return Fault(HANG), eip
    return Fault(HANG - 1), eip


def _load_fpu(state: ctx.CpuContext, fpu: Fpu) -> None:
    tags = fpu.tags
    stack = [fpu.stack[at : at + 10] for at in range(0, 80, 10)]
    top = fpu.status >> 11 & 7
    state.set_x87(fpu.control, fpu.status, tags, stack)
    state.data[ctx.FPU_TOP] = top
    for number in range(8):
        at = ctx.XMM + number * ctx.XMM_STRIDE
        state.data[at : at + 16] = fpu.xmm[number * 16 : number * 16 + 16]
    state.mxcsr = fpu.mxcsr


def _fpu(state: ctx.CpuContext) -> Fpu:
    control, status, tags, stack = state.x87()
    return Fpu(control, status, tags, state.mxcsr, b"".join(stack), b"".join(map(state.xmm, range(8))))
