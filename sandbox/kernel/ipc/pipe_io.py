"""Pipes on the CPU: ``copy_user`` moves the bytes, the scheduler lets readers and writers wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.kernel.abi.flags import O_NONBLOCK
from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import SI_USER, SIGPIPE
from sandbox.kernel.base.inject import Breakage
from sandbox.kernel.fs.fifo import Fifo
from sandbox.kernel.fs.pipe import Move, Pipe, PipeInode, Put, make_pipe
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.page import MemMap
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.signal import Signals
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import Inode
from sandbox.kernel.vfs.operations import FileOperations, Pieces, Ready, normal

FIRST_PIPE_INO = 1000


class Pipes(FileOperations):
    """Makes pipes, whose pages may be in highmem, and is what the open files of pipes and FIFOs do."""

    def __init__(
        self,
        page_alloc: PageAllocator,
        memmap: MemMap,
        uaccess: UserAccess,
        sched: Scheduler,
        signals: Signals,
        broken: Breakage,
    ) -> None:
        self._page_alloc, self._get_page = page_alloc, memmap.get_page
        self._uaccess, self._sched, self._signals = uaccess, sched, signals
        self._broken_block, self._quiet = broken("no-pipe-block"), broken("no-sigpipe")
        self._made = 0
        """Each pipe has its number in its inode's."""

    # -- making --------------------------------------------------------------------------------------------------

    def new_pipe(self, flags: int) -> tuple[File, File]:
        """The two ends of pipe(2)."""
        pipe = self._pipe()
        return make_pipe(FIRST_PIPE_INO + self._made, pipe, self, flags)

    def _pipe(self) -> Pipe:
        self._made += 1
        pages = self._page_alloc
        return Pipe(lambda: pages.alloc_page(GFP_HIGHUSER), pages.put_page, self._sched.wake_up, self._get_page)

    def new_fifo(self, node: Inode) -> Fifo:
        """The pipe behind a FIFO that is opened for the first time."""
        return Fifo(node, self._pipe(), self, self._sched.wake_up)

    # -- what open files do --------------------------------------------------------------------------------------

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        pipe = _pipe_of(file)
        if self._broken_block and not pipe.slots:
            return 0
        return self.pipe_to_user(task, pipe, bool(file.flags & O_NONBLOCK), address, count)

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        """Without readers the writer gets SIGPIPE."""
        pipe = _pipe_of(file)
        return self.pipe_from_user(task, pipe, bool(file.flags & O_NONBLOCK), address, count, quiet=self._quiet)

    def readv(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        return self.pipe_to_vector(task, _pipe_of(file), bool(file.flags & O_NONBLOCK), pieces)

    def writev(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        pipe = _pipe_of(file)
        return self.pipe_from_vector(task, pipe, bool(file.flags & O_NONBLOCK), pieces, quiet=self._quiet)

    def sendpage(self, file: File, task: Task, at: int | None, pfn: int, offset: int, size: int) -> int:
        return self.pipe_from_page(task, _pipe_of(file), bool(file.flags & O_NONBLOCK), pfn, offset, size)

    def poll(self, file: File, task: Task) -> Ready:
        pipe = _pipe_of(file)
        mask, queues = 0, []
        if file.readable:
            mask |= pipe.poll(False)
            queues.append(pipe.readable)
        if file.writable:
            mask |= pipe.poll(True)
            queues.append(pipe.writable)
        return Ready(normal(mask), tuple(queues))

    def available(self, file: File) -> int:
        return _pipe_of(file).available

    # -- copies --------------------------------------------------------------------------------------------------

    def pipe_to_user(self, task: Task, pipe: Pipe, nonblock: bool, address: int, count: int) -> int:
        """Bytes of a pipe into user memory."""

        def move(frame: int, offset: int, length: int, done: int) -> int:
            return self._uaccess.copy_frame_to_user(task, address + done, frame, offset, length)

        return pipe.read(count, move, self._sched.interruptible_sleep_on, nonblock)

    def pipe_from_user(
        self, task: Task, pipe: Pipe, nonblock: bool, address: int, count: int, *, quiet: bool = False
    ) -> int:
        """User memory into a pipe; SIGPIPE for a write without readers, unless ``quiet``."""

        def move(frame: int, offset: int, length: int, done: int) -> int:
            return self._uaccess.copy_frame_from_user(task, address + done, frame, offset, length)

        return self._write(task, pipe, count, move, nonblock, quiet)

    def pipe_to_vector(self, task: Task, pipe: Pipe, nonblock: bool, pieces: Pieces) -> int:
        """Bytes of a pipe into the memory that a vector names."""

        def move(frame: int, offset: int, length: int, done: int) -> int:
            return self._uaccess.copy_frame_to_vector(task, pieces, done, frame, offset, length)

        size = sum(length for _, length in pieces)
        return pipe.read(size, move, self._sched.interruptible_sleep_on, nonblock)

    def pipe_from_vector(self, task: Task, pipe: Pipe, nonblock: bool, pieces: Pieces, *, quiet: bool = False) -> int:
        """The memory that a vector names into a pipe, as if it were one piece."""

        def move(frame: int, offset: int, length: int, done: int) -> int:
            return self._uaccess.copy_frame_from_vector(task, pieces, done, frame, offset, length)

        return self._write(task, pipe, sum(length for _, length in pieces), move, nonblock, quiet)

    def pipe_from_page(self, task: Task, pipe: Pipe, nonblock: bool, pfn: int, offset: int, size: int) -> int:
        """Part of a frame into a pipe."""

        def move(frame: int, to: int, length: int, done: int) -> int:
            return self._uaccess.copy_frame(task, frame, to, pfn, offset + done, length)

        return self._write(task, pipe, size, move, nonblock, quiet=False)

    # -- splice, tee ---------------------------------------------------------------------------------------------

    def drain(self, task: Task, pipe: Pipe, size: int, put: Put, nonblock: bool) -> int:
        """Bytes of a pipe into what ``put`` stands for."""
        return pipe.drain(size, put, self._sched.interruptible_sleep_on, nonblock)

    def wait_for_room(self, task: Task, pipe: Pipe, nonblock: bool) -> None:
        """Until a page fits; SIGPIPE without readers."""
        with self._sigpipe(task, pipe):
            pipe.wait_for_room(self._sched.interruptible_sleep_on, nonblock)

    def hand_on(self, task: Task, pipe: Pipe, out: Pipe, size: int, nonblock: bool, *, keep: bool) -> int:
        """Frames of one pipe into another; with ``keep`` they stay in the first too.  SIGPIPE without readers."""
        work = pipe.tee_to if keep else pipe.move_to
        with self._sigpipe(task, out):
            return work(out, size, self._sched.interruptible_sleep_on, nonblock)

    @contextmanager
    def _sigpipe(self, task: Task, pipe: Pipe, quiet: bool = False) -> Iterator[None]:
        try:
            yield
        finally:
            if not pipe.readers and not quiet:
                self._signals.send_signal(
                    task, SIGPIPE, SigInfo.sent(SIGPIPE, SI_USER, task.tgid, task.cred.uid.real), thread=True
                )

    def _write(self, task: Task, pipe: Pipe, count: int, move: Move, nonblock: bool, quiet: bool) -> int:
        with self._sigpipe(task, pipe, quiet):
            return pipe.write(count, move, self._sched.interruptible_sleep_on, nonblock)


def _pipe_of(file: File) -> Pipe:
    assert isinstance(file.inode, PipeInode)
    return file.inode.pipe
