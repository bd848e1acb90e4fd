"""A program's memory as a debugger sees it: through the tables, and behind them where a page was not needed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import KernelError

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task

PAGE = 4096


def read_user(kernel: Kernel, task: Task, address: int, size: int) -> bytes:
    """Bytes at a linear address, by no access of the CPU and with no effect; short where there is no mapping."""
    mm = task.mm
    found = b""
    while mm is not None and size > 0 and address < 1 << 32:
        take = min(size, PAGE - address % PAGE)
        piece = kernel.peek(mm, address, take)
        if len(piece) < take:
            piece = _behind(kernel, task, address, take)
        found += piece
        if len(piece) < take:
            break
        address += take
        size -= take
    return found


def _behind(kernel: Kernel, task: Task, address: int, take: int) -> bytes:
    """What a fault would bring: the file's bytes, or zeros."""
    assert task.mm is not None
    vma = task.mm.vmas.find(address)
    if vma is None or address < vma.start or not vma.prot:
        return b""
    if vma.inode is None:
        return bytes(take)
    try:
        block = vma.inode.read_block(vma.page_of(address & -PAGE))
    except KernelError:
        return b""
    return block.ljust(PAGE, b"\0")[address % PAGE : address % PAGE + take]


def read_string(kernel: Kernel, task: Task, address: int, limit: int = PAGE) -> bytes | None:
    """A NUL-terminated string without its NUL; None when it cannot be read as far as that, or is too long."""
    found = b""
    while len(found) < limit:
        take = min(256, PAGE - address % PAGE)
        piece = read_user(kernel, task, address, take)
        head, end, _ = piece.partition(b"\0")
        found += head
        if end:
            return found
        if len(piece) < take:
            return None
        address += take
    return None
