"""Segment registers of a program, loaded by Python as the CPU would from GDT and LDT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.task import GDT_ENTRY_TLS_ENTRIES, GDT_ENTRY_TLS_MIN

if TYPE_CHECKING:
    from sandbox.engine.context import CpuContext
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import Task

USER_CS, USER_DS = 0x23, 0x2B
_FLAT = {USER_CS >> 3: 0x00CFFB000000FFFF, USER_DS >> 3: 0x00CFF3000000FFFF}
_PRESENT, _SEGMENT, _CODE, _WRITABLE = 1 << 47, 1 << 44, 1 << 43, 1 << 41
"""Bit 41 is: writable for data, readable for code."""
_DPL3 = 3 << 45
_TABLE_LDT = 4


def _descriptor(kernel: Kernel, task: Task, selector: int) -> int:
    """The descriptor that ring 3 may load by a selector, 0 for none."""
    index = selector >> 3
    tls = index - GDT_ENTRY_TLS_MIN
    mm = task.mm
    if selector & _TABLE_LDT:
        if mm is None or not mm.ldt or index >= mm.ldt_entries:
            return 0
        words, at = kernel.memory.words, (mm.ldt << 10) + 2 * index
        descriptor = words[at] | words[at + 1] << 32
    else:
        descriptor = task.tls[tls] if 0 <= tls < GDT_ENTRY_TLS_ENTRIES else _FLAT.get(index, 0)
    wanted = _PRESENT | _SEGMENT | _DPL3
    return descriptor if descriptor & wanted == wanted else 0


def _set(context: CpuContext, name: str, selector: int, descriptor: int) -> None:
    base = descriptor >> 16 & 0xFFFFFF | descriptor >> 56 << 24
    limit = descriptor & 0xFFFF | (descriptor >> 48 & 0xF) << 16
    if descriptor >> 55 & 1:
        limit = limit << 12 | 0xFFF
    context.set_segment(name, selector, base, limit, descriptor >> 32 & 0x00F0FF00)


def load_data(kernel: Kernel, task: Task, name: str, selector: int) -> None:
    """DS, ES, FS or GS; a selector that the CPU would refuse leaves a null one (Linux's fixup)."""
    if selector > 3:
        descriptor = _descriptor(kernel, task, selector)
        readable = not descriptor & _CODE or descriptor & _WRITABLE
        if descriptor and readable:
            _set(task.context, name, selector, descriptor)
            return
        selector = 0
    task.context.set_segment(name, selector, 0, 0, 0)


def load_code(kernel: Kernel, task: Task, selector: int) -> bool:
    """CS for ring 3; False when the CPU would refuse it."""
    descriptor = _descriptor(kernel, task, selector)
    if selector & 3 != 3 or not descriptor & _CODE:
        return False
    _set(task.context, "cs", selector, descriptor)
    return True


def load_stack(kernel: Kernel, task: Task, selector: int) -> bool:
    """SS for ring 3; False when the CPU would refuse it."""
    descriptor = _descriptor(kernel, task, selector)
    if selector & 3 != 3 or descriptor & _CODE or not descriptor & _WRITABLE:
        return False
    _set(task.context, "ss", selector, descriptor)
    return True
