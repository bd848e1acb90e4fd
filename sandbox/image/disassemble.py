"""Instructions as text and as operands, by capstone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
        value = self.displacement + segment_base
        if self.base:
            value += registers[self.base]
        if self.index:
            value += registers[self.index] * self.scale
        return value & 0xFFFFFFFF

    def text(self) -> str:
        """``[ebx + ecx*4 + 0x10]``."""
        parts = [self.base] if self.base else []
        if self.index:
            parts.append(f"{self.index}*{self.scale}" if self.scale > 1 else self.index)
        if self.displacement or not parts:
            parts.append(f"{self.displacement:#x}" if self.displacement >= 0 else f"-{-self.displacement:#x}")
        prefix = f"{self.segment}:" if self.segment in ("fs", "gs") else ""
        return f"{prefix}[{' + '.join(parts)}]"


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
    """The first instruction as text, or ``(bad) 0f ff`` when the bytes are none."""
    for _, _, mnemonic, operands in _engine(False).disasm_lite(code, address, 1):
        return f"{mnemonic} {operands}".strip()
    return f"(bad) {code[:4].hex(' ')}" if code else "(not mapped)"


def _memory(instruction: Any) -> tuple[MemoryOperand, ...]:
    import capstone
    from capstone import x86_const

    found = []
    for operand in instruction.operands:
        if operand.type != x86_const.X86_OP_MEM or instruction.id in (x86_const.X86_INS_LEA, x86_const.X86_INS_NOP):
            continue
        memory = operand.mem
        segment = instruction.reg_name(memory.segment) if memory.segment else ""
        found.append(
            MemoryOperand(
                segment or "",
                instruction.reg_name(memory.base) or "" if memory.base else "",
                instruction.reg_name(memory.index) or "" if memory.index else "",
                memory.scale,
                memory.disp,
                operand.size,
                bool(operand.access & capstone.CS_AC_READ),
                bool(operand.access & capstone.CS_AC_WRITE),
            )
        )
    mnemonic = instruction.mnemonic
    if mnemonic.startswith(("push", "call")):
        found.append(MemoryOperand("ss", "esp", "", 1, -4, 4, False, True))
    elif mnemonic.startswith(("pop", "ret", "leave")):
        found.append(MemoryOperand("ss", "esp", "", 1, 0, 4, True, False))
    return tuple(found)
