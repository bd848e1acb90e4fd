"""What an instruction reads and writes in memory: its named operands and its silent ones.

capstone decodes; what it leaves out or gets wrong of an access is set right here, after the SDM, volume 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.records import dataclass, replace

_MASKS = {2: 0xFFFF, 4: 0xFFFFFFFF}
_BIT_TESTS = ("bt", "btc", "btr", "bts")

# Operands that are only an address, or a hint that never faults.  No CPU here has MPX, so BNDxx are NOPs.
_NO_ACCESS = ("lea", "nop", "invlpg", "prefetch", "cldemote", "bnd")
_READS = frozenset("test cmpsb cmpsw cmpsd outsb outsw outsd frstor xrstor roundss roundsd".split())
_WRITES = frozenset(
    "fst fstp fist fistp fisttp fbstp fnstcw fnsave fnstenv fnstsw stmxcsr insb insw insd "
    "pextrb pextrw pextrd extractps".split()
)
_READS_AND_WRITES = frozenset("cmpxchg cmpxchg8b xadd rol ror rcl rcr sal shl sar shr arpl xsave xsaveopt".split())
# Bytes with 32-bit and with 16-bit operands.  Of XSAVE's area, the part that every CPU has: legacy region and header.
_SIZES = {
    "fxsave": (512, 512), "fxrstor": (512, 512), "fnsave": (108, 94), "frstor": (108, 94), "fnstenv": (28, 14),
    "fldenv": (28, 14), "les": (6, 4), "lds": (6, 4), "lss": (6, 4), "lfs": (6, 4), "lgs": (6, 4), "ljmp": (6, 4),
    "lcall": (6, 4), "xsave": (576, 576), "xsaveopt": (576, 576), "xrstor": (576, 576), "comisd": (8, 8),
}  # fmt: skip
# How many stack elements an instruction pushes or pops beside its operands.
_PUSHES = {"push": 1, "pushf": 1, "pushfd": 1, "call": 1, "lcall": 2, "pushal": 8, "pushaw": 8}
_POPS = {"pop": 1, "popf": 1, "popfd": 1, "ret": 1, "retf": 2, "iret": 3, "iretd": 3}


@dataclass(frozen=True, slots=True)
class MemoryOperand:
    """``segment:[base + index * scale + displacement]``; ``size`` in bytes.

    ``segment`` is never empty: ``ds``, or ``ss`` for addresses on the stack, where nothing else is said.
    """

    segment: str
    base: str
    index: str
    scale: int
    displacement: int
    size: int
    read: bool
    write: bool
    bits: str = ""
    """Register whose value, a signed bit offset, moves the address of BT and its like."""
    wide: bool = True
    """32-bit address; else it wraps at 64 KB."""

    def address(self, registers: Mapping[str, int], segment_base: int = 0) -> int:
        """The linear address, given the 32-bit general registers by name and the segment's base."""
        value = self.displacement
        if self.base:
            value += _value(registers, self.base)
        if self.index:
            value += _value(registers, self.index) * self.scale
        if self.bits:
            width = 8 * self.size
            offset = _value(registers, self.bits)
            sign = 1 << (8 * register_size(self.bits) - 1)
            value += ((offset ^ sign) - sign) // width * self.size
        return (value & _MASKS[4 if self.wide else 2]) + segment_base & 0xFFFFFFFF

    def text(self) -> str:
        """``[ebx + ecx*4 + 0x10]``."""
        parts = [self.base] if self.base else []
        if self.index:
            parts.append(f"{self.index}*{self.scale}" if self.scale > 1 else self.index)
        if self.bits:
            parts.append(f"{self.bits}/{8 * self.size}*{self.size}")
        if self.displacement or not parts:
            signed = self.displacement if parts else self.displacement & 0xFFFFFFFF
            parts.append(f"{signed:#x}" if signed >= 0 else f"-{-signed:#x}")
        prefix = f"{self.segment}:" if self.segment in ("fs", "gs") else ""
        return f"{prefix}[{' + '.join(parts).replace('+ -', '- ')}]"


def register_size(name: str) -> int:
    """Bytes of a general register."""
    return 4 if len(name) == 3 else 1 if name[1] in "lh" else 2


