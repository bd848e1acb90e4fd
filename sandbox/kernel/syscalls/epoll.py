"""epoll and eventfd.

An epoll file asks every file of its set anew when it is waited for; which one was woken matters only for
EPOLLET, told by the count of wakes of the file's queues.
"""

from __future__ import annotations

from sandbox.kernel.abi.errno import EBADF, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT, EPERM, KernelError
from sandbox.kernel.abi.flags import (
    O_CLOEXEC,
    O_NONBLOCK,
    O_PATH,
    O_RDWR,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
)
from sandbox.kernel.abi.poll import (
    EFD_SEMAPHORE,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLL_EVENT_BYTES,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLONESHOT,
    EPOLLWAKEUP,
    POLLRDNORM,
    pack_epoll_event,
    unpack_epoll_event,
)
from sandbox.kernel.abi.structs import unpack_timespec64
from sandbox.kernel.base.wait import Exclusive, Place, WaitQueue
from sandbox.kernel.ipc.eventfd import AnonStream, EventFd
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.syscalls.poll import MILLISECOND, deadline, masked, poll_file, wait_until_ready
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import NO_OPERATIONS, Ready
from sandbox.records import dataclass

MAXIMUM_EVENTS = 0x7FFFFFFF // EPOLL_EVENT_BYTES
MAXIMUM_NESTING = 5
FLAGS = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET
EXCLUSIVE_OK = POLLIN | POLLOUT | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE


@dataclass(slots=True)
class Watch:
    """One file of a set: what is asked, the program's own 64 bits, and the wakes seen when it was last reported."""

    file: File
    events: int
    data: int
    seen: int = -1


class Epoll(AnonStream):
    """The set, by (file, descriptor)."""

    def __init__(self) -> None:
        super().__init__("[eventpoll]")
        self.watches: dict[tuple[int, int], Watch] = {}
        self.changed = WaitQueue("an epoll set")

    def live(self) -> list[Watch]:
        """The watches whose files are still open, in the order in which they were last reported."""
        for key in [key for key, watch in self.watches.items() if not watch.file.count]:
            del self.watches[key]
        return list(self.watches.values())

    def ready(self, task: Task, watch: Watch) -> tuple[int, Ready]:
        """The bits to report, and all that the file says."""
        ready = poll_file(task, watch.file)
        if not watch.events & ~FLAGS:
            return 0, ready
        mask = ready.mask & (watch.events | POLLERR | POLLHUP)
        if watch.events & EPOLLET and _wakes(ready) == watch.seen:
            mask = 0
        return mask, ready

    def places(self, task: Task, watch: Watch, ready: Ready) -> list[Place]:
        """Where to wait for a file: with EPOLLEXCLUSIVE one of those who do is woken, unless it is for an end."""
        if not watch.events & EPOLLEXCLUSIVE:
            return list(ready.queues)

        def wanted() -> int:
            mask = self.ready(task, watch)[0]
            return -mask if mask & (POLLERR | POLLHUP) else mask

        return [Exclusive(queue, wanted) for queue in ready.queues]

    def poll(self, file: File, task: Task) -> Ready:
        queues: list[WaitQueue] = [self.changed]
        mask = 0
        for watch in self.live():
            found, ready = self.ready(task, watch)
            queues += ready.queues
            if found:
                mask = POLLIN | POLLRDNORM
        return Ready(mask, tuple(queues))


def _wakes(ready: Ready) -> int:
    return sum(queue.wakes for queue in ready.queues)


def _epoll_of(task: Task, fd: int) -> Epoll:
    inode = task.files.get(fd).inode
    if not isinstance(inode, Epoll):
        raise KernelError(EINVAL)
    return inode


def sys_epoll_create1(kernel: Kernel, task: Task, flags: int, *_: int) -> int:
    if flags & ~O_CLOEXEC:
        raise KernelError(EINVAL)
    return task.files.install(File(Epoll(), O_RDWR), close_on_exec=bool(flags))


def sys_epoll_create(kernel: Kernel, task: Task, size: int, *_: int) -> int:
    if not 0 < size < 1 << 31:
        raise KernelError(EINVAL)
    return sys_epoll_create1(kernel, task, 0)


