"""Where the memory operands of an instruction lie that is about to run: effective addresses, from the registers."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.engine.context import CpuContext
from sandbox.image.disassemble import Instruction
from sandbox.image.operands import MemoryOperand
from sandbox.records import dataclass

WRAP = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Located:
    """One operand and its linear address."""

    operand: MemoryOperand
    linear: int

    def text(self) -> str:
        """``[eax + 0x4] = 0804a004, 4 bytes written``."""
        pairs = (("read", self.operand.read), ("written", self.operand.write))
        verb = " and ".join(word for word, on in pairs if on)
        return f"{self.operand.text()} = {self.linear:08x}, {self.operand.size} bytes {verb}"

    def holds(self, linear: int) -> bool:
        """The address lies in it."""
        return self.linear <= linear < self.linear + max(self.operand.size, 1)


def located(context: CpuContext, instruction: Instruction) -> Iterator[Located]:
    """The operands of the instruction that comes next in a context, with the bases of their segments."""
    registers = {name: value & WRAP for name, value in context.general().items()}
    for operand in instruction.memory:
        yield Located(operand, operand.address(registers, context.segment(operand.segment).base))
