"""Instruction encodings, and what this host's CPU and the engine make of each: done, or which signal or exception."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandbox.engine.cpu import Cpu, EngineAbortError
from sandbox.engine.exits import BusError, Exit, Trap
from sandbox.x86.masks import AC, CR0_AM, CR0_PROTECTED, CR4_SSE, EFLAGS_FIXED

SOURCE = Path(__file__).parent / "native" / "encodings.c"
BUILD = ("gcc", "-m32", "-static", "-O1", "-w", "-fno-stack-protector", "-fno-pic", "-no-pie", "-mgeneral-regs-only")
SIGILL, SIGTRAP, SIGBUS, SIGSEGV = 4, 5, 7, 11
RECORD, MIDDLE, SIZE = 16, 0x8000, 0x10000
CODE, DATA, STACK = 0x10000000, 0x20000000, 0x30000000
_FLAT = 0xFFFFFFFF
REG_AND_MEMORY = tuple(reg << 3 | rest for reg in range(8) for rest in (0x03, 0xC1))
"""ModR/M bytes of each /digit: [ebx], and a register."""


def build(folder: Path) -> Path:
    """The host's program.  Raises CalledProcessError where it cannot be linked."""
    out = folder / "encodings"
    subprocess.run([*BUILD, "-o", out, SOURCE], check=True, capture_output=True, timeout=60)
    return out


def on_host(program: Path, codes: Iterable[bytes], *arguments: int) -> list[tuple[int, int]]:
    """Signal and si_code of each; SIGTRAP where nothing else came.  With an argument, see the program's source."""
    blob = b"".join(bytes([len(code)]) + code.ljust(RECORD - 1, b"\0") for code in codes)
    done = subprocess.run([program, *map(str, arguments)], input=blob, capture_output=True, check=True, timeout=120)
    return [(done.stdout[at], done.stdout[at + 1]) for at in range(0, len(done.stdout), 2)]


class Guest:
    """A flat CPU in ring 3 with what the host's program has."""

    def __init__(self, shift: int | None = None) -> None:
        self.cpu = Cpu()
        self.memory = {at: mmap.mmap(-1, SIZE) for at in (CODE, DATA, STACK)}
        for at, memory in self.memory.items():
            self.cpu.map_ram(at, SIZE, ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        self.shift, self.flags = shift or 0, EFLAGS_FIXED | (0 if shift is None else AC)

    def run(self, code: bytes) -> Exit:
        """One instruction from a fresh state."""
        state = self.cpu.context
        self.cpu.reset()
        state.cr0, state.cr4 = CR0_PROTECTED | CR0_AM, CR4_SSE
        for name in ("ss", "ds", "es", "fs", "gs"):
            state.set_segment(name, 0x2B, 0, _FLAT, 0xCFF300)
        state.set_segment("cs", 0x23, 0, _FLAT, 0xCFFB00)
        for number in range(8):
            state.quads[number] = DATA + MIDDLE + self.shift
        state.esp, state.eip, state.eflags = STACK + MIDDLE + 256 + self.shift, CODE + 64, self.flags
        self.memory[CODE][64:96] = code.ljust(32, b"\0")
        for at in (DATA, STACK):
            self.memory[at][MIDDLE : MIDDLE + 1024] = bytes(1024)
        self.cpu.drop_all_code()
        return self.cpu.run(1, 1)

    def vector(self, code: bytes) -> int | None:
        """The exception that an instruction raises, or None."""
        try:
            exit_ = self.run(code)
        except EngineAbortError:
            return -1
        return exit_.vector if isinstance(exit_, Trap) and not exit_.software else None

    def close(self) -> None:
        self.cpu.close()


def forms(opcodes: Iterable[bytes], prefixes: Iterable[bytes], modrms: Iterable[int]) -> Iterator[bytes]:
    """Every combination, with zeros for what may follow."""
    modrms = tuple(modrms)
    for opcode in opcodes:
        for prefix in prefixes:
            yield from (prefix + opcode + bytes([modrm]) for modrm in modrms)


__all__ = ["BusError", "Guest", "build", "forms", "on_host"]
