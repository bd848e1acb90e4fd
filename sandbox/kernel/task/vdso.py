"""The page with the ways back from signal handlers, mapped when a program first has a handler without SA_RESTORER.

Linux maps its vDSO at exec and names it in the auxiliary vector; here nothing names it, so that every C library makes
its system calls by INT 0x80 and addresses stay where they are for who needs no trampoline.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.abi.flags import MAP_PRIVATE
from sandbox.kernel.abi.structs import Stat
from sandbox.kernel.mm.mm import Process
from sandbox.kernel.mm.mmap import Mmap
from sandbox.kernel.mm.vma import PROT_EXEC, PROT_READ
from sandbox.kernel.vfs.inode import Inode
from sandbox.x86.paging import PAGE_SIZE

SIGRETURN = bytes.fromhex("58 b8 77000000 cd80")
"""POP EAX; MOV EAX, 119; INT 0x80."""
RT_SIGRETURN = bytes.fromhex("b8 ad000000 cd80 00")
"""MOV EAX, 173; INT 0x80."""
SIGRETURN_AT, RT_SIGRETURN_AT = 0, 16


class Vdso(Inode):
    """The page as a file in memory."""

    name = "[vdso]"

    def stat(self) -> Stat:
        return Stat(dev=0, ino=self.ino, mode=self.kind | 0o555, size=PAGE_SIZE)

    def read_block(self, index: int) -> bytes:
        return (SIGRETURN.ljust(RT_SIGRETURN_AT, b"\0") + RT_SIGRETURN).ljust(PAGE_SIZE, b"\0")


def map_vdso(mmap: Mmap, task: Process, page: Vdso) -> int:
    """The page's linear address in a task's program, 0 when there is no room for it."""
    mm = task.mm
    assert mm is not None
    if not mm.vdso:
        try:
            mm.vdso = mmap.do_mmap(task, 0, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, page, 0)
        except KernelError:
            return 0
    return mm.vdso
