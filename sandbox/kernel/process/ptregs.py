"""Registers of a stopped task as its tracer sees and sets them (arch/x86/kernel/ptrace.c, i387.c).

A tracer may set anything and the task stays in ring 3: selectors are loaded as the CPU would, and of EFLAGS only what a
program may change itself is taken.
"""

from __future__ import annotations

import struct

from sandbox.engine.context import SEGMENT_SLOTS
from sandbox.kernel.abi.errno import EINVAL, EIO, KernelError
from sandbox.kernel.abi.ptrace import (
    DEBUG_REGISTERS,
    FPREGS_BYTES,
    FPXREGS_BYTES,
    NT_PRFPREG,
    NT_PRSTATUS,
    NT_PRXFPREG,
    REGISTERS,
    REGS_BYTES,
    U_DEBUGREG,
    USER_BYTES,
)
from sandbox.kernel.abi.sigcontext import FSAVE_BYTES, MXCSR_BITS, fsave_image, merge_fsave
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.process import hw_breakpoint
from sandbox.kernel.task.task import Task
from sandbox.x86.masks import AC, DF, RF, STATUS_FLAGS, TF

SETTABLE_FLAGS = STATUS_FLAGS | DF | TF | RF | AC
"""FLAG_MASK."""
_SEGMENTS = ("ds", "es", "fs", "gs", "cs", "ss")
_REGS = struct.Struct(f"<{len(REGISTERS)}I")
_MXCSR_AT = 24


def getreg(task: Task, name: str) -> int:
    """One word of ``user_regs_struct``."""
    context = task.context
    if name == "orig_eax":
        return task.orig_eax & 0xFFFFFFFF
    if name == "eflags":
        hidden = TF if task.ptrace is not None and task.ptrace.forced_flag else 0
        return context.eflags & ~hidden
    if name in _SEGMENTS:
        return context.quads[SEGMENT_SLOTS[name]] & 0xFFFF
    value: int = getattr(context, name)
    return value


def putreg(kernel: Kernel, task: Task, name: str, value: int) -> None:
    """Set it.  Raises KernelError(EIO) for a selector that no program has."""
    context = task.context
    if name == "orig_eax":
        _set_number(task, value)
    elif name == "eflags":
        _set_flags(task, value)
    elif name in _SEGMENTS:
        _set_segment(kernel, task, name, value & 0xFFFF)
    else:
        setattr(context, name, value)
        if name == "eip":
            context.resumes_at = context.passes = -1


def _set_number(task: Task, value: int) -> None:
    """The system call that is made, or made again after an interruption; a negative one is none."""
    task.orig_eax = value - (1 << 32) if value >> 31 else value
    if task.signals.interrupted >= 0:
        task.signals.interrupted = max(task.orig_eax, -1)


def _set_flags(task: Task, value: int) -> None:
    tracee, context = task.ptrace, task.context
    assert tracee is not None
    if value & TF:
        tracee.forced_flag = False
    elif tracee.forced_flag:
        value |= TF
    context.eflags = context.eflags & ~SETTABLE_FLAGS | value & SETTABLE_FLAGS


def _set_segment(kernel: Kernel, task: Task, name: str, selector: int) -> None:
    if (selector and selector & 3 != 3) or (not selector and name in ("cs", "ss")):
        raise KernelError(EIO)
    if name == "cs":
        loaded = kernel.desc.load_code(task, selector)
    elif name == "ss":
        loaded = kernel.desc.load_stack(task, selector)
    else:
        kernel.desc.load_data(task, name, selector)
        loaded = True
    if not loaded:
        raise KernelError(EIO)


# -- struct user -----------------------------------------------------------------------------------------------------


def peek_user(task: Task, address: int) -> int:
    """The word at an offset of ``struct user``.  Raises KernelError(EIO) outside, and between words."""
    _check_offset(address)
    if address < REGS_BYTES:
        return getreg(task, REGISTERS[address // 4])
    number = (address - U_DEBUGREG) // 4
    return hw_breakpoint.peek(task, number) if 0 <= number < DEBUG_REGISTERS else 0


def poke_user(kernel: Kernel, task: Task, address: int, value: int) -> None:
    """Set it.  Raises KernelError: EIO outside registers, EINVAL for a breakpoint that cannot be."""
    _check_offset(address)
    if address < REGS_BYTES:
        putreg(kernel, task, REGISTERS[address // 4], value)
    elif address < U_DEBUGREG:
        raise KernelError(EIO)
    else:
        hw_breakpoint.poke(task, (address - U_DEBUGREG) // 4, value)


def _check_offset(address: int) -> None:
    if address & 3 or address >= USER_BYTES:
        raise KernelError(EIO)


# -- whole sets ------------------------------------------------------------------------------------------------------


def get_regs(task: Task) -> bytes:
    """``user_regs_struct``, 68 bytes."""
    return _REGS.pack(*(getreg(task, name) for name in REGISTERS))


def set_regs(kernel: Kernel, task: Task, data: bytes) -> None:
    """As many words as ``data`` has.  Raises KernelError(EIO), with those before the bad one set."""
    for name, (value,) in zip(REGISTERS, struct.iter_unpack("<I", data), strict=False):
        putreg(kernel, task, name, value)


def get_fpregs(task: Task) -> bytes:
    """``user_fpregs_struct``, as FSAVE has it, 108 bytes."""
    return fsave_image(task.context.fxsave(), getreg(task, "cs"))[:FPREGS_BYTES]


def set_fpregs(task: Task, data: bytes) -> None:
    legacy = (data + get_fpregs(task)[len(data) :]).ljust(FSAVE_BYTES, b"\0")
    task.context.fxrstor(merge_fsave(legacy, task.context.fxsave()))


def get_fpxregs(task: Task) -> bytes:
    """``user_fpxregs_struct``, as FXSAVE has it, 512 bytes."""
    return task.context.fxsave()


def set_fpxregs(task: Task, data: bytes) -> None:
    """Raises KernelError(EINVAL) for bits of MXCSR that would fault."""
    image = data + get_fpxregs(task)[len(data) :]
    if int.from_bytes(image[_MXCSR_AT : _MXCSR_AT + 4], "little") & ~MXCSR_BITS:
        raise KernelError(EINVAL)
    task.context.fxrstor(image)


def get_regset(task: Task, kind: int) -> bytes:
    """PTRACE_GETREGSET by the type of an ELF note.  Raises KernelError(EINVAL) for one that there is not."""
    made = {NT_PRSTATUS: get_regs, NT_PRFPREG: get_fpregs, NT_PRXFPREG: get_fpxregs}.get(kind)
    if made is None:
        raise KernelError(EINVAL)
    return made(task)


def set_regset(kernel: Kernel, task: Task, kind: int, data: bytes) -> None:
    """The same for PTRACE_SETREGSET."""
    if kind == NT_PRSTATUS:
        set_regs(kernel, task, data)
    elif kind == NT_PRFPREG:
        set_fpregs(task, data[:FPREGS_BYTES])
    elif kind == NT_PRXFPREG:
        set_fpxregs(task, data[:FPXREGS_BYTES])
    else:
        raise KernelError(EINVAL)
