"""/proc/PID/mem: the memory of a process as a file, for who may trace it (fs/proc/base.c).

The address space is the one that the process had when the file was opened: of one that has ended, or executed another
program, nothing is read.  Bytes go through the caller's scratch page, a page at a time.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EACCES, EFAULT, EINVAL, EIO, ENODEV, KernelError
from sandbox.kernel.abi.flags import SEEK_CUR, SEEK_SET
from sandbox.kernel.abi.structs import Stat
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.process.ptrace import may_access
from sandbox.kernel.procfs.nodes import ProcInode, proc_stat
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import FileOperations
from sandbox.x86.paging import PAGE_SIZE

MODE = 0o600
EVERYTHING = 1 << 64


class MemFile(FileOperations):
    """What open files of it do.  A position is an address of the other process."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self._move(file, task, address, count, position, write=False)

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self._move(file, task, address, count, position, write=True)

    def _move(self, file: File, task: Task, local: int, count: int, position: int | None, *, write: bool) -> int:
        """Raises KernelError: EIO where no page is, EFAULT for the caller's own."""
        assert isinstance(file.inode, Mem)
        mm, at, done = file.inode.opened_mm(file), file.position if position is None else position, 0
        if mm is None or not mm.users:
            return 0
        while done < count:
            piece = min(PAGE_SIZE, count - done)
            moved = self._page(task, mm, at + done, local + done, piece, write)
            if not moved:
                break
            done += moved
        if position is None:
            file.position = at + done
        if count and not done:
            raise KernelError(EIO)
        return done

    def _page(self, task: Task, mm: Mm, address: int, local: int, size: int, write: bool) -> int:
        """Up to a page by way of the scratch page; the bytes that moved.  Raises KernelError(EFAULT)."""
        access, uaccess, scratch = self._kernel.remote.access_remote_vm, self._kernel.uaccess, task.scratch
        if not uaccess.access_ok(local, size):
            raise KernelError(EFAULT)
        if write and uaccess.copy_user(task, scratch, local, size):
            raise KernelError(EFAULT)
        moved = access(task, mm, address, scratch, size, write=write)
        if not write and moved and uaccess.copy_user(task, local, scratch, moved):
            raise KernelError(EFAULT)
        return moved


class Mem(ProcInode):
    """The file of one task."""

    mappable = False
    unmappable = ENODEV

    def __init__(self, kernel: Kernel, task: Task, ino: int) -> None:
        self._kernel, self._task, self.ino = kernel, task, ino
        self._spaces: dict[int, Mm | None] = {}
        """By id() of an open file: what it has opened."""

    def stat(self) -> Stat:
        return proc_stat(self, MODE)

    def operations(self) -> FileOperations:
        return MemFile(self._kernel)

    def llseek(self, file: File, offset: int, whence: int) -> int:
        """From the start or from where it is; every address is one.  Raises KernelError(EINVAL)."""
        if whence not in (SEEK_SET, SEEK_CUR):
            raise KernelError(EINVAL)
        return (offset if whence == SEEK_SET else file.position + offset) % EVERYTHING

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect."""

    def check_open(self, write: bool) -> None:
        """Raises KernelError(EACCES) for who may not trace the process."""
        caller = self._kernel.sched.current
        if caller is not None and not may_access(caller, self._task, by_file=True):
            raise KernelError(EACCES)

    def opened(self, file: File) -> None:
        self._spaces[id(file)] = self._task.mm

    def released(self, file: File) -> None:
        self._spaces.pop(id(file), None)

    def opened_mm(self, file: File) -> Mm | None:
        """The address space that a file was opened on."""
        return self._spaces[id(file)]
