"""System V message queues: typed messages in page frames."""

from __future__ import annotations

import struct
from collections.abc import Callable

from sandbox.kernel.abi.errno import E2BIG, EAGAIN, EFAULT, EIDRM, EINTR, EINVAL, ENOMSG, KernelError
from sandbox.kernel.base.time import SECOND, Clock
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.ids import IPC_NOWAIT, IpcIds, Object, Perm
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import Task
from sandbox.records import dataclass
from sandbox.x86.paging import PAGE_SIZE

MSG_NOERROR, MSG_EXCEPT = 0o10000, 0o20000
MSGMAX, MSGMNB = 8192, 16384


@dataclass(slots=True, eq=False)
class Message:
    """``size`` bytes in frames."""

    kind: int
    size: int
    frames: list[int]


class MessageQueue(Object):
    """Messages in the order in which they were sent."""

    def __init__(self, perm: Perm, now: int) -> None:
        super().__init__(perm)
        self.messages: list[Message] = []
        self.limit = MSGMNB
        self.sent, self.received, self.changed = 0, 0, now
        self.sender = self.receiver = 0
        self.readable = WaitQueue("a message")
        self.writable = WaitQueue("room for a message")

    @property
    def used(self) -> int:
        """Bytes."""
        return sum(message.size for message in self.messages)

    def pack(self) -> bytes:
        """``struct msqid64_ds``, 88 bytes."""
        times = (self.sent, 0, self.received, 0, self.changed, 0)
        return self.perm.pack() + struct.pack(
            "<6I3I2I2I", *times, self.used, len(self.messages), self.limit, self.sender, self.receiver, 0, 0
        )

    def choose(self, kind: int, flags: int) -> Message | None:
        """The first of any type (0), of a type, of another one (MSG_EXCEPT), or of the lowest up to ``-kind``."""
        if kind < 0:
            low = [each for each in self.messages if each.kind <= -kind]
            return min(low, key=lambda each: each.kind, default=None)
        except_it = bool(flags & MSG_EXCEPT)
        return next((each for each in self.messages if not kind or (each.kind == kind) != except_it), None)


class Messages(IpcIds[MessageQueue]):
    """All queues of a machine."""

    def __init__(self, page_alloc: PageAllocator, uaccess: UserAccess, sched: Scheduler, clock: Clock) -> None:
        super().__init__()
        self._page_alloc, self._uaccess, self._sched, self._clock = page_alloc, uaccess, sched, clock

    def msgget(self, key: int, flags: int) -> int:
        now = self._clock.nanoseconds // SECOND
        return self.get(key, flags, lambda perm: MessageQueue(perm, now), lambda found: None)

    def msgsnd(self, task: Task, ident: int, address: int, size: int, flags: int) -> int:
        """Raises KernelError: EAGAIN, EFAULT, EIDRM, EINTR, EINVAL."""
        kind: int = struct.unpack("<i", self._uaccess.get_user(task, address, 4))[0]
        if size > MSGMAX or kind < 1:
            raise KernelError(EINVAL)
        queue = self.find(ident)
        message = self._load(task, kind, address + 4, size)
        try:
            while queue.used + size > queue.limit or len(queue.messages) >= queue.limit:
                self._wait(queue, queue.writable, flags, EAGAIN)
        except BaseException:
            self._free(message)
            raise
        queue.messages.append(message)
        queue.sent, queue.sender = self._clock.nanoseconds // SECOND, task.tgid
        self._sched.wake_up(queue.readable)
        return 0

    def msgrcv(self, task: Task, ident: int, address: int, size: int, kind: int, flags: int) -> int:
        """Bytes received.  Raises KernelError: E2BIG, EFAULT, EIDRM, EINTR, EINVAL, ENOMSG."""
        if size >> 31:
            raise KernelError(EINVAL)
        queue = self.find(ident)
        while (message := queue.choose(kind, flags)) is None:
            self._wait(queue, queue.readable, flags, ENOMSG)
        if message.size > size and not flags & MSG_NOERROR:
            raise KernelError(E2BIG)
        queue.messages.remove(message)
        queue.received, queue.receiver = self._clock.nanoseconds // SECOND, task.tgid
        self._sched.wake_up(queue.writable)
        try:
            self._uaccess.put_user(task, address, struct.pack("<i", message.kind))
            return self._copy(task, message, address + 4, min(size, message.size), self._uaccess.copy_frame_to_user)
        finally:
            self._free(message)

    def _wait(self, queue: MessageQueue, on: WaitQueue, flags: int, empty: int) -> None:
        if flags & IPC_NOWAIT:
            raise KernelError(empty)
        self._sched.schedule((on,), on.what)
        if queue.removed:
            raise KernelError(EIDRM)
        if self._sched.signal_pending():
            raise KernelError(EINTR)

    def _load(self, task: Task, kind: int, address: int, size: int) -> Message:
        message = Message(kind, size, [])
        try:
            for _ in range(-(-size // PAGE_SIZE)):
                message.frames.append(self._page_alloc.alloc_page(GFP_HIGHUSER))
            self._copy(task, message, address, size, self._uaccess.copy_frame_from_user)
        except BaseException:
            self._free(message)
            raise
        return message

    def _copy(
        self, task: Task, message: Message, address: int, size: int, copy: Callable[[Task, int, int, int, int], int]
    ) -> int:
        for at in range(0, size, PAGE_SIZE):
            if copy(task, address + at, message.frames[at // PAGE_SIZE], 0, min(PAGE_SIZE, size - at)):
                raise KernelError(EFAULT)
        return size

    def _free(self, message: Message) -> None:
        while message.frames:
            self._page_alloc.put_page(message.frames.pop())

    def destroy(self, queue: MessageQueue) -> None:
        """IPC_RMID: who sleeps on it learns that it is gone, and its messages are lost."""
        self.remove(queue)
        for message in queue.messages:
            self._free(message)
        queue.messages.clear()
        for each in (queue.readable, queue.writable):
            self._sched.wake_up(each)
