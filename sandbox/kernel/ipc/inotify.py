"""inotify(7): events of inodes that are watched, read from a descriptor."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EAGAIN, EEXIST, EINVAL, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLIN
from sandbox.kernel.abi.inotify import (
    IN_ALL_EVENTS,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONESHOT,
    IN_Q_OVERFLOW,
    pack_inotify_event,
)
from sandbox.kernel.abi.poll import POLLRDNORM
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.eventfd import AnonStream
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import Ready
from sandbox.records import dataclass

MAX_QUEUED_EVENTS = 16384
"""As /proc/sys/fs/inotify has it."""
KEPT = IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT
Queued = tuple[int, int, int, bytes]
"""Watch, mask, cookie, name."""


@dataclass(slots=True, eq=False)
class Watch:
    """One inode that a group watches."""

    group: Inotify
    number: int
    inode: Inode
    mask: int

    def happened(self, mask: int, cookie: int, name: bytes, unlinked: bool) -> None:
        if not mask & self.mask & IN_ALL_EVENTS or (unlinked and self.mask & IN_EXCL_UNLINK):
            return
        self.group.queue_event((self.number, mask, cookie, name))
        if self.mask & IN_ONESHOT:
            self.gone()

    def gone(self) -> None:
        """It watches no more, and who reads learns so."""
        self.group.forget(self)
        self.group.queue_event((self.number, IN_IGNORED, 0, b""))


class Inotify(AnonStream):
    """What inotify_init(2) makes: watches by number, and the events that nobody has read."""

    def __init__(self, uaccess: UserAccess, sched: Scheduler) -> None:
        super().__init__("inotify")
        self._uaccess, self._sched = uaccess, sched
        self.watches: dict[int, Watch] = {}
        self._last = 0
        self._events: list[Queued] = []
        self._arrived = WaitQueue("an event (inotify)")

    def add_watch(self, inode: Inode, mask: int) -> int:
        """The number of a watch on an inode; one that is there gets the mask.  Raises KernelError(EEXIST)."""
        for watch in self.watches.values():
            if watch.inode is inode:
                if mask & IN_MASK_CREATE:
                    raise KernelError(EEXIST)
                watch.mask = (watch.mask if mask & IN_MASK_ADD else 0) | mask & KEPT
                return watch.number
        self._last += 1
        watch = self.watches[self._last] = Watch(self, self._last, inode, mask & KEPT)
        inode.marks = [*(inode.marks or ()), watch]
        return watch.number

    def remove_watch(self, number: int) -> None:
        """Raises KernelError(EINVAL)."""
        watch = self.watches.get(number)
        if watch is None:
            raise KernelError(EINVAL)
        watch.gone()

    def forget(self, watch: Watch) -> None:
        """The inode has a watcher less."""
        self.watches.pop(watch.number, None)
        watch.inode.marks = [each for each in watch.inode.marks or () if each is not watch] or None

    def queue_event(self, event: Queued) -> None:
        """One that is like the last is not told again; of too many only that there were."""
        if self._events and self._events[-1] == event:
            return
        if len(self._events) >= MAX_QUEUED_EVENTS:
            event = (-1, IN_Q_OVERFLOW, 0, b"")
            if self._events[-1] == event:
                return
        self._events.append(event)
        self._sched.wake_up(self._arrived)

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        while not self._events:
            if file.flags & O_NONBLOCK:
                raise KernelError(EAGAIN)
            self._sched.interruptible_sleep_on(self._arrived)
        records: list[bytes] = []
        for record in (pack_inotify_event(*event) for event in self._events):
            count -= len(record)
            if count < 0:
                break
            records.append(record)
        if not records:
            raise KernelError(EINVAL)
        data = b"".join(records)
        self._uaccess.put_user(task, address, data)
        del self._events[: len(records)]
        return len(data)

    def available(self, file: File) -> int:
        return sum(len(pack_inotify_event(*event)) for event in self._events)

    def poll(self, file: File, task: Task) -> Ready:
        return Ready(POLLIN | POLLRDNORM if self._events else 0, (self._arrived,))

    def released(self, file: File) -> None:
        for watch in list(self.watches.values()):
            self.forget(watch)
