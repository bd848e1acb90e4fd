"""Tasks: a greenlet with a kernel stack, a user-mode context, an address space and files."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from greenlet import greenlet

from sandbox.engine.context import CpuContext
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SIGCHLD
from sandbox.kernel.arch.cpu import KernelCpu, KernelStack
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.mm.mm import Mm
from sandbox.kernel.mm.rlimit import Limits, default_limits
from sandbox.kernel.task.cred import ROOT, Cred
from sandbox.kernel.task.interval import IntervalTimers
from sandbox.kernel.task.sigqueue import Pending, SigState
from sandbox.kernel.vfs.dcache import Dentry
from sandbox.kernel.vfs.file import FdTable, File
from sandbox.kernel.vfs.inode import Inode
from sandbox.records import dataclass, field, replace

GDT_ENTRY_TLS_MIN, GDT_ENTRY_TLS_ENTRIES = 6, 3


class State(Enum):
    """What the scheduler may do with a task."""

    RUNNING = "running"
    SLEEPING = "sleeping"
    STOPPED = "stopped"
    TRACED = "traced"
    """Until its tracer lets it go on."""
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
class FsStruct:
    """``fs_struct``: where paths begin, and the umask; one for all tasks that were made with CLONE_FS."""

    cwd: Dentry
    root: Dentry | None = None
    """Where absolute paths start after chroot, None for the tree's root."""
    umask: int = 0o022

    def copy(self) -> FsStruct:
        """A forked child's own."""
        return replace(self)


@dataclass(slots=True, eq=False)
class SysvSem:
    """Tasks whose operations on System V semaphores are undone together (CLONE_SYSVSEM): how many they are."""

    users: int = 1

    def share(self) -> SysvSem:
        """One more."""
        self.users += 1
        return self


@dataclass(slots=True, eq=False)
class ThreadGroup:
    """A process: what its threads share whatever else they share (``signal_struct``)."""

    threads: list[Task] = field(default_factory=list)
    """Those that are not released, the oldest first: the leader stays until all others are gone."""
    shared: Pending = field(default_factory=Pending)
    """Signals for whichever thread takes them."""
    posted: WaitQueue | None = None
    """Who waits for any signal to arrive, also for a blocked one (signalfd)."""
    pgid: int = 0
    sid: int = 0
    limits: Limits = field(default_factory=lambda: default_limits(8 << 20))
    timers: IntervalTimers | None = None
    cpu_timer_left: int = 0
    """Blocks in ring 3 until a timer that counts those ends, 0 for none."""
    cpu_limit: int = 0
    """Blocks in ring 3 and in calls after which RLIMIT_CPU is looked at, 0 for never."""
    cpu_limit_left: int = 0
    """What of ``cpu_limit`` is left, kept while there is one; less than 1 is time to look."""
    exit_code: int | None = None
    """A wait(2) status word: every thread is to end (exit_group(2), a fatal signal)."""
    exec_task: Task | None = None
    """The thread that executes another program: all others are to end."""
    stopping: int = 0
    """The signal because of which every thread is to stop, 0 for none."""
    stopped: bool = False
    """All of them have."""
    stop_signal: int = 0
    """What stopped them, for the parent to learn; 0 when it was told or does not apply."""
    continued: bool = False
    """They went on after a stop and the parent does not know yet."""
    ended_utime: int = 0
    ended_stime: int = 0
    """Blocks of threads that are released, in ring 3 and in traps and calls."""
    children_utime: int = 0
    children_stime: int = 0
    """The same of children that were waited for."""
    posix_timers: dict[int, Any] = field(default_factory=dict)
    """``task.posixtimer.PosixTimer`` by number."""
    next_timer_id: int = 0
    ended: WaitQueue | None = None
    """Who waits for its end by a descriptor, once somebody has one."""

    @property
    def leader(self) -> Task:
        """The thread whose number is the process's."""
        return self.threads[0]

    @property
    def utime(self) -> int:
        """Blocks that all threads ran in ring 3."""
        return self.ended_utime + sum(task.utime for task in self.threads)

    @property
    def stime(self) -> int:
        """Blocks of all threads' traps and calls."""
        return self.ended_stime + sum(task.stime for task in self.threads)

    @property
    def is_dead(self) -> bool:
        """No thread is left but a leader that has ended."""
        return len(self.threads) == 1 and self.threads[0].state in (State.ZOMBIE, State.DEAD)

    def must_end(self, task: Task) -> bool:
        """A thread is to end for the sake of the others."""
        return self.exit_code is not None or self.exec_task not in (None, task)


