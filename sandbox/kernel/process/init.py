"""Above the first program: init, who inherits orphans, and the shell that starts the program and waits for it.

Neither has code of its own, on whichever machine: what they would do when a child ends is done here.  The shell is the
leader of the session, and as in a script (no job control) the program is in its group: so the program is neither
process 1 nor a leader, and may become either (setpgid(2), setsid(2)).

Signals do to them what they do natively in ``unshare -pf INIT``, where INIT runs ``bash -c 'PROGRAM; :'`` and waits for
whoever ends: init takes none, the shell dies of those that bash neither catches nor ignores while it waits, and the
program is init's child then.
"""

from __future__ import annotations

from sandbox.kernel.abi.signals import SIG_IGN, SIGCHLD, SIGINT, SIGQUIT
from sandbox.kernel.abi.structs import SigAction
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.rlimit import default_limits
from sandbox.kernel.task.task import FsStruct, State, Task, ThreadGroup
from sandbox.kernel.vfs.file import FdTable


def start_shell(kernel: Kernel) -> Task:
    """Make init, and a shell whose child the program will be; the shell."""
    if kernel.tasks.init is None:
        kernel.tasks.init = _waiting_task(kernel, "init", None)
    shell = _waiting_task(kernel, "sh", kernel.tasks.init)
    for number in (SIGINT, SIGQUIT):
        shell.signals.hand.actions[number] = SigAction(SIG_IGN)
    return shell


def _waiting_task(kernel: Kernel, comm: str, parent: Task | None) -> Task:
    """A task that never runs, in a session of its own; its children need nobody who waits for them."""
    cpu = kernel.cpus[0]
    task = Task(
        kernel.tasks.new_pid(), comm, cpu.template, cpu.idle, (), None, FdTable(), parent, cpu,
        FsStruct(kernel.files.root), ThreadGroup(limits=default_limits(kernel.config.stack_limit)),
    )  # fmt: skip
    task.set_group(task.pid, task.pid)
    task.state, task.wchan = State.SLEEPING, "a child"
    task.signals.hand.actions[SIGCHLD] = SigAction(SIG_IGN)
    if parent is not None:
        parent.children.append(task)
    kernel.tasks[task.pid] = task
    return task