def _value(registers: Mapping[str, int], name: str) -> int:
    size = register_size(name)
    if size == 4:
        return registers[name]
    if size == 2:
        return registers[f"e{name}"] & 0xFFFF
    return registers[f"e{name[0]}x"] >> (8 if name[1] == "h" else 0) & 0xFF


def memory_operands(instruction: Any, bits: int = 32) -> tuple[MemoryOperand, ...]:
    """The operands of a capstone instruction with details: the named ones in their order, then the silent ones.

    ``bits`` is the mode that it was decoded in, which the operand-size prefix turns round.
    """
    from capstone.x86_const import X86_OP_IMM, X86_OP_MEM

    name = instruction.mnemonic.rpartition(" ")[2]
    narrow = bool(instruction.prefix[2]) == (bits == 32)
    wide = instruction.addr_size == 4
    if name in ("call", "jmp") and instruction.opcode[0] == 0xFF and instruction.modrm >> 3 & 7 in (3, 5):
        name = f"l{name}"
    numbers = [operand.imm for operand in instruction.operands if operand.type == X86_OP_IMM]
    silent = _silent(name, 2 if narrow else 4, wide, numbers)
    if name.startswith(_NO_ACCESS):
        return silent
    named = []
    for number, operand in enumerate(instruction.operands):
        if operand.type != X86_OP_MEM:
            continue
        memory = operand.mem
        base, index, segment = (
            instruction.reg_name(register) if register else ""
            for register in (memory.base, memory.index, memory.segment)
        )
        size = _SIZES[name][narrow] if name in _SIZES else operand.size
        read, write = _access(name, number, operand.access)
        made = MemoryOperand(
            segment or ("ss" if base in ("esp", "ebp", "bp") else "ds"),
            base, index, memory.scale, memory.disp, size, read, write, wide=wide,
        )  # fmt: skip
        if name == "pop" and base == "esp":
            # ESP counts after it was incremented.
            made = replace(made, displacement=memory.disp + size)
        if name in _BIT_TESTS and not numbers:
            made = replace(made, bits=instruction.reg_name(instruction.operands[1].reg))
        named.append(made)
    return (*named, *silent)


def _access(name: str, number: int, seen: int) -> tuple[bool, bool]:
    """Whether an instruction reads and writes its memory operand ``number``; ``seen`` is capstone's answer."""
    from capstone import CS_AC_READ, CS_AC_WRITE

    if name in _READS_AND_WRITES:
        return True, True
    if name in _READS or not seen:
        return name not in _WRITES, name in _WRITES
    if name in _WRITES or name.startswith("set"):
        return False, True
    if name.startswith("mov"):
        return number > 0, number == 0
    return bool(seen & CS_AC_READ), bool(seen & CS_AC_WRITE)


def _silent(name: str, element: int, wide: bool, numbers: list[int]) -> tuple[MemoryOperand, ...]:
    """What an instruction does to memory without saying so; ``element`` is the size of one stack element in bytes."""
    if name in _PUSHES:
        return (_stack("esp", -_PUSHES[name] * element, _PUSHES[name] * element, write=True),)
    if name in _POPS:
        return (_stack("esp", 0, _POPS[name] * element),)
    if name in ("popal", "popaw"):
        # The saved ESP is skipped.
        return (_stack("esp", 0, 3 * element), _stack("esp", 4 * element, 4 * element))
    if name == "leave":
        return (_stack("ebp", 0, element),)
    if name == "enter":
        level = numbers[1] & 31
        pushed = (level + 1 if level else 1) * element
        outer = (level - 1) * element
        frames = (_stack("ebp", -outer, outer),) if outer > 0 else ()
        return (*frames, _stack("esp", -pushed, pushed, write=True))
    if name == "xlatb":
        return (MemoryOperand("ds", "ebx" if wide else "bx", "al", 1, 0, 1, True, False, wide=wide),)
    if name in ("maskmovq", "maskmovdqu"):
        size = 8 if name == "maskmovq" else 16
        return (MemoryOperand("ds", "edi" if wide else "di", "", 1, 0, size, False, True, wide=wide),)
    return ()


def _stack(base: str, displacement: int, size: int, write: bool = False) -> MemoryOperand:
    return MemoryOperand("ss", base, "", 1, displacement, size, not write, write)
