"""Character devices, interrupts and wait queues of modules: how programs and devices reach guest kernel code.

``struct file_operations`` has five words, each a function or 0::

    int  (*open)(int file)                         file is a number that is the same in all calls
    int  (*release)(int file)
    int  (*read)(int file, char *user, int count)
    int  (*write)(int file, const char *user, int count)
    int  (*ioctl)(int file, int request, long argument)

Pointers from the program arrive as they are: the module copies, with the routines of ``uaccess.S``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EBUSY, EINVAL, ENODEV, ENOTTY, ERESTARTSYS, KernelError
from sandbox.kernel.abi.flags import POLLIN, POLLOUT
from sandbox.kernel.abi.structs import makedev
from sandbox.kernel.fs.chardev import CharDevice
from sandbox.kernel.fs.file import File
from sandbox.kernel.fs.pipe import WaitQueue
from sandbox.kernel.fs.stream import Ready, Stream
from sandbox.kernel.useraccess import unuse_mm
from sandbox.kernel.wait import signal_pending, wait_on, wake_up

if TYPE_CHECKING:
    from sandbox.engine.context import CpuContext
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import Task

OPERATIONS = ("open", "release", "read", "write", "ioctl")
FIRST_INO, FIRST_MAJOR = 60, 240
"""Majors from here on are for local use."""
LARGEST_ERRNO = 4095
EFLAGS_IF = 1 << 9


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
        number = self._files[id(file)] = self._next
        self._next += 1
        try:
            self.call("open", number)
        except KernelError:
            del self._files[id(file)]
            raise

    def released(self, file: File) -> None:
        number = self._files.pop(id(file), 0)
        if number and self.operations and not self._kernel.leaves_out("no-release"):
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
            errno = (1 << 32) - result
            raise KernelError(errno if errno <= LARGEST_ERRNO or errno == ERESTARTSYS else EINVAL)
        return result


def run_in_task(kernel: Kernel, function: int, *arguments: int) -> int:
    """Call a module's function for the current task; what it borrowed and did not give back is given back."""
    try:
        return kernel.here.call_c(function, *arguments)
    finally:
        kernel.here.pretended = None
        task = kernel.here.current
        while task is not None and task.borrowed:
            kernel.printk("a module left without unuse_mm\n")
            unuse_mm(kernel, ())


def register_chrdev(kernel: Kernel, a: tuple[int, ...]) -> int:
    """The device's number, or -EBUSY for a name that is taken."""
    name = kernel.kernel_string(a[0]).decode("latin-1")
    if not name or "/" in name:
        return -EINVAL
    known = kernel.devices.get(name)
    if known is not None and known.operations:
        return -EBUSY
    if known is not None:
        known.operations = a[1]
        return known.ino - FIRST_INO
    device = ModuleDevice(kernel, len(kernel.devices), name, a[1])
    kernel.files.add_device(f"/dev/{name}", device)
    kernel.devices[name] = device
    return device.ino - FIRST_INO


def unregister_chrdev(kernel: Kernel, a: tuple[int, ...]) -> int:
    """Who has it open gets ENODEV from now on."""
    device = kernel.devices.get(kernel.kernel_string(a[0]).decode("latin-1"))
    if device is None or not device.operations:
        return -EINVAL
    device.operations = 0
    return 0


# -- wait queues: any word of memory is one --------------------------------------------------------------------------


def _queue(kernel: Kernel, address: int) -> WaitQueue:
    return kernel.wait_queues.setdefault(address, WaitQueue("a module"))


def sleep_on(kernel: Kernel, a: tuple[int, ...]) -> int:
    """Sleep until ``wake_up`` of the same address; signals wait."""
    kernel.may_sleep("sleep_on")
    task = kernel.here.current
    if task is None:
        return -EINVAL
    queue = _queue(kernel, a[0])
    before = queue.wakes
    while queue.wakes == before:
        wait_on(kernel, task, (queue,), "a module")
    return 0


def interruptible_sleep_on(kernel: Kernel, a: tuple[int, ...]) -> int:
    """The same; a signal ends it."""
    kernel.may_sleep("interruptible_sleep_on")
    task = kernel.here.current
    if task is None:
        return -EINVAL
    if not signal_pending(task):
        wait_on(kernel, task, (_queue(kernel, a[0]),), "a module")
    return -ERESTARTSYS if signal_pending(task) else 0


def wake_up_queue(kernel: Kernel, a: tuple[int, ...]) -> None:
    """Everybody who sleeps on the word goes on."""
    wake_up(kernel, _queue(kernel, a[0]))


# -- interrupts ------------------------------------------------------------------------------------------------------


def request_irq(kernel: Kernel, a: tuple[int, ...]) -> int:
    """Let a function answer a device's vector; -EBUSY when one does."""
    if not 0x20 <= a[0] <= 0xFF:
        return -EINVAL
    if a[0] in kernel.irq_handlers:
        return -EBUSY
    kernel.irq_handlers[a[0]] = a[1]
    return 0


def free_irq(kernel: Kernel, a: tuple[int, ...]) -> None:
    kernel.irq_handlers.pop(a[0], None)


def do_irq(kernel: Kernel, interrupted: CpuContext) -> None:
    """Answer what devices asked for, unless interrupts are off: a handler runs at once, and may not sleep.

    Devices' interrupts go to one CPU; where that is another one than the present, it is interrupted there.
    """
    board = kernel.machine.board
    target = kernel.cpus[board.interrupt_cpu]
    board.asked = not interrupted.eflags & EFLAGS_IF
    while board.pending(target.index) is not None and not kernel.in_interrupt and interrupted.eflags & EFLAGS_IF:
        vector = board.acknowledge(target.index)
        handler = kernel.irq_handlers.get(vector)
        if handler is None:
            kernel.printk(f"unexpected interrupt: vector {vector:#x}\n")
            continue
        here, kernel.here = kernel.here, target
        kernel.in_interrupt = True
        try:
            with target.borrowed_flow(target is not here):
                target.call_c(handler, vector)
        finally:
            kernel.in_interrupt = False
            kernel.here = here
