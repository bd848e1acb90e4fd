"""init_module, finit_module, delete_module: programs that load kernel modules."""

from __future__ import annotations

from itertools import count

from sandbox.image.elf import ImageError
from sandbox.kernel.abi.errno import E2BIG, EBADF, EFAULT, EINVAL, ENOEXEC, KernelError
from sandbox.kernel.abi.flags import O_PATH, S_IFREG
from sandbox.kernel.fs.namespace import read_all
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.module.loader import ModuleError, Modules, modinfo_name
from sandbox.kernel.task.task import Task

LARGEST_MODULE = 16 << 20


class ModuleCalls:
    """The calls that reach the loader."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules

    def sys_init_module(self, kernel: Kernel, task: Task, image: int, size: int, options: int, *_: int) -> int:
        if not 0 < size <= LARGEST_MODULE:
            raise KernelError(E2BIG if size else ENOEXEC)
        data = kernel.uaccess.get_user(task, image, size)
        return self._load(kernel, "", data, self._options(kernel, task, options))

    def sys_finit_module(self, kernel: Kernel, task: Task, fd: int, options: int, flags: int, *_: int) -> int:
        file = task.files.get(fd)
        if flags & ~3:
            raise KernelError(EINVAL)
        if file.flags & O_PATH or not file.readable:
            raise KernelError(EBADF)
        if file.inode.kind != S_IFREG:
            raise KernelError(EINVAL)
        name = file.dentry.name.decode("utf-8", "replace") if file.dentry is not None else ""
        return self._load(kernel, name.partition(".")[0], read_all(file.inode), self._options(kernel, task, options))

    def sys_delete_module(self, kernel: Kernel, task: Task, name: int, flags: int, *_: int) -> int:
        text = kernel.uaccess.get_string(task, name, 256)
        try:
            self._modules.unload(text.rstrip(b"\0").decode("utf-8", "replace"))
        except ModuleError as error:
            raise KernelError(error.errno) from error
        return 0

    def _options(self, kernel: Kernel, task: Task, address: int) -> list[str]:
        if not address:
            raise KernelError(EFAULT)
        return kernel.uaccess.get_string(task, address).rstrip(b"\0").decode("latin-1").split()

    def _load(self, kernel: Kernel, name: str, data: bytes, options: list[str]) -> int:
        try:
            name = modinfo_name(data) or name
            if not name:
                name = next(name for name in (f"module{n}" for n in count()) if self._modules.find(name) is None)
            self._modules.load(name, data, options)
        except ImageError as error:
            raise KernelError(ENOEXEC) from error
        except ModuleError as error:
            kernel.log.printk(f"{error.summary}\n")
            raise KernelError(error.errno) from error
        return 0
