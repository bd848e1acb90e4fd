"""Instructions as text and as operands, by capstone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Where capstone says too little or wrong of what an instruction does to its memory operand (SDM volume 2).
_NO_ACCESS = ("lea", "nop", "invlpg", "clflush", "prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2", "prefetchw")
_READS = frozenset(["test", "cmpsb", "cmpsw", "cmpsd", "outsb", "outsw", "outsd", "frstor"])
_WRITES = frozenset(
    [
        "fst",
        "fstp",
        "fist",
        "fistp",
        "fisttp",
        "fnstcw",
        "fnsave",
        "fnstenv",
        "fnstsw",
        "fbstp",
        "stmxcsr",
        "movntps",
        "movntpd",
        "movntdq",
        "movntq",
        "movnti",
        "insb",
        "insw",
        "insd",
    ]
)
_READS_AND_WRITES = frozenset(
    ["cmpxchg", "cmpxchg8b", "xadd", "rol", "ror", "rcl", "rcr", "sal", "shl", "sar", "shr", "arpl"]
)
_SIZES = {"fxsave": 512, "fxrstor": 512, "fnsave": 108, "frstor": 108} | dict.fromkeys(
    ("lss", "lds", "les", "lfs", "lgs"), 6
)


@dataclass(frozen=True, slots=True)
class MemoryOperand:
    """``segment:[base + index * scale + displacement]``; ``size`` in bytes."""

    segment: str
    base: str
    index: str
    scale: int
    displacement: int
    size: int
    read: bool
    write: bool

    def address(self, registers: Mapping[str, int], segment_base: int = 0) -> int:
        """The linear address, given the general registers by name and the segment's base."""
        value, mask = self.displacement, 0xFFFFFFFF
        for name, scale in ((self.base, 1), (self.index, self.scale)):
            if len(name) == 2:
                # The address-size prefix: bx, si and their like, and the offset wraps at 64 KB.
                mask = 0xFFFF
                value += registers[f"e{name}"]
            elif name:
                value += registers[name] * scale
        return (value & mask) + segment_base & 0xFFFFFFFF

    def text(self) -> str:
        """``[ebx + ecx*4 + 0x10]``."""
        parts = [self.base] if self.base else []
        if self.index:
            parts.append(f"{self.index}*{self.scale}" if self.scale > 1 else self.index)
        if self.displacement or not parts:
            parts.append(f"{self.displacement:#x}" if self.displacement >= 0 else f"-{-self.displacement:#x}")
        prefix = f"{self.segment}:" if self.segment in ("fs", "gs") else ""
        return f"{prefix}[{' + '.join(parts).replace('+ -', '- ')}]"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction at a linear address; ``memory`` are its explicit and implicit memory operands."""

    address: int
    raw: bytes
    text: str
    memory: tuple[MemoryOperand, ...]

    @property
    def size(self) -> int:
        return len(self.raw)


@functools.cache
def _engine(detail: bool) -> Any:
    import capstone

    made = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
    made.detail = detail
    return made


def disassemble(code: bytes, address: int, count: int = 0) -> list[Instruction]:
    """Instructions from the start of ``code``, at most ``count`` (0: all), until bytes that are none."""
    return [
        Instruction(each.address, bytes(each.bytes), f"{each.mnemonic} {each.op_str}".strip(), _memory(each))
        for each in _engine(True).disasm(code, address, count)
    ]


def text_of(code: bytes, address: int) -> str:
    """The first instruction as text, or ``(bad) 0f 04`` when the bytes are none."""
    for _, _, mnemonic, operands in _engine(False).disasm_lite(code, address, 1):
        return f"{mnemonic} {operands}".strip()
    return f"(bad) {code[:4].hex(' ')}" if code else "(not mapped)"


def _memory(instruction: Any) -> tuple[MemoryOperand, ...]:
    from capstone import x86_const

    found = []
    name = instruction.mnemonic.rpartition(" ")[2]
    for number, operand in enumerate(instruction.operands):
        if operand.type != x86_const.X86_OP_MEM or name in _NO_ACCESS:
            continue
        read, write = _access(name, number, operand.access)
        memory = operand.mem
        segment = instruction.reg_name(memory.segment) if memory.segment else ""
        found.append(
            MemoryOperand(
                segment or "",
                instruction.reg_name(memory.base) or "" if memory.base else "",
                instruction.reg_name(memory.index) or "" if memory.index else "",
                memory.scale,
                memory.disp,
                _SIZES.get(name, operand.size),
                read,
                write,
            )
        )
    return (*found, *_stack(name, 2 if instruction.prefix[2] else 4))


def _access(name: str, number: int, seen: int) -> tuple[bool, bool]:
    """Whether an instruction reads and writes its memory operand ``number``; ``seen`` is capstone's answer."""
    import capstone

    if name in _READS_AND_WRITES:
        return True, True
    if name in _READS or name in _WRITES:
        return name in _READS, name in _WRITES
    if name.startswith("mov"):
        return number > 0, number == 0
    return bool(seen & capstone.CS_AC_READ), bool(seen & capstone.CS_AC_WRITE)


def _stack(name: str, size: int) -> list[MemoryOperand]:
    """What an instruction does to the stack without saying so; ``size`` of one element in bytes."""
    if name.startswith(("push", "call", "enter", "lcall")):
        size *= {"pushal": 8, "pushaw": 8, "pusha": 8, "lcall": 2}.get(name, 1)
        return [MemoryOperand("ss", "esp", "", 1, -size, size, False, True)]
    if name.startswith(("pop", "ret", "iret")) and name != "popcnt":
        size *= {"popal": 8, "popaw": 8, "popa": 8, "retf": 2, "iretd": 3, "iret": 3}.get(name, 1)
        return [MemoryOperand("ss", "esp", "", 1, 0, size, True, False)]
    return [MemoryOperand("ss", "ebp", "", 1, 0, size, True, False)] if name == "leave" else []
