"""In the worker: what gdb's threads are, tasks by their pids or the CPUs, and where the guest stands among them."""

from __future__ import annotations

from typing import Any

from sandbox.debug.debugger import Debugger
from sandbox.debug.gdb.picture import Picture, taken
from sandbox.debug.gdb.processes import News, is_gdbs, news_of, process_of
from sandbox.debug.gdb.watchpoints import watch_of
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.pipe import goes_plainly
from sandbox.debug.stops import DEATH, HELD, Stop, StopKind
from sandbox.debug.target import Refused
from sandbox.kernel.task.task import Task
from sandbox.records import dataclass

CPU_THREADS = 1 << 20
"""Under a kernel, where threads are tasks by their pids, ids from here on are CPUs that run none."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Where the guest stands, as gdb wants to know it."""

    stop: Stop
    thread: int
    status: int = 0
    signal: int = 0
    replay_end: str = ""
    watch: tuple[str, int] | None = None
    """Which of gdb's watchpoints has stopped it, and the address that it watches."""
    process: int = 0
    """The process of the thread, 0 for a CPU that runs none."""
    news: News | None = None
    """What has become of a process."""
    note: str = ""
    """Why it stands here, where gdb has no words for it."""
    picture: Picture | None = None
    """What gdb will ask for; None at the guest's end."""

    def plain(self) -> tuple[Any, ...]:
        """For the pipe; ``Halt.of`` makes it one again."""
        news, picture = self.news, self.picture
        told = None if news is None else (news.what, news.task, news.status, news.path)
        shown = None if picture is None else (picture.thread, picture.registers, picture.lines)
        about = self.thread, self.status, self.signal, self.replay_end, self.watch, self.process
        return self.stop.plain(), about, told, shown, self.note

    @staticmethod
    def of(
        stop: tuple[Any, ...],
        about: tuple[Any, ...],
        news: tuple[Any, ...] | None,
        picture: tuple[Any, ...] | None,
        note: str,
    ) -> Halt:
        """What ``plain`` gave."""
        told = None if news is None else News(*news)
        shown = None if picture is None else Picture(*picture)
        thread, status, signal, replay_end, watch, process = about
        return Halt(Stop.of(*stop), thread, status, signal, replay_end, watch, process, told, note, shown)

    @property
    def ended(self) -> bool:
        """The guest is no more."""
        return self.stop.kind is StopKind.END

    @property
    def event(self) -> str:
        """What was caught."""
        return str(self.stop.details.get("event", "")).partition("#")[0]


goes_plainly(Halt, Halt.of)


def number_by_cpus(debugger: Debugger) -> None:
    """Threads are CPUs, from 1 on, under a kernel too."""
    debugger.threads_are_cpus = True


def halted(debugger: Debugger, stop: Stop | None = None, replay_end: str = "") -> Halt:
    """The present stop."""
    stop = debugger.stop if stop is None else stop
    assert stop is not None
    result = debugger.target.result
    status, signal = (0, 0) if result is None else (result.status or bool(result.error), result.signal)
    process, news = process_of(debugger, stop.pid), news_of(debugger, stop)
    thread, watch = _thread_of(debugger, stop), watch_of(debugger, stop)
    picture = None if stop.ended or not select(debugger, thread) else taken(debugger.target, thread)
    note = "" if replay_end else note_of(debugger, stop)
    return Halt(stop, thread, status, signal, replay_end, watch, process, news, note, picture)


def note_of(debugger: Debugger, stop: Stop) -> str:
    """What gdb cannot know of a stop: a point that was set by ``monitor``, an end that is no exit, a want of tasks."""
    result = debugger.target.result
    if stop.ended:
        return stop.headline if result is not None and result.error else ""
    found = [debugger.points.all.get(number) for number in stop.points]
    theirs = [f"{each.what} {each.text}" for each in found if each is not None and not is_gdbs(each)]
    if stop.kind is StopKind.BREAKPOINT:
        return ", ".join(theirs)
    event = str(stop.details.get("event", stop.moment.event))
    temporary = None in found
    return ": ".join([*theirs[:1], stop.headline]) if theirs or temporary or event in (HELD, DEATH) else ""


def _thread_of(debugger: Debugger, stop: Stop) -> int:
    by_task = _tasks_of(debugger) is not None
    return stop.pid if by_task and stop.pid else _first_cpu(debugger) + stop.moment.cpu


def _tasks_of(debugger: Debugger) -> KernelTarget | None:
    """The target whose tasks are the threads."""
    target = debugger.target
    return target if isinstance(target, KernelTarget) and not debugger.threads_are_cpus else None


def _first_cpu(debugger: Debugger) -> int:
    return 1 if _tasks_of(debugger) is None else CPU_THREADS


def threads(debugger: Debugger) -> list[tuple[int, str]]:
    """(id, description): tasks of programs by pid, and CPUs that run none."""
    found, busy = [], set()
    target = _tasks_of(debugger)
    if target is not None:
        for task in target.kernel.tasks.values():
            if task.runs:
                found.append((task.pid, f"{task.comm}, {task.state.value}, CPU {task.cpu.index}"))
            if target.kernel.sched.task_of(task.cpu) is task:
                busy.add(task.cpu.index)
    first = _first_cpu(debugger)
    idle = [cpu.index for cpu in debugger.target.machine.cpus if cpu.index not in busy]
    return found + [(first + index, _cpu_line(debugger, index)) for index in idle]


def _cpu_line(debugger: Debugger, index: int) -> str:
    target = debugger.target
    pid = target.pid_on(target.machine.cpus[index])
    return f"CPU {index}" + (f", task {pid}" if pid else "")


def select(debugger: Debugger, thread: int) -> bool:
    """Look at a thread; False when there is none of this number."""
    target, cpu = debugger.target, thread - _first_cpu(debugger)
    try:
        if 0 <= cpu < len(target.machine.cpus):
            target.view_cpu(cpu)
        elif _tasks_of(debugger) is not None and isinstance(target, KernelTarget):
            target.view_task(thread)
        else:
            return False
    except Refused:
        return False
    return True


def task_of(debugger: Debugger, thread: int) -> Task | None:
    """The task that a thread is, or that a CPU runs."""
    target = debugger.target
    return target.task if select(debugger, thread) and isinstance(target, KernelTarget) else None
