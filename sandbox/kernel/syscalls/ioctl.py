"""ioctl: what every descriptor understands; the rest is the device's."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EBADF, ENOTTY, KernelError
from sandbox.kernel.abi.flags import O_ASYNC, O_NONBLOCK, O_PATH
from sandbox.kernel.abi.termios import FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.io import operations
from sandbox.kernel.task.task import Task


def sys_ioctl(kernel: Kernel, task: Task, fd: int, request: int, argument: int, *_: int) -> int:
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if request in (FIOCLEX, FIONCLEX):
        task.files.set_close_on_exec(fd, request == FIOCLEX)
        return 0
    if request in (FIONBIO, FIOASYNC):
        flag = O_NONBLOCK if request == FIONBIO else O_ASYNC
        wanted = kernel.uaccess.get_word(task, argument)
        file.flags = file.flags | flag if wanted else file.flags & ~flag
        return 0
    f_op = operations(kernel, file)
    try:
        return f_op.ioctl(file, task, request, argument)
    except KernelError as error:
        if error.errno != ENOTTY or request != FIONREAD:
            raise
    kernel.uaccess.put_user(task, argument, f_op.available(file).to_bytes(4, "little", signed=True))
    return 0
