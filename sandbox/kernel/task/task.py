"""Tasks: a greenlet with a kernel stack, a user-mode context, an address space and files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from greenlet import greenlet

from sandbox.engine.context import CpuContext
from sandbox.kernel.abi.signals import SIGCHLD
from sandbox.kernel.arch.cpu import KernelCpu, KernelStack
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.rlimit import Limits, default_limits
from sandbox.kernel.task.cred import ROOT, Cred
from sandbox.kernel.task.interval import IntervalTimers
from sandbox.kernel.task.sigqueue import SigState
from sandbox.kernel.vfs.file import FdTable
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.namei import Dentry

GDT_ENTRY_TLS_MIN, GDT_ENTRY_TLS_ENTRIES = 6, 3


class State(Enum):
    """What the scheduler may do with a task."""

    RUNNING = "running"
    SLEEPING = "sleeping"
    STOPPED = "stopped"
    ZOMBIE = "zombie"
    DEAD = "dead"


class TaskExit(BaseException):
    """Raised inside a task's greenlet to leave whatever it is doing and exit."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


SCHED_DEADLINE, SCHED_RESET_ON_FORK = 6, 0x40000000


class Capabilities(NamedTuple):
    """Sets of CAP_* bits."""

    effective: int
    permitted: int
    inheritable: int


ALL_CAPABILITIES = Capabilities((1 << 41) - 1, (1 << 41) - 1, 0)
"""Of root; CAP_CHECKPOINT_RESTORE, 40, is the last one."""


@dataclass(slots=True, eq=False)
class Task:
    """``status`` is a wait(2) status word; ``cwd`` is a path below the root."""

    pid: int
    comm: str
    context: CpuContext
    kstack: KernelStack
    stack_frames: tuple[int, ...]
    mm: Mm | None
    files: FdTable
    parent: Task | None
    cpu: KernelCpu
    cwd: Dentry
    root: Dentry | None = None
    """Where absolute paths start after chroot, None for the tree's root."""
    cred: Cred = ROOT
    pgid: int = 0
    sid: int = 0
    umask: int = 0o022
    personality: int = 0
    nice: int = 0
    policy: int = 0
    """SCHED_*; like the next three it is kept and shown only."""
    rt_priority: int = 0
    deadline: tuple[int, int, int] = (0, 0, 0)
    """Runtime, deadline and period of SCHED_DEADLINE, in nanoseconds."""
    ioprio: int = 0
    oom_score_adj: int = 0
    """-1000 to 1000: how much sooner than others it is to be killed for memory; kept and shown."""
    cpus_allowed: int = -1
    """Bits of the CPUs on which its children may begin."""
    capabilities: Capabilities = ALL_CAPABILITIES
    state: State = State.RUNNING
    status: int = 0
    wchan: str = ""
    """What a sleeping task waits for, for reports."""
    wake_at: int = -1
    """Machine time (blocks) at which a sleeping task wakes, -1 for never."""
    children: list[Task] = field(default_factory=list)
    greenlet: greenlet | None = None
    tls: list[int] = field(default_factory=lambda: [0] * GDT_ENTRY_TLS_ENTRIES)
    """Thread-local segment descriptors (64-bit words), loaded into the CPU's GDT with the task."""
    clear_child_tid: int = 0
    set_child_tid: int = 0
    """User address at which the child stores its pid when it first runs, 0 for none."""
    signals: SigState = field(default_factory=SigState)
    pending: int = 0
    """Not 0: something about signals is to be done before the next return to ring 3."""
    exit_signal: int = SIGCHLD
    """What the parent gets when the task ends, 0 for nothing."""
    started: int = 0
    """When it was made, in nanoseconds since the machine started."""
    utime: int = 0
    """Blocks that it ran in ring 3."""
    stime: int = 0
    """What its traps and system calls took, in blocks."""
    cpu_limit: int = 0
    """Blocks of both after which RLIMIT_CPU is looked at, 0 for never."""
    children_utime: int = 0
    children_stime: int = 0
    """The same of children that were waited for."""
    timers: IntervalTimers | None = None
    posix_timers: dict[int, Any] = field(default_factory=dict)
    """``task.posixtimer.PosixTimer`` by number."""
    next_timer_id: int = 0
    cpu_timer_left: int = 0
    """Blocks in ring 3 until a timer that counts those ends, 0 for none."""
    ended: WaitQueue | None = None
    """Who waits for its end by a descriptor, once somebody has one."""
    vfork_parent: Task | None = None
    """Who waits until this task has executed another program or ended."""
    report: str = ""
    """Why it was killed, for a person."""
    exe: str = ""
    exe_inode: Inode | None = None
    has_execed: bool = False
    """It runs another program than the one that it was forked from."""
    limits: Limits = field(default_factory=lambda: default_limits(8 << 20))
    """Resource limits of the process."""
    borrowed_mms: list[Mm] = field(default_factory=list)
    """Address spaces that kernel code has loaded for itself (use_mm), the present one last."""
    forged_mm: Mm | None = None
    """Whose areas answer its faults in kernel code, when somebody changed ``current`` and nothing else."""
    kthread: bool = False
    """A function of the kernel's; no run waits for it."""
    scratch: int = 0
    """Linear address of a lowmem page for data between Python and user memory."""

    @property
    def runs(self) -> bool:
        """It has code to run; init and the shell above the first program only wait."""
        return self.greenlet is not None

    def __repr__(self) -> str:
        return f"<task {self.pid} {self.comm} {self.state.value}>"


class TaskTable(dict[int, Task]):
    """All tasks by pid, those that ended and were not waited for too."""

    last_pid = 0
    """The number of the youngest task so far."""
    init: Task | None = None
    """Who inherits the children of those that end, on a machine that runs programs."""
    program: Task | None = None
    """The first program, for which the run is made."""

    def new_pid(self) -> int:
        """Numbers are not used again."""
        self.last_pid += 1
        return self.last_pid
