"""eventfd(2): a 64-bit counter that writers add to and readers take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EAGAIN, EINVAL, ERESTARTSYS, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLERR, POLLIN, POLLOUT
from sandbox.kernel.abi.poll import POLLRDNORM, POLLWRNORM
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.fs.pipe import WaitQueue
from sandbox.kernel.ipc.stream import Ready, Stream
from sandbox.kernel.mm.uaccess import get_user, put_user
from sandbox.kernel.task.wait import signal_pending, wait_on, wake_up
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task
    from sandbox.kernel.vfs.file import File

ANON_DEVICE = makedev(0, 14)
ANON_INO = 2
MAXIMUM = (1 << 64) - 2


class AnonStream(Stream):
    """An inode without a name or a type, as eventfd and epoll have."""

    kind = 0

    def __init__(self, name: str) -> None:
        self.ino = ANON_INO
        self.name = f"anon_inode:{name}"

    def stat(self) -> Stat:
        return Stat(dev=ANON_DEVICE, ino=ANON_INO, mode=0o600, uid=GUEST_UID, gid=GUEST_GID)


class EventFd(AnonStream):
    """The counter; with ``semaphore`` a read takes one, else all."""

    def __init__(self, count: int, semaphore: bool) -> None:
        super().__init__("[eventfd]")
        self.count = count
        self.semaphore = semaphore
        self.changed = WaitQueue("an eventfd")

    def read_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        if count < 8:
            raise KernelError(EINVAL)
        while not self.count:
            self._wait(kernel, task, file)
        taken = 1 if self.semaphore else self.count
        self.count -= taken
        wake_up(kernel, self.changed)
        put_user(kernel, task, address, taken.to_bytes(8, "little"))
        return 8

    def write_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        if count < 8:
            raise KernelError(EINVAL)
        added = int.from_bytes(get_user(kernel, task, address, 8), "little")
        if added > MAXIMUM:
            raise KernelError(EINVAL)
        while self.count + added > MAXIMUM:
            self._wait(kernel, task, file)
        self.count += added
        if added:
            wake_up(kernel, self.changed)
        return 8

    def _wait(self, kernel: Kernel, task: Task, file: File) -> None:
        if file.flags & O_NONBLOCK:
            raise KernelError(EAGAIN)
        wait_on(kernel, task, (self.changed,), self.changed.what)
        if signal_pending(task):
            raise KernelError(ERESTARTSYS)

    def poll_file(self, kernel: Kernel, task: Task, file: File) -> Ready:
        mask = POLLIN | POLLRDNORM if self.count else 0
        if self.count < MAXIMUM:
            mask |= POLLOUT | POLLWRNORM
        if self.count > MAXIMUM:
            mask |= POLLERR
        return Ready(mask, (self.changed,))
