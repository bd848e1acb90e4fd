"""Character devices of modules: how programs reach guest kernel code.

``struct file_operations`` has five words, each a function or 0::

    int  (*open)(int file)                         file is a number that is the same in all calls
    int  (*release)(int file)
    int  (*read)(int file, char *user, int count)
    int  (*write)(int file, const char *user, int count)
    int  (*ioctl)(int file, int request, long argument)

Pointers from the program arrive as they are: the module copies, with the routines of ``uaccess.S``.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EBUSY, EINTR, EINVAL, ENODEV, ENOTTY, ERESTARTSYS, KernelError
from sandbox.kernel.abi.flags import O_PATH, POLLIN, POLLOUT
from sandbox.kernel.abi.structs import makedev
from sandbox.kernel.drivers.chrdev import CharDevice
from sandbox.kernel.ipc.stream import Ready, Stream
from sandbox.kernel.module.entry import run_in_task
from sandbox.kernel.vfs.file import File

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task

OPERATIONS = ("open", "release", "read", "write", "ioctl")
FIRST_INO, LONGEST_NAME = 60, 64
FIRST_MAJOR = 240
"""Majors from here on are for local use."""


class ModuleDevice(CharDevice, Stream):
    """/dev/name, whose operations are a module's."""

    seeks_nowhere = True

    def __init__(self, kernel: Kernel, number: int, name: str, operations: int) -> None:
        super().__init__(FIRST_INO + number, makedev(FIRST_MAJOR + number, 0), f"/dev/{name}")
        self._kernel = kernel
        self.operations = operations
        """Linear address of the module's structure; 0 when the module is gone."""
        self._files: dict[int, int] = {}
        self._next = 1

    def opened(self, file: File) -> None:
        if file.flags & O_PATH:
            return
        number = self._files[id(file)] = self._next
        self._next += 1
        try:
            self.call("open", number)
        except KernelError:
            del self._files[id(file)]
            raise

    def released(self, file: File) -> None:
        number = self._files.pop(id(file), 0)
        if number and self.operations and not self._kernel.broken("no-release"):
            with suppress(KernelError):
                self.call("release", number)

    def read_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        return self.call("read", self._files[id(file)], address, count)

    def write_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        return self.call("write", self._files[id(file)], address, count)

    def ioctl(self, file: File, request: int, argument: int) -> int:
        """Raises KernelError as the module answers, ENODEV without one."""
        return self.call("ioctl", self._files[id(file)], request, argument)

    def poll_file(self, kernel: Kernel, task: Task, file: File) -> Ready:
        return Ready(POLLIN | POLLOUT)

    def call(self, what: str, *arguments: int) -> int:
        """One operation, run on the CPU.  Raises KernelError."""
        kernel = self._kernel
        if not self.operations:
            raise KernelError(ENODEV)
        at = self.operations + 4 * OPERATIONS.index(what)
        function = int.from_bytes(kernel.peek(None, at, 4), "little")
        if not function:
            if what in ("open", "release"):
                return 0
            raise KernelError(ENOTTY if what == "ioctl" else EINVAL)
        result = run_in_task(kernel, function, *arguments)
        if result >= 1 << 31:
            errno, task = (1 << 32) - result, kernel.this_cpu.current
            if errno == ERESTARTSYS and task is not None and not task.pending:
                errno = EINTR
            raise KernelError(errno if errno <= ERESTARTSYS else EINVAL)
        return result


def register_chrdev(kernel: Kernel, a: tuple[int, ...]) -> int:
    """The device's number, or -EBUSY for a name that is taken."""
    name = kernel.kernel_string(a[0], LONGEST_NAME).decode("latin-1")
    if not re.fullmatch(r"[!-.0-~]+", name) or name in (".", "..") or len(name) == LONGEST_NAME:
        return -EINVAL
    known = kernel.devices.get(name)
    if known is None and kernel.files.exists(f"/dev/{name}"):
        return -EBUSY
    if known is not None and known.operations:
        return -EBUSY
    kernel.device_number += 1
    device = ModuleDevice(kernel, kernel.device_number, name, a[1])
    kernel.files.add_device(f"/dev/{name}", device)
    kernel.devices[name] = device
    return kernel.device_number


def unregister_chrdev(kernel: Kernel, a: tuple[int, ...]) -> int:
    """Who has it open gets ENODEV from now on."""
    device = kernel.devices.get(kernel.kernel_string(a[0]).decode("latin-1"))
    if device is None or not device.operations:
        return -EINVAL
    device.operations = 0
    return 0
