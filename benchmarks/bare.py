"""A program without a kernel: its segments under fixed PAE tables, on the stock binding or the engine's CPU."""

from __future__ import annotations

import time
from typing import Any

from sandbox.engine import predictor
from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Trap
from sandbox.image.elf import parse_executable
from sandbox.machine.memory import PhysicalMemory, Reason
from sandbox.x86.masks import (
    CR0_PAGED,
    CR4_PAE,
    CR4_SSE,
    EFER_NXE,
    MSR_EFER,
)
from sandbox.x86.paging import NX, PAE, PAGE_SIZE, RW, US, A, D, P

RAM = 64 << 20
PGD, PMDS, TABLES, FRAMES = 0x1000, 0x2000, 0x100000, 0x400000
"""Physical: the four entries, the four directories, tables as needed, then the program's pages."""
STACK_PAGE, STACK_TOP = 0xBFFFF000, 0xBFFFFFF0
DATA_PAGE = P | RW | US | A | D | NX
ENDLESS = 1 << 62
NOWHERE = 0xFFFFF000
EXIT = 1
NO_BLOCK = (1 << 64) - 1


class BareProgram:
    """A program in memory with everything mapped: data NX, code read-only, as the kernel maps it."""

    def __init__(self, program: bytes) -> None:
        self.memory = PhysicalMemory(RAM)
        self.quads = self.memory.mutable_quads(Reason.TABLE)
        self._next_table, self._next_frame = TABLES, FRAMES
        for gigabyte in range(4):
            self.quads[(PGD >> 3) + gigabyte] = PMDS + (gigabyte << 12) | P
        parsed = parse_executable(program, "benchmark")
        self.entry = parsed.entry
        self.data_entries: list[int] = []
        """Quad indexes of the entries of data pages, upwards."""
        for segment in parsed.segments:
            first, end = segment.vaddr & ~0xFFF, segment.vaddr + segment.memsz
            writable = bool(segment.flags & 2)
            physical = self._next_frame
            for linear in range(first, end, PAGE_SIZE):
                at = self._map(linear, DATA_PAGE if writable else P | US | A)
                if writable:
                    self.data_entries.append(at)
            if segment.filesz:
                data = program[segment.offset : segment.offset + segment.filesz]
                self.memory.host_write(physical + (segment.vaddr & 0xFFF), data, Reason.IMAGE)
        self._map(STACK_PAGE, DATA_PAGE)
        self.data_values = [self.quads[at] for at in self.data_entries]

    def _map(self, linear: int, flags: int) -> int:
        slot = (PMDS + (linear >> 30 << 12) >> 3) + (linear >> 21 & 511)
        if not self.quads[slot]:
            self.quads[slot] = self._next_table | P | RW | US | A
            self._next_table += PAGE_SIZE
        at = ((self.quads[slot] & PAE.frame_mask) >> 3) + (linear >> 12 & 511)
        if not self.quads[at]:
            self.quads[at] = self._next_frame | flags
            self._next_frame += PAGE_SIZE
        return at


class StockLoop:
    """A program on the stock ``unicorn`` binding, with no hook but that of its final INT."""

    def __init__(self, program: bytes) -> None:
        from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_32, UC_PROT_ALL, Uc, x86_const

        self.bare = bare = BareProgram(program)
        self.uc: Any = Uc(UC_ARCH_X86, UC_MODE_32)
        for physical, size, offset in bare.memory.ranges:
            self.uc.mem_map_ptr(physical, size, UC_PROT_ALL, bare.memory.host_base + offset)
        self.uc.hook_add(UC_HOOK_INTR, lambda uc, vector, data: uc.emu_stop())
        write = self.uc.reg_write
        write(x86_const.UC_X86_REG_CR4, CR4_SSE | CR4_PAE)
        write(x86_const.UC_X86_REG_CR3, PGD)
        self.uc.msr_write(MSR_EFER, EFER_NXE)
        write(x86_const.UC_X86_REG_CR0, CR0_PAGED)
        self._esp = x86_const.UC_X86_REG_ESP

    def seconds(self) -> float:
        """Processor seconds of one run to the final INT, the code translated and linked before."""
        took = 0.0
        for _ in range(2):
            self.uc.reg_write(self._esp, STACK_TOP)
            predictor.forget()()
            began = time.process_time()
            self.uc.emu_start(self.bare.entry, NOWHERE)
            took = time.process_time() - began
        return took


class BareCpu:
    """A program in ring 3 on the engine's CPU, without a kernel."""

    def __init__(self, program: bytes) -> None:
        self.bare = BareProgram(program)
        self.cpu = Cpu()
        self.bare.memory.map_into(self.cpu)
        state = self.cpu.context
        for name in ("ds", "es", "ss"):
            state.set_segment(name, 0x23, 0, 0xFFFFFFFF, 0xCFF300)
        state.set_segment("cs", 0x1B, 0, 0xFFFFFFFF, 0xCFFB00)
        state.cr3, state.cr4, state.efer, state.cr0 = PGD, CR4_SSE | CR4_PAE, EFER_NXE, CR0_PAGED

    def seconds(self) -> float:
        """Processor seconds of one run to the final INT, no page missing."""
        state = self.cpu.context
        state.eip, state.esp = self.bare.entry, STACK_TOP
        began = time.process_time()
        exit_ = self.cpu.run(ENDLESS)
        took = time.process_time() - began
        assert isinstance(exit_, Trap) and exit_.software, exit_
        return took

    def calling_seconds(self) -> float:
        """Processor seconds of one run whose system calls are answered by nobody, but for the first exit(2)."""
        cpu, state = self.cpu, self.cpu.context
        state.eip, state.esp = self.bare.entry, STACK_TOP
        began = time.process_time()
        while type(cpu.run(ENDLESS)) is not Trap or state.eax != EXIT:
            pass
        return time.process_time() - began

    def faulting_seconds(self) -> float:
        """Processor seconds of one run in which every data page faults once; the answer is one store of its entry."""
        quads, entries, values = self.bare.quads, self.bare.data_entries, self.bare.data_values
        for at in entries:
            quads[at] = 0
        cpu, state = self.cpu, self.cpu.context
        cpu.flush_tlb()
        state.eip, state.esp = self.bare.entry, STACK_TOP
        answered = 0
        began = time.process_time()
        exit_ = cpu.run(ENDLESS)
        while type(exit_) is Trap and exit_.vector == 14:
            quads[entries[answered]] = values[answered]
            answered += 1
            exit_ = cpu.run(ENDLESS)
        took = time.process_time() - began
        assert isinstance(exit_, Trap) and exit_.software and answered == len(entries), exit_
        return took
