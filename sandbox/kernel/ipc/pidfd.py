"""pidfd_open(2): a process as a file, which is ready to be read when the process has ended."""

from __future__ import annotations

from sandbox.kernel.abi.flags import POLLHUP, POLLIN
from sandbox.kernel.abi.poll import POLLRDNORM
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.ipc.eventfd import AnonStream
from sandbox.kernel.task.task import State, Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.operations import Ready


class PidFd(AnonStream):
    """It means its process for ever: numbers may be used again, tasks are not."""

    def __init__(self, process: Task) -> None:
        super().__init__("[pidfd]")
        self._group = process.group
        self._group.ended = self._group.ended or WaitQueue("a process's end")

    @property
    def process(self) -> Task:
        """Its leader, which another thread becomes that executes a program."""
        return self._group.leader

    def poll(self, file: File, task: Task) -> Ready:
        state, ended = self.process.state, self._group.ended
        assert ended is not None
        mask = POLLIN | POLLRDNORM if self._group.is_dead else 0
        return Ready(mask | (POLLHUP if state is State.DEAD else 0), (ended,))
