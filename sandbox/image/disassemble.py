"""Instructions as text and as operands, by capstone."""

from __future__ import annotations

import functools
from typing import Any

from sandbox.image.operands import MemoryOperand, memory_operands
from sandbox.records import dataclass


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
def engine(detail: bool, bits: int = 32) -> Any:
    """The decoder, made once; ``detail`` for operands, without it three times as fast."""
    import capstone

    made = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_16 if bits == 16 else capstone.CS_MODE_32)
    made.detail = detail
    return made


def disassemble(code: bytes, address: int, count: int = 0, bits: int = 32) -> list[Instruction]:
    """Instructions from the start of ``code``, at most ``count`` (0: all), until bytes that are none.

    ``bits`` is what CS says that operands and addresses are without a prefix: 32, or 16.
    """
    return list(_decoded(bytes(code), address, count, bits))


@functools.lru_cache(maxsize=4096)
def _decoded(code: bytes, address: int, count: int, bits: int) -> tuple[Instruction, ...]:
    """Who steps through a loop sees the same instructions again."""
    return tuple(
        Instruction(
            each.address, bytes(each.bytes), f"{each.mnemonic} {each.op_str}".strip(), memory_operands(each, bits)
        )
        for each in engine(True, bits).disasm(code, address, count)
    )


def text_of(code: bytes, address: int) -> str:
    """The first instruction as text, or ``(bad) 0f 04`` when the bytes are none."""
    for _, _, mnemonic, operands in engine(False).disasm_lite(code, address, 1):
        return f"{mnemonic} {operands}".strip()
    return f"(bad) {code[:4].hex(' ')}" if code else "(not mapped)"
