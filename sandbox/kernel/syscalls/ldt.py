"""modify_ldt: a program's own segment descriptors, in a table of its address space that LDTR names.

The table has as many frames in a row as its highest entry asks for, at most 16.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, ENOSYS, KernelError
from sandbox.kernel.abi.userdesc import UserDesc
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.desc import load_ldt
from sandbox.kernel.task.task import Task

READ, WRITE_OLD, READ_DEFAULT, WRITE = 0, 1, 2, 0x11
LDT_ENTRIES, ENTRY_BYTES = 8192, 8
LDT_BYTES = LDT_ENTRIES * ENTRY_BYTES
DEFAULT_BYTES = 5 * ENTRY_BYTES
CONFORMING = 3


def sys_modify_ldt(kernel: Kernel, task: Task, function: int, pointer: int, size: int, *_: int) -> int:
    if function == READ:
        return _read(kernel, task, pointer, size)
    if function == READ_DEFAULT:
        size = min(size, DEFAULT_BYTES)
        kernel.uaccess.put_user(task, pointer, bytes(size))
        return size
    if function in (WRITE_OLD, WRITE):
        if size != UserDesc.SIZE:
            raise KernelError(EINVAL)
        _write(kernel, task, UserDesc.unpack(kernel.uaccess.get_user(task, pointer, size)), function == WRITE_OLD)
        return 0
    raise KernelError(ENOSYS)


def _read(kernel: Kernel, task: Task, pointer: int, size: int) -> int:
    """The table, and zeros behind it up to ``size``; nothing when there is none."""
    mm = task.mm
    assert mm is not None
    if not mm.ldt:
        return 0
    size = min(size, LDT_BYTES)
    at = kernel.memory.host_index(mm.ldt << 12)
    held = bytes(kernel.memory.bytes[at : at + min(size, mm.ldt_entries * ENTRY_BYTES)])
    kernel.uaccess.put_user(task, pointer, held.ljust(size, b"\0"))
    return size


def _write(kernel: Kernel, task: Task, desc: UserDesc, old_mode: bool) -> None:
    """Raises KernelError(EINVAL), and OutOfMemory."""
    mm = task.mm
    assert mm is not None
    number = desc.entry_number & 0xFFFFFFFF
    if number >= LDT_ENTRIES or (desc.contents == CONFORMING and (old_mode or not desc.seg_not_present)):
        raise KernelError(EINVAL)
    descriptor = 0
    if not (desc.empty or (old_mode and not desc.base and not desc.limit)):
        granularity = desc.granularity & ~1 if old_mode else desc.granularity
        descriptor = desc.limit & 0xFFFF | (desc.base & 0xFFFFFF) << 16 | desc.access << 40
        descriptor |= (desc.limit >> 16 & 0xF) << 48 | granularity << 52 | (desc.base >> 24) << 56
    kernel.desc.grow_ldt(mm, number)
    kernel.desc.set_ldt_entry(mm, number, descriptor)
    for each in kernel.tasks.values():
        if each.mm is mm:
            load_ldt(each)
