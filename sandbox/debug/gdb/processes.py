"""In the worker: the guest's processes as gdb's inferiors: which of them gdb has, and what happens to them.

gdb's manual, "General Query Packets" (``multiprocess``, ``fork-events``, ``vfork-events``, ``exec-events``) and "Stop
Reply Packets".  What stops is caught by points of gdb's own, whose conditions name the processes that it has.
"""

from __future__ import annotations

from typing import Any

from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.points import ONLY, Point
from sandbox.debug.stops import Stop
from sandbox.kernel.abi.signals import SIGKILL
from sandbox.kernel.task.task import State, Task
from sandbox.records import dataclass

EVENTS = ("fork", "exec", "exit")
OVER = (State.ZOMBIE, State.DEAD)


@dataclass(frozen=True, slots=True)
class News:
    """What has become of a process.  ``what``: fork, vfork, create (a thread), exec, over (a thread), exit.

    ``task`` is the new one's number, ``status`` a wait(2) word, ``path`` the program's.
    """

    what: str
    task: int = 0
    status: int = 0
    path: str = ""


def news_of(debugger: Debugger, stop: Stop) -> News | None:
    """What a stop at one of these events tells."""
    target, details = debugger.target, stop.details
    word = str(details.get("event", "")).partition("#")[0]
    if not isinstance(target, KernelTarget) or word not in EVENTS or "what" not in details:
        return None
    task = target.kernel.tasks.get(int(details["pid"]))
    if word == "exec":
        return News(word, path=str(details["detail"]))
    if word == "exit":
        return None if task is None else _end_of(task)
    child = target.kernel.tasks.get(int(str(details["detail"]).split()[-1]))
    if child is None:
        return None
    what = "create" if details["what"] == "clone" else "fork" if child.vfork_parent is None else "vfork"
    return News(what, child.pid)


def _end_of(task: Task) -> News:
    group = task.group
    last = all(each is task or each.state in OVER for each in group.threads)
    status = task.status if group.exit_code is None else group.exit_code
    return News("exit" if last else "over", task.pid, status)


def process_of(debugger: Debugger, pid: int) -> int:
    """The process of a task, 0 where there is none."""
    target = debugger.target
    task = target.kernel.tasks.get(pid) if isinstance(target, KernelTarget) else None
    return 0 if task is None else task.tgid


def processes(debugger: Debugger) -> dict[int, int]:
    """The process of each task that runs, by the task's number."""
    target = debugger.target
    if not isinstance(target, KernelTarget) or target.result is not None:
        return {}
    tasks = target.kernel.tasks.values()
    return {task.pid: task.tgid for task in tasks if task.runs and not task.kthread and task.state not in OVER}


def first_program(debugger: Debugger) -> int:
    """The process for which the run is made."""
    target = debugger.target
    task = target.kernel.tasks.program if isinstance(target, KernelTarget) else None
    return 0 if task is None else task.tgid


def program_of(debugger: Debugger, process: int) -> str:
    """The path of what a process runs."""
    target = debugger.target
    task = target.kernel.tasks.get(process) if isinstance(target, KernelTarget) else None
    return "" if task is None else task.exe


def focus(debugger: Debugger, wanted: list[int] | None, also: list[int], events: bool = True) -> None:
    """Stop at what happens to these processes, None for signals of all; ``also`` at exec and exit of those.

    Without ``events`` only at signals: nothing is made or ends on the way back.
    """
    for each in debugger.points:
        if each.what == "catch" and each.text in EVENTS and each.condition.startswith(ONLY):
            debugger.remove(each)
        elif each.what == "catch" and each.text == "signal" and (not each.condition or each.condition.startswith(ONLY)):
            each.condition = "" if wanted is None else _of(wanted)
    for word in EVENTS if wanted is not None and events else ():
        debugger.catch(word, "", condition=_of([*(wanted or ()), *(also if word != "fork" else ())]))


def _of(processes: list[int]) -> str:
    return ONLY + (" || ".join(f"$tgid == {each}" for each in processes) or "0")


def is_gdbs(point: Point) -> bool:
    """gdb itself has asked for it; it knows of no other."""
    own_catch = (point.what, point.text, point.condition) == ("catch", "signal", "")
    return own_catch or point.text.startswith("(gdb") or point.condition.startswith(ONLY)


def inherit(debugger: Debugger, parent: int, child: int) -> None:
    """A child has the breakpoints that its parent has."""
    for each in debugger.points:
        if each.what == "break" and each.text == breaks_of(parent) and each.address is not None:
            debugger.points.add(
                "break", breaks_of(child), address=each.address, condition=each.condition and own(child)
            )


def breaks_of(process: int) -> str:
    """What the debugger's list of points calls gdb's breakpoints of a process; 0 is all."""
    return f"(gdb {process})" if process else "(gdb)"


def own(process: int) -> str:
    """The condition of a point that is of one process."""
    return f"$tgid == {process}"


def forget(debugger: Debugger, process: int) -> None:
    """gdb has left a process: its points are gone, and nobody holds its threads."""
    for each in debugger.points:
        if each.text in (breaks_of(process), f"(gdb watch {process})"):
            debugger.remove(each)


def end(debugger: Debugger, process: int) -> Answer:
    """Kill a process."""
    target: Any = debugger.target
    task = target.kernel.tasks.get(process) if isinstance(target, KernelTarget) else None
    if task is None or not task.runs:
        return Answer(error=f"no process {process}")
    target.kernel.signals.send_signal(task, SIGKILL)
    target.control.yields = True
    return Answer(changed=True)
