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

from sandbox.kernel.abi.errno import EBUSY, EINTR, EINVAL, ENODEV, ENOTTY, ERESTARTSYS, KernelError
from sandbox.kernel.abi.flags import O_PATH, S_IFCHR
from sandbox.kernel.abi.structs import makedev
from sandbox.kernel.drivers.chrdev import CharDevice
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.module.entry import GuestEntry
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import FileOperations

OPERATIONS = ("open", "release", "read", "write", "ioctl")
FIRST_INO, LONGEST_NAME = 60, 64
FIRST_MAJOR = 240
"""Majors from here on are for local use."""


class ModuleDevice(CharDevice):
    """/dev/name."""

    kind = S_IFCHR
    seeks_nowhere = True

    def __init__(self, number: int, name: str, f_op: ModuleOperations) -> None:
        super().__init__(FIRST_INO + number, makedev(FIRST_MAJOR + number, 0), f"/dev/{name}", f_op)
        self.module = f_op

    def opened(self, file: File) -> None:
        if not file.flags & O_PATH:
            self.module.open(file)

    def released(self, file: File) -> None:
        self.module.release(file)


class ModuleOperations(FileOperations):
    """What open files of a module's device do; ``table`` is the linear address of its structure, 0 when it is gone."""

    def __init__(self, kernel: Kernel, entry: GuestEntry, table: int) -> None:
        self._kernel, self._entry = kernel, entry
        self.table = table
        self._tells = not kernel.broken("no-release")
        self._files: dict[int, int] = {}
        self._next = 1

    def open(self, file: File) -> None:
        """A new open file.  Raises KernelError as the module answers."""
        number = self._files[id(file)] = self._next
        self._next += 1
        try:
            self.call("open", number)
        except KernelError:
            del self._files[id(file)]
            raise

    def release(self, file: File) -> None:
        """The last descriptor of an open file is gone."""
        number = self._files.pop(id(file), 0)
        if number and self.table and self._tells:
            with suppress(KernelError):
                self.call("release", number)

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.call("read", self._files[id(file)], address, count)

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.call("write", self._files[id(file)], address, count)

    def ioctl(self, file: File, task: Task, request: int, argument: int) -> int:
        return self.call("ioctl", self._files[id(file)], request, argument)

    def call(self, what: str, *arguments: int) -> int:
        """One operation, run on the CPU.  Raises KernelError: as the module answers, ENODEV without one."""
        kernel = self._kernel
        if not self.table:
            raise KernelError(ENODEV)
        function = kernel.peek.word(self.table + 4 * OPERATIONS.index(what))
        if not function:
            if what in ("open", "release"):
                return 0
            raise KernelError(ENOTTY if what == "ioctl" else EINVAL)
        result = self._entry.run_in_task(function, *arguments)
        if result >= 1 << 31:
            errno, task = (1 << 32) - result, kernel.sched.current
            if errno == ERESTARTSYS and task is not None and not task.pending:
                errno = EINTR
            raise KernelError(errno if errno <= ERESTARTSYS else EINVAL)
        return result


class Devices:
    """The character devices that modules have registered, by name."""

    def __init__(self, kernel: Kernel, entry: GuestEntry) -> None:
        self._kernel, self._entry = kernel, entry
        self.by_name: dict[str, ModuleDevice] = {}
        self._last = 0

    @property
    def live(self) -> int:
        """Those whose module is there."""
        return sum(device.module.table != 0 for device in self.by_name.values())

    def register_chrdev(self, name: int, table: int) -> int:
        """The device's number; -EBUSY for a name that is taken, -EINVAL for one that is none."""
        kernel = self._kernel
        text = kernel.peek.kernel_string(name, LONGEST_NAME).decode("latin-1")
        if not re.fullmatch(r"[!-.0-~]+", text) or text in (".", "..") or len(text) == LONGEST_NAME:
            return -EINVAL
        known = self.by_name.get(text)
        if known is None and kernel.files.exists(f"/dev/{text}"):
            return -EBUSY
        if known is not None and known.module.table:
            return -EBUSY
        self._last += 1
        device = ModuleDevice(self._last, text, ModuleOperations(kernel, self._entry, table))
        kernel.files.add_device(f"/dev/{text}", device)
        self.by_name[text] = device
        return self._last

    def unregister_chrdev(self, name: int) -> int:
        """Who has it open gets ENODEV from now on."""
        device = self.by_name.get(self._kernel.peek.kernel_string(name).decode("latin-1"))
        if device is None or not device.module.table:
            return -EINVAL
        device.module.table = 0
        return 0
