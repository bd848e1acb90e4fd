"""Debug registers of a task, for its tracer (arch/x86/kernel/hw_breakpoint.c and ptrace.c, Linux 6.1).

A tracer sets addresses and the control register; the CPU that runs the task has them while it does, for they are part
of the task's context.  A child starts without any, and so does a new program.
"""

from __future__ import annotations

from sandbox.engine.context import CpuContext
from sandbox.kernel.abi.errno import EINVAL, EIO, KernelError
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.task.task import DebugRegisters, Task
from sandbox.x86.masks import DR6_FIXED, RF

STATUS, CONTROL = 6, 7
SLOTS = 4
DR6_STEP, DR6_TRAPS = 1 << 14, 15
_EXECUTION, _IO = 0, 2
_ENABLED_LOCALLY = 0x55


def peek(task: Task, number: int) -> int:
    """DR0 to DR7 as a tracer reads them."""
    debug = task.debug
    if number == STATUS:
        return DR6_FIXED | (debug.status if debug is not None else 0)
    if debug is None:
        return 0
    return debug.control if number == CONTROL else debug.addresses.get(number, 0)


def poke(task: Task, number: int, value: int) -> None:
    """Set one.  Raises KernelError: EIO for DR4 and DR5, EINVAL for what no breakpoint of a program can be."""
    if number in (4, 5) or number > CONTROL:
        raise KernelError(EIO)
    debug = task.debug = task.debug or DebugRegisters()
    if number == STATUS:
        debug.status = value & ~DR6_FIXED
    elif number == CONTROL:
        _set_control(task, debug, value)
    else:
        _set_address(task, debug, number, value)


def _set_address(task: Task, debug: DebugRegisters, number: int, value: int) -> None:
    if value >= TASK_SIZE:
        raise KernelError(EINVAL)
    if debug.control >> 2 * number & 3:
        _check(debug.control, number, value)
    debug.addresses[number] = value
    task.context.set_debug_register(number, value)


def _set_control(task: Task, debug: DebugRegisters, value: int) -> None:
    """All of it or nothing.  A register without an address counts when it is switched on."""
    for number in range(SLOTS):
        if number in debug.addresses or value >> 2 * number & 3:
            _check(value, number, debug.addresses.get(number, 0))
    debug.control = value
    armed = sum(1 << 2 * number for number in range(SLOTS) if value >> 2 * number & 3)
    task.context.set_debug_register(CONTROL, value & 0xFFFF0000 | armed & _ENABLED_LOCALLY)


def _check(control: int, number: int, address: int) -> None:
    """Raises KernelError(EINVAL) for breakpoints on IO, of 8 bytes, and at an address that is not aligned."""
    kind, length = control >> 16 + 4 * number & 3, control >> 18 + 4 * number & 3
    if kind == _IO or length == 2 or (kind == _EXECUTION and length) or address & length:
        raise KernelError(EINVAL)


def take_status(task: Task) -> int:
    """Of a debug exception: DR6, which is kept for a tracer and is clear afterwards.

    Where an instruction breakpoint was met RF is set, so that the task gets past it (hw_breakpoint_handler).
    """
    context = task.context
    status = context.debug_register(STATUS)
    context.set_debug_register(STATUS, status & ~(DR6_STEP | DR6_TRAPS))
    if task.debug is None and task.ptrace is not None:
        task.debug = DebugRegisters()
    if task.debug is not None:
        task.debug.status = status & (DR6_STEP | DR6_TRAPS)
        if any(status >> number & 1 and _executes(context, number) for number in range(SLOTS)):
            context.eflags |= RF
    return status


def _executes(context: CpuContext, number: int) -> bool:
    return context.debug_register(CONTROL) >> 16 + 4 * number & 3 == _EXECUTION
