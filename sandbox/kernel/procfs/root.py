"""/proc itself: one directory a task, and the files about the machine."""

from __future__ import annotations

from sandbox.kernel.kernel import Kernel
from sandbox.kernel.procfs.nodes import Link
from sandbox.kernel.procfs.system import system_files
from sandbox.kernel.procfs.task import task_folder
from sandbox.kernel.task.task import State, Task
from sandbox.kernel.vfs.inode import Inode

SELF_INO = 2


def shown(task: Task) -> bool:
    """A process; a thread's directory is found by its number and is in no listing (proc(5))."""
    return task.state is not State.DEAD and task.is_leader


class ProcTree:
    """What is in /proc of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._files = system_files(kernel)
        self._files[b"self"] = Link(SELF_INO, self._current)
        self._files[b"thread-self"] = Link(SELF_INO + 1, lambda: self._current() + b"/task/" + self._thread())

    def _current(self) -> bytes:
        task = self._kernel.sched.current
        return b"%d" % task.tgid if task is not None else b""

    def _thread(self) -> bytes:
        task = self._kernel.sched.current
        return b"%d" % task.pid if task is not None else b""

    def names(self) -> list[bytes]:
        """Files about the machine, and the processes."""
        tasks = [b"%d" % pid for pid, task in self._kernel.tasks.items() if shown(task)]
        return [*self._files, *tasks]

    def find(self, name: bytes) -> Inode | None:
        """The inode of a name, None for none."""
        if name in self._files:
            return self._files[name]
        if not name.isdigit() or name.startswith(b"0"):
            return None
        task = self._kernel.tasks.get(int(name))
        return task_folder(self._kernel, task) if task is not None and task.state is not State.DEAD else None
