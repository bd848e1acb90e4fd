"""eventfd(2): a 64-bit counter that writers add to and readers take."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EAGAIN, EINVAL, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLERR, POLLIN, POLLOUT
from sandbox.kernel.abi.poll import POLLRDNORM, POLLWRNORM
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.stream import Stream
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID
from sandbox.kernel.vfs.operations import Pieces, Ready, parts

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

    def __init__(self, count: int, semaphore: bool, uaccess: UserAccess, sched: Scheduler) -> None:
        super().__init__("[eventfd]")
        self._uaccess, self._sched = uaccess, sched
        self.count = count
        self.semaphore = semaphore
        self.changed = WaitQueue("an eventfd")

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.readv(file, task, [(address, count)])

    def readv(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        if sum(length for _, length in pieces) < 8:
            raise KernelError(EINVAL)
        while not self.count:
            self._wait(file)
        taken = 1 if self.semaphore else self.count
        self.count -= taken
        self._sched.wake_up(self.changed)
        data, done = taken.to_bytes(8, "little"), 0
        for at, part in parts(pieces, 0, 8):
            self._uaccess.put_user(task, at, data[done : done + part])
            done += part
        return 8

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        if count < 8:
            raise KernelError(EINVAL)
        added = int.from_bytes(self._uaccess.get_user(task, address, 8), "little")
        if added > MAXIMUM:
            raise KernelError(EINVAL)
        while self.count + added > MAXIMUM:
            self._wait(file)
        self.count += added
        if added:
            self._sched.wake_up(self.changed)
        return 8

    def _wait(self, file: File) -> None:
        if file.flags & O_NONBLOCK:
            raise KernelError(EAGAIN)
        self._sched.interruptible_sleep_on(self.changed)

    def poll(self, file: File, task: Task) -> Ready:
        mask = POLLIN | POLLRDNORM if self.count else 0
        if self.count < MAXIMUM:
            mask |= POLLOUT | POLLWRNORM
        if self.count > MAXIMUM:
            mask |= POLLERR
        return Ready(mask, (self.changed,))