def sys_epoll_ctl(kernel: Kernel, task: Task, epoll_fd: int, operation: int, fd: int, event: int, *_: int) -> int:
    events, data = 0, 0
    if operation != EPOLL_CTL_DEL:
        events, data = unpack_epoll_event(kernel.uaccess.get_user(task, event, EPOLL_EVENT_BYTES))
    holder, file = task.files.get(epoll_fd), task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    if not (file.inode.operations() or NO_OPERATIONS).can_poll(file):
        raise KernelError(EPERM)
    epoll = holder.inode
    if not isinstance(epoll, Epoll) or holder is file:
        raise KernelError(EINVAL)
    nested = isinstance(file.inode, Epoll)
    refused = operation == EPOLL_CTL_MOD or nested or events & ~EXCLUSIVE_OK
    if events & EPOLLEXCLUSIVE and refused:
        raise KernelError(EINVAL)
    if operation == EPOLL_CTL_ADD and isinstance(file.inode, Epoll):
        _check_nesting(epoll, file.inode)
    epoll.live()
    key = id(file), fd
    if operation == EPOLL_CTL_ADD:
        if key in epoll.watches:
            raise KernelError(EEXIST)
        epoll.watches[key] = Watch(file, events, data)
    elif operation == EPOLL_CTL_MOD:
        if key not in epoll.watches:
            raise KernelError(ENOENT)
        if epoll.watches[key].events & EPOLLEXCLUSIVE:
            raise KernelError(EINVAL)
        epoll.watches[key] = Watch(file, events, data)
    elif operation == EPOLL_CTL_DEL:
        if epoll.watches.pop(key, None) is None:
            raise KernelError(ENOENT)
        return 0
    else:
        raise KernelError(EINVAL)
    kernel.sched.wake_up(epoll.changed)
    return 0


def _check_nesting(outer: Epoll, inner: Epoll) -> None:
    """A set may not contain itself, nor more than a few sets within each other."""
    level, seen = [inner], 0
    while level:
        seen += 1
        if seen >= MAXIMUM_NESTING or outer in level:
            raise KernelError(ELOOP)
        level = [watch.file.inode for each in level for watch in each.live() if isinstance(watch.file.inode, Epoll)]


def _wait(kernel: Kernel, task: Task, epoll_fd: int, events: int, maximum: int, until: int | None) -> int:
    if not 0 < maximum <= MAXIMUM_EVENTS:
        raise KernelError(EINVAL)
    if not kernel.uaccess.access_ok(events, maximum * EPOLL_EVENT_BYTES):
        raise KernelError(EFAULT)
    epoll = _epoll_of(task, epoll_fd)
    found: list[tuple[Watch, int, Ready]] = []

    def check() -> tuple[int, list[Place]]:
        queues: list[Place] = [epoll.changed]
        found.clear()
        for watch in epoll.live():
            mask, ready = epoll.ready(task, watch)
            queues += epoll.places(task, watch, ready)
            if mask and len(found) < maximum:
                found.append((watch, mask, ready))
        return len(found), queues

    wait_until_ready(kernel, task, check, until, "an event (epoll)")
    done = 0
    for watch, mask, ready in found:
        if kernel.uaccess.copy_to_user(task, events + done * EPOLL_EVENT_BYTES, pack_epoll_event(mask, watch.data)):
            if not done:
                raise KernelError(EFAULT)
            break
        done += 1
        watch.seen = _wakes(ready)
        if watch.events & EPOLLONESHOT:
            watch.events &= FLAGS
        else:
            _to_the_end(epoll, watch)
    return done


def _to_the_end(epoll: Epoll, watch: Watch) -> None:
    """What was reported goes behind the others, so that none starves when few events are asked for."""
    for key, each in epoll.watches.items():
        if each is watch:
            epoll.watches[key] = epoll.watches.pop(key)
            return


def _milliseconds(timeout: int) -> int | None:
    return None if timeout >> 31 else timeout * MILLISECOND


def sys_epoll_wait(kernel: Kernel, task: Task, epoll_fd: int, events: int, maximum: int, timeout: int, *_: int) -> int:
    return _wait(kernel, task, epoll_fd, events, maximum, deadline(kernel, _milliseconds(timeout)))


def sys_epoll_pwait(
    kernel: Kernel, task: Task, epoll_fd: int, events: int, maximum: int, timeout: int, mask: int, size: int
) -> int:
    until = deadline(kernel, _milliseconds(timeout))
    return masked(kernel, task, mask, size, lambda: _wait(kernel, task, epoll_fd, events, maximum, until))


def sys_epoll_pwait2(
    kernel: Kernel, task: Task, epoll_fd: int, events: int, maximum: int, timeout: int, mask: int, size: int
) -> int:
    nanoseconds = unpack_timespec64(kernel.uaccess.get_user(task, timeout, 16)) if timeout else None
    until = deadline(kernel, nanoseconds)
    return masked(kernel, task, mask, size, lambda: _wait(kernel, task, epoll_fd, events, maximum, until))


def sys_eventfd2(kernel: Kernel, task: Task, count: int, flags: int, *_: int) -> int:
    if flags & ~(O_CLOEXEC | O_NONBLOCK | EFD_SEMAPHORE):
        raise KernelError(EINVAL)
    file = File(EventFd(count, bool(flags & EFD_SEMAPHORE), kernel.uaccess, kernel.sched), O_RDWR | flags & O_NONBLOCK)
    return task.files.install(file, close_on_exec=bool(flags & O_CLOEXEC))


def sys_eventfd(kernel: Kernel, task: Task, count: int, *_: int) -> int:
    return sys_eventfd2(kernel, task, count, 0)
