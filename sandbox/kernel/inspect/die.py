"""What a person is told when a program dies: the instruction, the registers, the walk."""

from __future__ import annotations

from sandbox.engine.exits import Trap
from sandbox.kernel.inspect.ptdump import walk_lines
from sandbox.kernel.inspect.symbolize import Symbols
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.task import Task


def fatal_report(kernel: Kernel, symbols: Symbols, task: Task, trap: Trap) -> str:
    """Several lines: what happened, instruction, registers, and for a page fault the walk level by level."""
    from sandbox.image.disassemble import disassemble
    from sandbox.x86.error_code import PageFaultCode
    from sandbox.x86.vectors import Vector

    assert task.mm is not None
    lines, at = [], task.context.code_address(trap.eip)
    if trap.vector == 14:
        error = PageFaultCode(trap.error_code).describe_at(trap.eip, trap.address)
        lines.append(
            f"page fault at {trap.address:#010x}: {error}, eip {trap.eip:#010x}{symbols.user_symbol(task, at)}"
        )
    else:
        name = Vector(trap.vector).name if trap.vector < 32 else f"vector {trap.vector}"
        lines.append(f"{name} (error code {trap.error_code:#x}) at eip {trap.eip:#010x}{symbols.user_symbol(task, at)}")
    code = kernel.peek.peek(task.mm, at, 15)
    if code:
        try:
            instruction = disassemble(code, trap.eip, 1)[0]
            lines.append(f"  {trap.eip:08x}  {instruction.text}")
        except (IndexError, ValueError):
            lines.append(f"  {trap.eip:08x}  (no instruction: {code[:8].hex(' ')})")
    else:
        lines.append(f"  {trap.eip:08x}  (not mapped)")
    values = list(task.context.general().items())
    lines.append("  " + "  ".join(f"{name} {value & 0xFFFFFFFF:08x}" for name, value in values[:4]))
    lines.append("  " + "  ".join(f"{name} {value & 0xFFFFFFFF:08x}" for name, value in values[4:]))
    if trap.vector == 14:
        lines += ["  " + line for line in walk_lines(kernel, task.mm.cr3, trap.address, trap.error_code)]
        vma = task.mm.vmas.find(trap.address)
        if vma is None:
            lines.append("  no area above the address")
        elif vma.start <= trap.address:
            lines.append(f"  area: {vma.describe()}")
        else:
            lines.append(f"  no area holds the address; the next is {vma.describe()}")
    return "\n".join(lines)
