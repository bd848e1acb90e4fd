"""User access: every byte between a program and the kernel is moved by ``copy_user`` on the CPU.

User addresses are linear and below TASK_SIZE.  Faults on the way are ordinary page faults; where nothing resolves
one, the exception table ends the copy and the residue (bytes not copied) is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EFAULT, ENAMETOOLONG, KernelError
from sandbox.kernel.base.layout import PAGE_OFFSET, PAGE_SIZE, TASK_SIZE
from sandbox.machine.memory import Reason

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task

PATH_MAX = 4096


def access_ok(kernel: Kernel, address: int, size: int) -> bool:
    """The range lies below TASK_SIZE (2.1's form of verify_area)."""
    return address + size <= TASK_SIZE or kernel.broken("no-access-check")


def copy_user(kernel: Kernel, task: Task, target: int, source: int, size: int) -> int:
    """Run the copy between two linear addresses; bytes that were not copied."""
    if not size:
        return 0
    left = task.cpu.call(kernel.routines.copy_user, ecx=size, esi=source, edi=target)
    kernel.counters.bytes_by_guest += size - left
    return left


def copy_to_user(kernel: Kernel, task: Task, address: int, data: bytes) -> int:
    """Bytes of the kernel's own making into user memory; bytes that were not copied."""
    if not access_ok(kernel, address, len(data)):
        return len(data)
    done = 0
    while done < len(data):
        piece = data[done : done + PAGE_SIZE]
        task.cpu.store(task.scratch, piece)
        left = copy_user(kernel, task, address + done, task.scratch, len(piece))
        done += len(piece) - left
        if left:
            break
    return len(data) - done


def put_user(kernel: Kernel, task: Task, address: int, data: bytes) -> None:
    """``copy_to_user`` for structures.  Raises KernelError(EFAULT) when not all of it could be stored."""
    if copy_to_user(kernel, task, address, data):
        raise KernelError(EFAULT)


def copy_from_user(kernel: Kernel, task: Task, address: int, size: int) -> tuple[bytes, int]:
    """What could be read of a user range, and the bytes that could not."""
    if not access_ok(kernel, address, size):
        return b"", size
    pieces, done = [], 0
    while done < size:
        want = min(PAGE_SIZE, size - done)
        left = copy_user(kernel, task, task.scratch, address + done, want)
        at = task.scratch - PAGE_OFFSET
        pieces.append(bytes(kernel.memory.bytes[at : at + want - left]))
        done += want - left
        if left:
            break
    return b"".join(pieces), size - done


def get_user(kernel: Kernel, task: Task, address: int, size: int) -> bytes:
    """``copy_from_user`` for structures.  Raises KernelError(EFAULT) when not all of it could be read."""
    data, left = copy_from_user(kernel, task, address, size)
    if left:
        raise KernelError(EFAULT)
    return data


def get_word(kernel: Kernel, task: Task, address: int) -> int:
    """One 32-bit word of user memory.  Raises KernelError(EFAULT)."""
    return int.from_bytes(get_user(kernel, task, address, 4), "little")


def get_string(kernel: Kernel, task: Task, address: int, limit: int = PATH_MAX) -> bytes:
    """A NUL-terminated string of at most ``limit`` bytes with its NUL (``limit`` up to 4096).

    Raises KernelError: EFAULT, or ENAMETOOLONG when there is no NUL in the limit.
    """
    if address >= TASK_SIZE and not kernel.broken("no-access-check"):
        raise KernelError(EFAULT)
    limit = min(limit, PAGE_SIZE, TASK_SIZE - address if address < TASK_SIZE else limit)
    length = task.cpu.call(kernel.routines.strncpy_from_user, ecx=limit, esi=address, edi=task.scratch)
    if length > PAGE_SIZE:
        raise KernelError(EFAULT)
    if length == limit:
        raise KernelError(ENAMETOOLONG)
    kernel.counters.bytes_by_guest += length
    at = task.scratch - PAGE_OFFSET
    return bytes(kernel.memory.bytes[at : at + length])


def put_device_bytes(kernel: Kernel, task: Task, address: int, data: bytes) -> int:
    """Bytes that a device brought, by DMA into the scratch page and on to user memory; the bytes that arrived.

    Raises KernelError(EFAULT) when none did.
    """
    physical, done = task.scratch - PAGE_OFFSET, 0
    while done < len(data):
        piece = data[done : done + PAGE_SIZE]
        kernel.memory.host_write(physical, piece, Reason.DMA)
        left = copy_frame_to_user(kernel, task, address + done, physical // PAGE_SIZE, 0, len(piece))
        done += len(piece) - left
        if left:
            break
    if data and not done:
        raise KernelError(EFAULT)
    return done


def copy_frame_to_user(kernel: Kernel, task: Task, address: int, pfn: int, offset: int, size: int) -> int:
    """Part of one frame into user memory; bytes that were not copied."""
    if not access_ok(kernel, address, size):
        return size
    window = kernel.kmap.kmap(task.cpu, pfn)
    left = copy_user(kernel, task, address, window + offset, size)
    kernel.kmap.kunmap(task.cpu, window)
    return left


def copy_frame_from_user(kernel: Kernel, task: Task, address: int, pfn: int, offset: int, size: int) -> int:
    """User memory into part of one frame; bytes that were not copied."""
    if not access_ok(kernel, address, size):
        return size
    window = kernel.kmap.kmap(task.cpu, pfn)
    left = copy_user(kernel, task, window + offset, address, size)
    kernel.kmap.kunmap(task.cpu, window)
    return left


def copy_frame(kernel: Kernel, task: Task, pfn: int, offset: int, source: int, start: int, size: int) -> int:
    """Part of frame ``source`` into part of frame ``pfn``; bytes that were not copied."""
    target = kernel.kmap.kmap(task.cpu, pfn)
    window = kernel.kmap.kmap(task.cpu, source)
    left = copy_user(kernel, task, target + offset, window + start, size)
    kernel.kmap.kunmap(task.cpu, window)
    kernel.kmap.kunmap(task.cpu, target)
    return left
