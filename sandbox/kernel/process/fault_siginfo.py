"""Which signal an exception of ring 3 becomes, and what siginfo and sigcontext say of it (arch/x86/kernel/traps.c)."""

from __future__ import annotations

from sandbox.engine.context import CpuContext
from sandbox.engine.exits import Trap
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import (
    BUS_ADRALN,
    BUS_ADRERR,
    FPE_FLTDIV,
    FPE_FLTINV,
    FPE_FLTOVF,
    FPE_FLTRES,
    FPE_FLTUND,
    FPE_INTDIV,
    ILL_ILLOPN,
    SEGV_ACCERR,
    SEGV_MAPERR,
    SI_KERNEL,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGSEGV,
    SIGTRAP,
    TRAP_BRKPT,
    TRAP_HWBKPT,
    TRAP_TRACE,
)
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.mm.fault import Resolution
from sandbox.kernel.process import hw_breakpoint
from sandbox.kernel.process.hw_breakpoint import DR6_STEP, DR6_TRAPS
from sandbox.kernel.task.task import Task
from sandbox.x86.masks import PF_PROT
from sandbox.x86.vectors import Vector

_KERNEL_CODE = {
    Vector.BP: SIGTRAP, Vector.OF: SIGSEGV, Vector.BR: SIGSEGV, Vector.NP: SIGBUS, Vector.SS: SIGBUS,
}  # fmt: skip
"""Exceptions of which no more is told than that the kernel sends the signal."""


def fault_info(task: Task, trap: Trap, how: Resolution) -> SigInfo:
    """Of a page fault that nothing resolves; the task's sigcontext fields are set."""
    assert task.mm is not None
    address = trap.address
    # Nothing is told of the kernel's mappings: each looks as if it were there.
    code = trap.error_code | (PF_PROT if address >= TASK_SIZE else 0)
    _remember(task, Vector.PF, code)
    task.signals.cr2 = address
    if how is Resolution.BUS_ERROR:
        return SigInfo.fault(SIGBUS, BUS_ADRERR, address)
    vma = task.mm.vmas.find(address) if address < TASK_SIZE else None
    known = vma is not None and vma.start <= address
    return SigInfo.fault(SIGSEGV, SEGV_ACCERR if known else SEGV_MAPERR, address)


def exception_info(task: Task, context: CpuContext, trap: Trap) -> SigInfo:
    """Of any other exception; the task's sigcontext fields are set."""
    vector, eip = trap.vector, trap.eip
    _remember(task, vector, trap.error_code)
    if vector == Vector.DE:
        return SigInfo.fault(SIGFPE, FPE_INTDIV, eip)
    if vector == Vector.DB:
        return SigInfo.fault(SIGTRAP, _debug_code(task), eip)
    if vector == Vector.UD:
        return SigInfo.fault(SIGILL, ILL_ILLOPN, eip)
    if vector == Vector.MF:
        _, status, _, _ = context.x87()
        control = context.x87()[0]
        return SigInfo.fault(SIGFPE, _float_code(status & ~control & 0x3F), eip)
    if vector == Vector.XM:
        return SigInfo.fault(SIGFPE, _float_code(context.mxcsr & ~(context.mxcsr >> 7) & 0x3F), eip)
    if vector == Vector.AC:
        return SigInfo.fault(SIGBUS, BUS_ADRALN, 0)
    return SigInfo.sent(_KERNEL_CODE.get(Vector(vector), SIGSEGV) if vector < 32 else SIGSEGV, SI_KERNEL, 0)


def _remember(task: Task, vector: int, error_code: int) -> None:
    task.signals.trapno, task.signals.err = int(vector), error_code


def _debug_code(task: Task) -> int:
    status = hw_breakpoint.take_status(task)
    if status & DR6_STEP:
        return TRAP_TRACE
    return TRAP_HWBKPT if status & DR6_TRAPS else TRAP_BRKPT


def _float_code(flags: int) -> int:
    """Of the unmasked exception flags; 0 when none is set."""
    if flags & 1:
        return FPE_FLTINV
    if flags & 4:
        return FPE_FLTDIV
    if flags & 8:
        return FPE_FLTOVF
    if flags & 0x12:
        return FPE_FLTUND
    return FPE_FLTRES if flags & 0x20 else 0
