"""Instruction encodings, and what this host's CPU and the engine make of each: done, or which signal or exception."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandbox.engine.cpu import Cpu, EngineAbortError
from sandbox.engine.exits import Exit, Trap
from sandbox.x86.masks import AC, CR0_AM, CR0_PROTECTED, CR4_SSE, EFLAGS_FIXED

SOURCE = Path(__file__).parent / "native" / "encodings.c"
BUILD = ("gcc", "-m32", "-static", "-O1", "-w", "-fno-stack-protector", "-fno-pic", "-no-pie", "-mgeneral-regs-only")
SIGILL, SIGTRAP, SIGBUS, SIGSEGV = 4, 5, 7, 11
UD = 6
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


LEGACY = bytes.fromhex("262e363e646566 67f0f2f3")
ONE = [bytes([each]) for each in range(256) if each not in LEGACY + b"\x0f"]
TWO = [bytes([0x0F, each]) for each in range(256) if each not in (0x05, 0x34, 0x38, 0x3A)]
"""SYSCALL and SYSENTER are left out: natively they are system calls."""
THREE = [bytes([0x0F, page, each]) for page in (0x38, 0x3A) for each in range(256)]
PREFIXES = (b"", b"\x66", b"\xf2", b"\xf3")

NOT_OURS = {
    "0f01": {0xC1, 0xD9},  # VMCALL, VMMCALL
    "0f07": set(range(256)),  # SYSRET: EFER.SCE is clear
    "0f78": set(range(256)), "0f79": set(range(256)),  # SSE4A
    "0fae": {0x23, 0x2B, 0x33, 0x3B},  # XSAVE and its kind (CR4.OSXSAVE is clear), CLWB, CLFLUSHOPT
    "0fc7": {0x1B, 0x23, 0x2B, 0xF1, 0xF9},  # XSAVES and its kind, RDRAND, RDSEED, RDPID
    "0f00": {0x2B},  # LOCK VERW, which this AMD accepts; SDM 2A, LOCK, does not list it
    "0f20": {0x03, 0xC1}, "0f22": {0x03, 0xC1},  # LOCK MOV CR0 is AMD's name for CR8
    "0f3882": {0x03},  # INVPCID
    **{f"0f38{each:02x}": {0x03, 0xC1} for each in (*range(0xC8, 0xCE), 0xCF, 0xF6)},  # SHA, GFNI, ADX
    **{f"0f3a{each:02x}": {0x03, 0xC1} for each in (0xCC, 0xCE, 0xCF)},
}  # fmt: skip
"""What an AMD EPYC of 2022 has and the emulated CPU does not tell of by CPUID: opcode, ModR/M."""


def known(code: bytes) -> bool:
    """A feature of newer processors, or VEX with something behind it, which this host's AVX may know."""
    opcode = code.lstrip(LEGACY)
    vex = opcode[0] in (0xC4, 0xC5) and opcode[1] >= 0xC0
    return vex or opcode[-1] in NOT_OURS.get(opcode[:-1].hex(), ())


CASES = {
    "lock": (ONE, (b"\xf0", b"\xf0\x66", b"\xf3\xf0"), REG_AND_MEMORY),
    "lock-0f": (TWO, (b"\xf0", b"\xf0\x66", b"\xf2\xf0"), REG_AND_MEMORY),
    "lock-every-modrm": ([b"\x00", b"\xf6", b"\xff", b"\x0f\xba", b"\x0f\xc7", b"\x0f\xb1"], (b"\xf0",), range(256)),
    "one-byte": (ONE, (b"", b"\x66"), REG_AND_MEMORY),
    "0f": (TWO, PREFIXES, REG_AND_MEMORY),
    "0f38-0f3a": (THREE, (*PREFIXES, b"\xf0"), (0x03, 0xC1)),
    "x87": ([bytes([each]) for each in range(0xD8, 0xE0)], (b"", b"\xf0"), range(256)),
    "segments": (ONE, (b"\x2e", b"\x64\xf0"), (0x03, 0xC1)),
}


def differing(program: Path, guest: Guest, codes: list[bytes]) -> list[str]:
    """Those that are #UD here and not on the host, or the other way round, in hexadecimal."""
    signals = [signal for signal, _ in on_host(program, codes)]
    pairs = zip(codes, signals, strict=True)
    return [
        code.hex() for code, signal in pairs if (signal == SIGILL) != (guest.vector(code) == UD) and not known(code)
    ]
