"""Time, limits, names and the polite refusals.

Time is virtual: one translated block is a nanosecond of it, and what a sleeping machine skips counts in full.
"""

from __future__ import annotations

import os

from sandbox.kernel.abi.errno import (
    EFAULT,
    EINVAL,
    EOPNOTSUPP,
    EPERM,
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ESRCH,
    KernelError,
)
from sandbox.kernel.abi.structs import (
    pack_rlimit,
    pack_rlimit64,
    pack_rusage,
    pack_sysinfo,
    pack_timespec,
    pack_timespec64,
    pack_timeval,
    pack_tms,
    pack_utsname,
    unpack_rlimit,
    unpack_rlimit64,
    unpack_timespec,
    unpack_timespec64,
)
from sandbox.kernel.abi.uts import HOSTNAME, MACHINE, OSRELEASE, OSTYPE, VERSION, old_release
from sandbox.kernel.base.time import BLOCK_NANOSECONDS, SECOND, TICK
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.rlimit import NR_OPEN, RLIMIT_CPU, RLIMIT_NOFILE, RLIMITS
from sandbox.kernel.task.itimer import arm_cpu_limit
from sandbox.kernel.task.task import Task
from sandbox.x86.paging import PAGE_SIZE

OLD_INFINITY = 0x7FFFFFFF
CLOCK_REALTIME, CLOCK_PROCESS, CLOCK_THREAD, CLOCK_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_TAI = 0, 2, 3, 5, 6, 11
CLOCKS = (0, 1, 2, 3, 4, 5, 6, 7, 11)
"""No CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM: the machine has no real-time clock that could wake it."""
NOT_FOR_SLEEP = {CLOCK_THREAD: EOPNOTSUPP, 4: EOPNOTSUPP, 5: EOPNOTSUPP, 6: EOPNOTSUPP, 8: EOPNOTSUPP, 9: EOPNOTSUPP}
TIMER_ABSTIME = 1
PER_THREAD = 4
RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD = -1, 0, 1
PR_SET_NAME, PR_GET_NAME = 15, 16
UNAME26, READ_IMPLIES_EXEC = 0x0020000, 0x0400000


def _now(kernel: Kernel) -> int:
    """Nanoseconds since the machine started."""
    return kernel.clock.now * BLOCK_NANOSECONDS


def clock_nanoseconds(kernel: Kernel, number: int) -> int:
    """What one of clock_gettime's clocks shows.  Raises KernelError(EINVAL) for a number that is none."""
    if number >> 31:
        return _cpu_clock(kernel, number)
    if number not in CLOCKS:
        raise KernelError(EINVAL)
    if number in (CLOCK_PROCESS, CLOCK_THREAD):
        task = kernel.sched.current
        if task is None:
            return 0
        return (task.utime if number == CLOCK_THREAD else task.group.utime) * BLOCK_NANOSECONDS
    real = number in (CLOCK_REALTIME, CLOCK_COARSE, CLOCK_TAI)
    return _now(kernel) + (kernel.clock.epoch if real else 0)


def _cpu_clock(kernel: Kernel, number: int) -> int:
    """A clock of one process, or of one thread of the caller's (clock_getcpuclockid(3), pthread_getcpuclockid(3)).

    ~pid is in the upper 29 bits, bit 2 says that it is a thread's, below is what it counts.
    """
    pid = ~number >> 3 & 0x1FFFFFFF
    caller = kernel.sched.current
    task = kernel.tasks.get(pid) if pid else caller
    if number & 3 == 3 or task is None or caller is None:
        raise KernelError(EINVAL)
    if number & PER_THREAD:
        if task.group is not caller.group:
            raise KernelError(EINVAL)
        return task.utime * BLOCK_NANOSECONDS
    if not task.is_leader and task is not caller:
        raise KernelError(EINVAL)
    return task.group.utime * BLOCK_NANOSECONDS


def sys_uname(kernel: Kernel, task: Task, buffer: int, *_: int) -> int:
    release = old_release(OSRELEASE) if task.personality & UNAME26 else OSRELEASE
    kernel.uaccess.put_user(task, buffer, pack_utsname(OSTYPE, HOSTNAME, release, VERSION, MACHINE))
    return 0