@dataclass(slots=True, eq=False)
class Tracee:
    """What is known of a task that another one traces with ptrace(2).  ``tracer`` is the thread that may ask."""

    tracer: Task
    seized: bool = False
    """By PTRACE_SEIZE: no SIGSTOP when it begins, none at exec, and stops of the group are told apart."""
    options: int = 0
    """PTRACE_O_* bits."""
    code: int = 0
    """Why it stopped, as wait(2) has it from bit 8 on; 0 once that was told."""
    info: SigInfo | None = None
    """What PTRACE_GETSIGINFO gives, and the tracer may change."""
    message: int = 0
    """PTRACE_GETEVENTMSG."""
    report: Callable[[], str] | None = None
    """What there is to say of its last fault, should it die of it."""
    signal: int = 0
    """What the tracer gave it when it let it go on."""
    calls: bool = False
    """It stops before and after each system call (PTRACE_SYSCALL)."""
    emulated: bool = False
    """It stops before each system call, which is not carried out (PTRACE_SYSEMU)."""
    step: bool = False
    """It stops after an instruction (PTRACE_SINGLESTEP)."""
    forced_flag: bool = False
    """EFLAGS.TF is the tracer's doing, and hidden from it."""
    trap: bool = False
    """It is to stop at its next return to ring 3 (PTRACE_INTERRUPT)."""
    group_stop: bool = False
    """It has reported the stop of its process, and may go on all the same."""
    may_stop: bool = False
    """No SIGCONT came since it took the signal that its tracer looks at (JOBCTL_STOP_DEQUEUED)."""
    listening: bool = False
    """It stays stopped, but tells of what happens to the stop of its process (PTRACE_LISTEN)."""


@dataclass(slots=True)
class DebugRegisters:
    """What a tracer sees of a task's debug registers; what is armed is in the task's context."""

    addresses: dict[int, int] = field(default_factory=dict)
    """DR0 to DR3, those that a tracer has set."""
    status: int = 0
    """DR6: of the task's last debug exception."""
    control: int = 0
    """DR7, as the tracer gave it."""


@dataclass(slots=True, eq=False)
class Task:
    """A thread.  ``status`` is a wait(2) status word; ``parent`` is who made its process."""

    pid: int
    comm: str
    context: CpuContext
    kstack: KernelStack
    stack_frames: tuple[int, ...]
    mm: Mm | None
    files: FdTable
    parent: Task | None
    cpu: KernelCpu
    fs: FsStruct
    group: ThreadGroup = field(default_factory=ThreadGroup)
    cred: Cred = ROOT
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
    """Bits of the CPUs on which it may run, and its children."""
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
    exiting: bool = False
    """It is on its way out: no signal is for it (PF_EXITING)."""
    movable: bool = True
    """It waits for a CPU at the border of ring 3, where no kernel code of its own is on the way."""
    futexes_left: bool = False
    """It has let go of its mutexes: none of them is handed over by it any more (FUTEX_STATE_DEAD)."""
    robust_list: int = 0
    """User address of its list of robust mutexes (get_robust_list(2)), 0 for none."""
    sysvsem: SysvSem = field(default_factory=SysvSem)
    ptrace: Tracee | None = None
    debug: DebugRegisters | None = None
    """Who traces it and how, None for nobody."""
    ptraced: list[Task] = field(default_factory=list)
    """Whom it traces itself."""
    orig_eax: int = -1
    """Number of the system call in which it entered the kernel; negative for anything else."""
    held: list[File] = field(default_factory=list)
    """Open files of a shared table that the present system call uses, whoever closes them meanwhile."""
    vfork_parent: Task | None = None
    """Who waits until this task has executed another program or ended."""
    report: str = ""
    """Why it was killed, for a person."""
    exe: str = ""
    exe_inode: Inode | None = None
    has_execed: bool = False
    """It runs another program than the one that it was forked from."""
    borrowed_mms: list[Mm] = field(default_factory=list)
    """Address spaces that kernel code has loaded for itself (use_mm), the present one last."""
    forged_mm: Mm | None = None
    """Whose areas answer its faults in kernel code, when somebody changed ``current`` and nothing else."""
    kthread: bool = False
    """A function of the kernel's; no run waits for it."""
    scratch: int = 0
    """Linear address of a lowmem page for data between Python and user memory."""

    def set_group(self, pgid: int, sid: int) -> None:
        """Give the process another group and session."""
        self.group.pgid, self.group.sid = pgid, sid

    def __post_init__(self) -> None:
        self.group.threads.append(self)
        self.signals.shared = self.group.shared

    @property
    def tgid(self) -> int:
        """The number of the process: what getpid(2) gives."""
        return self.group.threads[0].pid

    @property
    def is_leader(self) -> bool:
        """It stands for its process."""
        return self.group.threads[0] is self

    @property
    def pgid(self) -> int:
        """The process group."""
        return self.group.pgid

    @property
    def sid(self) -> int:
        """The session."""
        return self.group.sid

    @property
    def limits(self) -> Limits:
        """Resource limits of the process."""
        return self.group.limits

    @property
    def cwd(self) -> Dentry:
        """Where relative paths start."""
        return self.fs.cwd

    @property
    def root(self) -> Dentry | None:
        """Where absolute paths start after chroot, None for the tree's root."""
        return self.fs.root

    @property
    def umask(self) -> int:
        """Mode bits that new files do not get."""
        return self.fs.umask

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
