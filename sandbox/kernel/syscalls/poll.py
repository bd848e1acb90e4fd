"""poll and select: waiting for several files at once, with an end in virtual time."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi.errno import EBADF, EFAULT, EINTR, EINVAL, ERESTART_RESTARTBLOCK, ERESTARTNOHAND, KernelError
from sandbox.kernel.abi.flags import (
    O_PATH,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
)
from sandbox.kernel.abi.poll import POLLRDBAND, POLLRDNORM, POLLWRBAND, POLLWRNORM
from sandbox.kernel.abi.structs import (
    pack_timespec,
    pack_timespec64,
    pack_timeval,
    unpack_pollfd,
    unpack_timespec,
    unpack_timespec64,
)
from sandbox.kernel.base.wait import Place
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import NO_OPERATIONS, Ready

IN_SET = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR
OUT_SET = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR
POLLFD_BYTES, SIGSET_BYTES = 8, 8
NANOSECONDS, MILLISECOND = 10**9, 10**6

Check = Callable[[], tuple[int, list[Place]]]
"""Files that are ready, and where to wait when there are none."""


def poll_file(task: Task, file: File) -> Ready:
    """POLL* bits of an open file, and the queues that tell of changes."""
    return (file.inode.operations() or NO_OPERATIONS).poll(file, task)


def wait_until_ready(kernel: Kernel, task: Task, check: Check, until: int | None, what: str) -> int:
    """Files that are ready, 0 after ``until`` (blocks; None is never).  Raises KernelError(ERESTARTNOHAND)."""
    while True:
        count, queues = check()
        if count or (until is not None and kernel.clock.now >= until):
            return count
        if task.pending:
            raise KernelError(ERESTARTNOHAND)
        kernel.sched.schedule(queues, what, until)


def deadline(kernel: Kernel, nanoseconds: int | None) -> int | None:
    """The machine time, in blocks of a nanosecond, at which a wait of so long ends."""
    return None if nanoseconds is None else kernel.clock.now + nanoseconds


def _usable(task: Task, fd: int) -> File | None:
    if fd not in task.files:
        return None
    file = task.files.get(fd)
    return None if file.flags & O_PATH else file


# -- poll ------------------------------------------------------------------------------------------------------------


def _poll(kernel: Kernel, task: Task, fds: int, count: int, until: int | None) -> int:
    if count > task.files.limit:
        raise KernelError(EINVAL)
    data = kernel.uaccess.get_user(task, fds, count * POLLFD_BYTES) if count else b""
    wanted = [unpack_pollfd(data[at : at + POLLFD_BYTES]) for at in range(0, len(data), POLLFD_BYTES)]
    found = [0] * count

    def check() -> tuple[int, list[Place]]:
        queues: list[Place] = []
        for index, (fd, events) in enumerate(wanted):
            if fd < 0:
                continue
            file = _usable(task, fd)
            if file is None:
                found[index] = POLLNVAL
                continue
            ready = poll_file(task, file)
            found[index] = ready.mask & (events | POLLERR | POLLHUP)
            queues += ready.queues
        return sum(1 for each in found if each), queues

    ready = wait_until_ready(kernel, task, check, until, "files to be ready (poll)")
    if count:
        answer = bytearray(data)
        for index, mask in enumerate(found):
            answer[index * 8 + 6 : index * 8 + 8] = mask.to_bytes(2, "little")
        if kernel.uaccess.copy_to_user(task, fds, bytes(answer)):
            raise KernelError(EFAULT)
    return ready


def sys_poll(kernel: Kernel, task: Task, fds: int, count: int, timeout: int, *_: int) -> int:
    until = deadline(kernel, None if timeout >> 31 else timeout * MILLISECOND)

    def poll(task: Task) -> int:
        try:
            return _poll(kernel, task, fds, count, until)
        except KernelError as error:
            if error.errno != ERESTARTNOHAND:
                raise
            task.signals.restart = poll
            raise KernelError(ERESTART_RESTARTBLOCK) from error

    return poll(task)


def _ppoll(kernel: Kernel, task: Task, fds: int, count: int, time: int, mask: int, size: int, wide: bool) -> int:
    nanoseconds = _get_time(kernel, task, time, wide)
    until = deadline(kernel, nanoseconds)
    return masked(
        kernel,
        task,
        mask,
        size,
        lambda: _timed(
            kernel, task, time, nanoseconds, until, _pack(wide), lambda: _poll(kernel, task, fds, count, until)
        ),
    )


def sys_ppoll(kernel: Kernel, task: Task, fds: int, count: int, time: int, mask: int, size: int, *_: int) -> int:
    return _ppoll(kernel, task, fds, count, time, mask, size, False)


def sys_ppoll_time64(kernel: Kernel, task: Task, fds: int, count: int, time: int, mask: int, size: int, *_: int) -> int:
    return _ppoll(kernel, task, fds, count, time, mask, size, True)


# -- select ----------------------------------------------------------------------------------------------------------


def _select(kernel: Kernel, task: Task, count: int, sets: tuple[int, int, int], until: int | None) -> int:
    if count >> 31:
        raise KernelError(EINVAL)
    count = min(count, task.files.limit)
    size = (count + 31) // 32 * 4
    asked = [
        int.from_bytes(kernel.uaccess.get_user(task, each, size), "little") & (1 << count) - 1 if each and size else 0
        for each in sets
    ]
    fds = [fd for fd in range(count) if (asked[0] | asked[1] | asked[2]) >> fd & 1]
    if any(_usable(task, fd) is None for fd in fds):
        raise KernelError(EBADF)
    found = [0, 0, 0]

    def check() -> tuple[int, list[Place]]:
        queues: list[Place] = []
        found[:] = (0, 0, 0)
        bits = 0
        for fd in fds:
            file = _usable(task, fd)
            ready = Ready(POLLNVAL) if file is None else poll_file(task, file)
            for index, events in enumerate((IN_SET, OUT_SET, POLLPRI)):
                if asked[index] >> fd & 1 and ready.mask & events:
                    found[index] |= 1 << fd
                    bits += 1
            queues += ready.queues
        return bits, queues

    ready = wait_until_ready(kernel, task, check, until, "files to be ready (select)")
    for each, mask in zip(sets, found, strict=True):
        if each and size:
            kernel.uaccess.put_user(task, each, mask.to_bytes(size, "little"))
    return ready


def sys__newselect(
    kernel: Kernel, task: Task, count: int, reading: int, writing: int, special: int, time: int, *_: int
) -> int:
    nanoseconds = None
    if time:
        data = kernel.uaccess.get_user(task, time, 8)
        seconds, micro = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (0, 4))
        nanoseconds = seconds * NANOSECONDS + micro * 1000
        if nanoseconds < 0 or micro < 0 or seconds < 0:
            raise KernelError(EINVAL)
    until = deadline(kernel, nanoseconds)
    sets = reading, writing, special
    return _timed(
        kernel, task, time, nanoseconds, until, pack_timeval, lambda: _select(kernel, task, count, sets, until)
    )


def sys_select(kernel: Kernel, task: Task, block: int, *_: int) -> int:
    """The old form: one pointer to the five arguments."""
    data = kernel.uaccess.get_user(task, block, 20)
    arguments = [int.from_bytes(data[at : at + 4], "little") for at in range(0, 20, 4)]
    return sys__newselect(kernel, task, *arguments)


def _pselect(
    kernel: Kernel,
    task: Task,
    count: int,
    sets: tuple[int, int, int],
    time: int,
    mask: int,
    wide: bool,
) -> int:
    """``mask`` leads to a pair: the address of a signal mask, and its size."""
    nanoseconds = _get_time(kernel, task, time, wide)
    until = deadline(kernel, nanoseconds)
    address, size = (kernel.uaccess.get_word(task, mask), kernel.uaccess.get_word(task, mask + 4)) if mask else (0, 0)
    return masked(
        kernel,
        task,
        address,
        size,
        lambda: _timed(
            kernel, task, time, nanoseconds, until, _pack(wide), lambda: _select(kernel, task, count, sets, until)
        ),
    )


def sys_pselect6(
    kernel: Kernel, task: Task, count: int, reading: int, writing: int, special: int, time: int, mask: int
) -> int:
    return _pselect(kernel, task, count, (reading, writing, special), time, mask, False)


def sys_pselect6_time64(
    kernel: Kernel, task: Task, count: int, reading: int, writing: int, special: int, time: int, mask: int
) -> int:
    return _pselect(kernel, task, count, (reading, writing, special), time, mask, True)


# -- what both share -------------------------------------------------------------------------------------------------


def _get_time(kernel: Kernel, task: Task, time: int, wide: bool) -> int | None:
    if not time:
        return None
    return (
        unpack_timespec64(kernel.uaccess.get_user(task, time, 16))
        if wide
        else unpack_timespec(kernel.uaccess.get_user(task, time, 8))
    )


def _pack(wide: bool) -> Callable[[int], bytes]:
    return pack_timespec64 if wide else pack_timespec


def _timed(
    kernel: Kernel,
    task: Task,
    time: int,
    nanoseconds: int | None,
    until: int | None,
    pack: Callable[[int], bytes],
    call: Callable[[], int],
) -> int:
    """Do the call; then what is left of the time is stored back, if the program's memory takes it."""
    error: KernelError | None = None
    result = 0
    try:
        result = call()
    except KernelError as caught:
        error = caught
    if nanoseconds and until is not None:
        kernel.uaccess.copy_to_user(task, time, pack(max(0, until - kernel.clock.now)))
    if error is not None:
        raise error
    return result


def masked(kernel: Kernel, task: Task, mask: int, size: int, call: Callable[[], int]) -> int:
    """Do the call with another signal mask."""
    if not mask:
        return call()
    if size != SIGSET_BYTES:
        raise KernelError(EINVAL)
    state = task.signals
    before = state.blocked
    kernel.signals.set_blocked(task, int.from_bytes(kernel.uaccess.get_user(task, mask, SIGSET_BYTES), "little"))
    try:
        result = call()
    except KernelError as error:
        if error.errno in (ERESTARTNOHAND, EINTR):
            state.saved_mask = before
        else:
            kernel.signals.set_blocked(task, before)
        raise
    kernel.signals.set_blocked(task, before)
    return result
