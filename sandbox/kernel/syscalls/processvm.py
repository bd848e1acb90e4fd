"""process_vm_readv and process_vm_writev (mm/process_vm_access.c): from process to process without a stop in between.

The copy is made page by page of the other process's: what was moved before a page that cannot be had is the result.
Areas are not forced: the other process must be able to do the access itself.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EFAULT, EINVAL, EPERM, ESRCH, KernelError
from sandbox.kernel.abi.structs import unpack_iovec
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.process.ptrace import may_access
from sandbox.kernel.syscalls.io import UIO_MAXIOV, vector_pieces
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.operations import Pieces, parts


def sys_process_vm_readv(
    kernel: Kernel, task: Task, pid: int, local: int, locals_: int, remote: int, remotes: int, flags: int
) -> int:
    return _transfer(kernel, task, pid, (local, locals_), (remote, remotes), flags, write=False)


def sys_process_vm_writev(
    kernel: Kernel, task: Task, pid: int, local: int, locals_: int, remote: int, remotes: int, flags: int
) -> int:
    return _transfer(kernel, task, pid, (local, locals_), (remote, remotes), flags, write=True)


def _transfer(
    kernel: Kernel, task: Task, pid: int, local: tuple[int, int], remote: tuple[int, int], flags: int, *, write: bool
) -> int:
    if flags:
        raise KernelError(EINVAL)
    mine = vector_pieces(kernel, task, *local)
    if not mine:
        return 0
    theirs = _remote_pieces(kernel, task, *remote)
    if not theirs:
        return 0
    return _copy(kernel, task, _mm_of(kernel, task, pid), mine, theirs, write)


def _remote_pieces(kernel: Kernel, task: Task, vector: int, count: int) -> list[tuple[int, int]]:
    """The pieces but for empty ones; whether they are there is seen when they are reached."""
    if count > UIO_MAXIOV:
        raise KernelError(EINVAL)
    pieces = unpack_iovec(kernel.uaccess.get_user(task, vector, 8 * count)) if count else []
    if any(length >> 31 for _, length in pieces):
        raise KernelError(EINVAL)
    return [piece for piece in pieces if piece[1]]


def _mm_of(kernel: Kernel, task: Task, pid: int) -> Mm:
    """Raises KernelError: ESRCH, EPERM."""
    target = kernel.tasks.get(pid)
    if target is None:
        raise KernelError(ESRCH)
    if target.mm is None:
        raise KernelError(ESRCH)
    if not may_access(task, target):
        raise KernelError(EPERM)
    return target.mm


def _copy(kernel: Kernel, task: Task, mm: Mm, mine: Pieces, theirs: Pieces, write: bool) -> int:
    done, wanted = 0, sum(length for _, length in mine)
    for address, length in theirs:
        for local, part in parts(mine, done, min(length, wanted - done)):
            moved = kernel.remote.access_remote_vm(task, mm, address, local, part, write=write, force=False)
            done, address = done + moved, address + moved
            if moved < part:
                return _so_far(done)
    return done


def _so_far(done: int) -> int:
    """Raises KernelError(EFAULT) when nothing was moved."""
    if not done:
        raise KernelError(EFAULT)
    return done