def sys_time(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    seconds = kernel.clock.nanoseconds // SECOND
    if pointer:
        kernel.uaccess.put_user(task, pointer, (seconds & 0xFFFFFFFF).to_bytes(4, "little"))
    return seconds


def sys_gettimeofday(kernel: Kernel, task: Task, tv: int, tz: int, *_: int) -> int:
    if tv:
        kernel.uaccess.put_user(task, tv, pack_timeval(clock_nanoseconds(kernel, CLOCK_REALTIME)))
    if tz:
        kernel.uaccess.put_user(task, tz, bytes(8))
    return 0


def sys_clock_gettime(kernel: Kernel, task: Task, clock: int, pointer: int, *_: int) -> int:
    kernel.uaccess.put_user(task, pointer, pack_timespec(clock_nanoseconds(kernel, clock)))
    return 0


def sys_clock_gettime64(kernel: Kernel, task: Task, clock: int, pointer: int, *_: int) -> int:
    kernel.uaccess.put_user(task, pointer, pack_timespec64(clock_nanoseconds(kernel, clock)))
    return 0


def sys_clock_getres(kernel: Kernel, task: Task, clock: int, pointer: int, *_: int) -> int:
    clock_nanoseconds(kernel, clock)
    if pointer:
        kernel.uaccess.put_user(task, pointer, pack_timespec(_resolution(clock)))
    return 0


def sys_clock_getres_time64(kernel: Kernel, task: Task, clock: int, pointer: int, *_: int) -> int:
    clock_nanoseconds(kernel, clock)
    if pointer:
        kernel.uaccess.put_user(task, pointer, pack_timespec64(_resolution(clock)))
    return 0


def _resolution(clock: int) -> int:
    """Nanoseconds; the coarse clocks tick with HZ = 250."""
    return 4_000_000 if clock in (CLOCK_COARSE, CLOCK_MONOTONIC_COARSE) else BLOCK_NANOSECONDS


def _sleep(kernel: Kernel, task: Task, until: int, remaining: int, wide: bool = False) -> int:
    """Sleep until a time in blocks; what a signal leaves of it is stored at ``remaining``, if that is not NULL."""
    while kernel.clock.now < until and not kernel.broken("no-sleep"):
        if task.pending:
            if remaining:
                left = (until - kernel.clock.now) * BLOCK_NANOSECONDS
                kernel.uaccess.put_user(task, remaining, pack_timespec64(left) if wide else pack_timespec(left))
            task.signals.restart = lambda task: _sleep(kernel, task, until, remaining, wide)
            raise KernelError(ERESTART_RESTARTBLOCK)
        kernel.sched.sleep(task, "a timer", until)
    return 0


def _clock_sleep(
    kernel: Kernel, task: Task, clock: int, flags: int, wanted: int, remaining: int, wide: bool = False
) -> int:
    if clock in NOT_FOR_SLEEP:
        raise KernelError(NOT_FOR_SLEEP[clock])
    clock_nanoseconds(kernel, clock)
    if flags & TIMER_ABSTIME:
        wanted, remaining = wanted - clock_nanoseconds(kernel, clock), 0
    try:
        return _sleep(kernel, task, kernel.clock.now + wanted // BLOCK_NANOSECONDS, remaining, wide)
    except KernelError as error:
        if flags & TIMER_ABSTIME and error.errno == ERESTART_RESTARTBLOCK:
            raise KernelError(ERESTARTNOHAND) from error
        raise


def sys_nanosleep(kernel: Kernel, task: Task, request: int, remaining: int, *_: int) -> int:
    return _clock_sleep(kernel, task, 0, 0, unpack_timespec(kernel.uaccess.get_user(task, request, 8)), remaining)


def sys_clock_nanosleep(
    kernel: Kernel, task: Task, clock: int, flags: int, request: int, remaining: int, *_: int
) -> int:
    wanted = unpack_timespec(kernel.uaccess.get_user(task, request, 8))
    return _clock_sleep(kernel, task, clock, flags, wanted, remaining)


def sys_clock_nanosleep_time64(
    kernel: Kernel, task: Task, clock: int, flags: int, request: int, remaining: int, *_: int
) -> int:
    wanted = unpack_timespec64(kernel.uaccess.get_user(task, request, 16))
    return _clock_sleep(kernel, task, clock, flags, wanted, remaining, wide=True)


def sys_times(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    ticks = _now(kernel) // TICK
    if pointer:
        times = (task.group.utime, task.group.stime, task.group.children_utime, task.group.children_stime)
        kernel.uaccess.put_user(task, pointer, pack_tms(*(each * BLOCK_NANOSECONDS // TICK for each in times)))
    return ticks & 0x7FFFFFFF


def sys_getrusage(kernel: Kernel, task: Task, who: int, pointer: int, *_: int) -> int:
    """RUSAGE_SELF, RUSAGE_CHILDREN or RUSAGE_THREAD."""
    signed = who - (1 << 32) if who >> 31 else who
    if signed not in (RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD):
        raise KernelError(EINVAL)
    group = task.group
    whose = task if signed == RUSAGE_THREAD else group
    used, system = whose.utime, whose.stime
    if signed == RUSAGE_CHILDREN:
        used, system = group.children_utime, group.children_stime
    kernel.uaccess.put_user(task, pointer, pack_rusage(used * BLOCK_NANOSECONDS, system * BLOCK_NANOSECONDS))
    return 0


def sys_ugetrlimit(kernel: Kernel, task: Task, number: int, pointer: int, *_: int) -> int:
    kernel.uaccess.put_user(task, pointer, pack_rlimit(*_limit(task, number)))
    return 0


def sys_getrlimit(kernel: Kernel, task: Task, number: int, pointer: int, *_: int) -> int:
    """The old form, in which the largest limit is 2 GB less one."""
    kernel.uaccess.put_user(task, pointer, pack_rlimit(*_limit(task, number), infinity=OLD_INFINITY))
    return 0


def sys_setrlimit(kernel: Kernel, task: Task, number: int, pointer: int, *_: int) -> int:
    wanted = unpack_rlimit(kernel.uaccess.get_user(task, pointer, 8))
    _limit(task, number)
    _set_limit(task, number, wanted)
    return 0


def sys_prlimit64(kernel: Kernel, task: Task, pid: int, number: int, new: int, old: int, *_: int) -> int:
    wanted = unpack_rlimit64(kernel.uaccess.get_user(task, new, 16)) if new else None
    target = kernel.tasks.get(pid) if pid else task
    if target is None:
        raise KernelError(ESRCH)
    before = _limit(target, number)
    if wanted is not None:
        _set_limit(target, number, wanted)
    if old:
        kernel.uaccess.put_user(task, old, pack_rlimit64(*before))
    return 0


def _limit(task: Task, number: int) -> tuple[int, int]:
    if number >= RLIMITS:
        raise KernelError(EINVAL)
    return task.limits[number]


def _set_limit(task: Task, number: int, wanted: tuple[int, int]) -> None:
    """Root may raise hard limits.  Raises KernelError (EINVAL, EPERM)."""
    soft, hard = wanted
    if soft > hard:
        raise KernelError(EINVAL)
    if number == RLIMIT_NOFILE:
        if hard > NR_OPEN:
            raise KernelError(EPERM)
        task.files.limit = soft
    task.limits[number] = wanted
    if number == RLIMIT_CPU:
        arm_cpu_limit(task)


def sys_sysinfo(kernel: Kernel, task: Task, pointer: int, *_: int) -> int:
    frames = kernel.pgdat
    kernel.uaccess.put_user(
        task,
        pointer,
        pack_sysinfo(
            uptime=_now(kernel) // SECOND,
            total=frames.total_frames * PAGE_SIZE,
            free=frames.free_frames * PAGE_SIZE,
            total_high=frames.high.total * PAGE_SIZE,
            free_high=frames.zone_free(frames.high) * PAGE_SIZE,
            processes=len(kernel.tasks),
        ),
    )
    return 0


def sys_getrandom(kernel: Kernel, task: Task, buffer: int, size: int, flags: int, *_: int) -> int:
    size = min(size, 1 << 20)
    data = kernel.random.randbytes(size)
    left = kernel.uaccess.copy_to_user(task, buffer, data)
    if left == size and size:
        raise KernelError(EFAULT)
    return size - left


def sys_prctl(kernel: Kernel, task: Task, option: int, argument: int, *_: int) -> int:
    if option == PR_SET_NAME:
        task.comm = os.fsdecode(kernel.uaccess.get_user(task, argument, 16).split(b"\0")[0][:15])
        return 0
    if option == PR_GET_NAME:
        kernel.uaccess.put_user(task, argument, os.fsencode(task.comm)[:15].ljust(16, b"\0"))
        return 0
    raise KernelError(EINVAL)


def sys_umask(kernel: Kernel, task: Task, mask: int, *_: int) -> int:
    task.fs.umask, before = mask & 0o777, task.umask
    return before


def sys_personality(kernel: Kernel, task: Task, persona: int, *_: int) -> int:
    """The one before; all ones only ask.  READ_IMPLIES_EXEC counts for mmap(2) and mprotect(2), UNAME26 for uname(2),
    MMAP_PAGE_ZERO for the next exec; the rest is kept.
    """
    mm = task.mm
    assert mm is not None
    before = task.personality | (READ_IMPLIES_EXEC if mm.read_implies_exec else 0)
    if persona != 0xFFFFFFFF:
        task.personality = persona & ~READ_IMPLIES_EXEC
        mm.read_implies_exec = bool(persona & READ_IMPLIES_EXEC)
    return before
