"""init_module, finit_module, delete_module: programs that load kernel modules."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from sandbox.image.elf import ImageError
from sandbox.kernel.abi.errno import E2BIG, EBADF, EFAULT, EINVAL, ENOEXEC, KernelError
from sandbox.kernel.abi.flags import O_PATH, S_IFREG
from sandbox.kernel.fs.namespace import read_all
from sandbox.kernel.mm.uaccess import get_string, get_user
from sandbox.kernel.module.loader import ModuleError, modinfo_name
from sandbox.kernel.task.task import Task

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

LARGEST_MODULE = 16 << 20


def sys_init_module(kernel: Kernel, task: Task, image: int, size: int, options: int, *_: int) -> int:
    if not 0 < size <= LARGEST_MODULE:
        raise KernelError(E2BIG if size else ENOEXEC)
    data = get_user(kernel, task, image, size)
    return _load(kernel, "", data, _options(kernel, task, options))


def sys_finit_module(kernel: Kernel, task: Task, fd: int, options: int, flags: int, *_: int) -> int:
    file = task.files.get(fd)
    if flags & ~3:
        raise KernelError(EINVAL)
    if file.flags & O_PATH or not file.readable:
        raise KernelError(EBADF)
    if file.inode.kind != S_IFREG:
        raise KernelError(EINVAL)
    name = file.dentry.name.decode("utf-8", "replace") if file.dentry is not None else ""
    return _load(kernel, name.partition(".")[0], read_all(file.inode), _options(kernel, task, options))


def sys_delete_module(kernel: Kernel, task: Task, name: int, flags: int, *_: int) -> int:
    text = get_string(kernel, task, name, 256)
    try:
        kernel.modules.unload(text.rstrip(b"\0").decode("utf-8", "replace"))
    except ModuleError as error:
        raise KernelError(error.errno) from error
    return 0


def _options(kernel: Kernel, task: Task, address: int) -> list[str]:
    if not address:
        raise KernelError(EFAULT)
    return get_string(kernel, task, address).rstrip(b"\0").decode("latin-1").split()


def _load(kernel: Kernel, name: str, data: bytes, options: list[str]) -> int:
    try:
        name = modinfo_name(data) or name
        if not name:
            name = next(name for name in (f"module{n}" for n in count()) if kernel.modules.find(name) is None)
        kernel.modules.load(name, data, options)
    except ImageError as error:
        raise KernelError(ENOEXEC) from error
    except ModuleError as error:
        kernel.printk(f"{error.summary}\n")
        raise KernelError(error.errno) from error
    return 0
