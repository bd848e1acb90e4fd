"""Kernel code on the CPU faulted where nothing has an answer: who did it, and all that can be said about it."""

from __future__ import annotations

from itertools import groupby
from typing import NoReturn

from sandbox.engine.context import CpuContext
from sandbox.engine.exits import BusError, Exit, Trap
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.inspect.ptdump import walk_lines
from sandbox.kernel.inspect.symbolize import Symbols
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import active_mm
from sandbox.kernel.module.hypercall import GuestKernelBug
from sandbox.x86.error_code import PageFaultCode
from sandbox.x86.errors import SandboxError
from sandbox.x86.paging import PAGE_SIZE
from sandbox.x86.vectors import describe

PAGE_FAULT = 14
STACK_BYTES = PAGE_SIZE
FAR = 1 << 20
"""Bytes below a stack that a frame may have stepped down; what is further away is no overflow."""
STACK_WORDS, TRACE_LINES = STACK_BYTES // 4, 8


class KernelOops(SandboxError):
    """Kernel code on the CPU faulted where neither a VMA nor the exception table has an answer."""

    exit_status = 3


def oops(kernel: Kernel, symbols: Symbols, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> NoReturn:
    """Raises GuestKernelBug when a module's call is at work, else KernelOops."""
    what = str(exit_)
    if isinstance(exit_, Trap) and exit_.vector == PAGE_FAULT and not exit_.software:
        error = PageFaultCode(exit_.error_code).describe_at(exit_.eip, exit_.address)
        what = f"kernel page fault at {exit_.address:#010x} ({error})"
        if exit_.address < PAGE_SIZE:
            what = f"kernel NULL pointer dereference at {exit_.address:#010x} ({error})"
    elif isinstance(exit_, Trap):
        what = f"{describe(exit_.vector)} in kernel code"
    elif isinstance(exit_, BusError):
        what = f"nothing answers at physical address {exit_.physical:#x}"
    what = _overflow(symbols, cpu, context, exit_) + what
    summary = f"{what}, in {symbols.kernel_symbol(exit_.eip)} on CPU {cpu.index}"
    detail = "\n".join(_lines(kernel, symbols, cpu, context, exit_))
    if cpu.module_calls:
        raise GuestKernelBug(summary, detail)
    raise KernelOops(summary, detail)


def _overflow(symbols: Symbols, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> str:
    """What to say of a kernel stack that did not suffice; empty when that is not what happened."""
    bottom, esp = cpu.kstack.stack_top - STACK_BYTES, context.esp & 0xFFFFFFFF
    below, where = bottom - esp, "ESP"
    if isinstance(exit_, Trap) and exit_.vector == PAGE_FAULT and not exit_.software:
        guarded = 0 < bottom - exit_.address <= PAGE_SIZE
        if guarded or 0 < below <= FAR:
            below = bottom - exit_.address
            where = "at its guard page," if guarded else "beyond its guard page,"
    if not (cpu.module_calls or where != "ESP") or not 0 < below <= FAR:
        return ""
    whose = f" under {symbols.kernel_symbol(cpu.kstack.entry)}" if cpu.module_calls else ""
    return f"kernel stack overflow{whose}, {where} {below} bytes below the stack of {STACK_BYTES}: "


def _lines(kernel: Kernel, symbols: Symbols, cpu: KernelCpu, context: CpuContext, exit_: Exit) -> list[str]:
    from sandbox.image.disassemble import text_of

    code = kernel.peek.peek(active_mm(cpu), exit_.eip, 15)
    lines = [f"  {exit_.eip:08x}  {text_of(code, exit_.eip) if code else 'no code is mapped here'}"]
    registers = [f"{name}={value:08x}" for name, value in context.general().items()]
    lines += ["  " + " ".join(registers[at : at + 8]) for at in range(0, len(registers), 8)]
    if isinstance(exit_, Trap) and exit_.vector == PAGE_FAULT and not exit_.software:
        lines += ["  " + line for line in walk_lines(kernel, context.cr3, exit_.address, exit_.error_code)]
    trace = _call_trace(kernel, symbols, _on_stack(cpu, context.esp & 0xFFFFFFFF))
    if trace:
        lines.append("  called from " + ", ".join(trace))
    return lines


def _on_stack(cpu: KernelCpu, esp: int) -> int:
    """Where the stack's words begin: its lowest one when ESP has left it downwards."""
    bottom = cpu.kstack.stack_top - STACK_BYTES
    return bottom if 0 < bottom - esp <= FAR else esp


def _behind_a_call(code: bytes) -> bool:
    """The 7 bytes in front of an address end with CALL: E8 with its distance, or FF /2 with any operand."""
    if len(code) < 7:
        return False
    return code[-5] == 0xE8 or any(code[-n] == 0xFF and code[1 - n] >> 3 & 7 == 2 for n in (2, 3, 6, 7))


def _call_trace(kernel: Kernel, symbols: Symbols, esp: int) -> list[str]:
    """Words of the stack that look like return addresses, the nearest first, as 2.0 guessed them.

    A place that comes again and again is said once; of many, the last is the one that is always shown.
    """
    found: list[str] = []
    raw = kernel.peek.peek(None, esp, min(4 * STACK_WORDS, -esp % PAGE_SIZE or PAGE_SIZE))
    first, end = kernel.image.start, kernel.image.routines.text_end
    for at in range(0, len(raw) - 3, 4):
        word = int.from_bytes(raw[at : at + 4], "little")
        inside = word >= PAGE_OFFSET and (first <= word < end or symbols.in_module(word))
        if inside and _behind_a_call(kernel.peek.peek(None, word - 7, 7)):
            found.append(symbols.kernel_symbol(word))
    said = [f"{name} ({len(list(same))} times)" for name, same in groupby(found)]
    said = [each.removesuffix(" (1 times)") for each in said]
    return said if len(said) <= TRACE_LINES else [*said[: TRACE_LINES - 1], "…", said[-1]]
