"""A terminal as programs see it: a line discipline, a session, a foreground group, and who waits for input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EAGAIN, EIO, ERESTARTSYS, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLOUT, S_IFCHR
from sandbox.kernel.abi.poll import POLLRDNORM, POLLWRNORM
from sandbox.kernel.abi.signals import SIGCONT, SIGHUP, SIGTTIN, SIGTTOU, SIGWINCH
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.abi.termios import TOSTOP, VMIN, VTIME
from sandbox.kernel.drivers.jobctl import check_change, kill_pgrp, kill_session_leader
from sandbox.kernel.drivers.n_tty import LineDiscipline
from sandbox.kernel.fs.pipe import WaitQueue
from sandbox.kernel.ipc.stream import Ready, Stream
from sandbox.kernel.mm.uaccess import copy_from_user, put_device_bytes
from sandbox.kernel.task.wait import signal_pending, wait_on, wake_up
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task.task import Task
    from sandbox.kernel.vfs.file import File

PTS_DEVICE = makedev(0, 22)
TTY_INO = 3
DECISECOND = 10**8
"""Nanoseconds of a unit of VTIME."""


class Tty(Stream):
    """The machine's terminal.  ``sink`` takes bytes for the screen and may raise OSError.

    With ``post`` output is processed here; a host terminal does it for itself.
    """

    kind = S_IFCHR

    def __init__(self, kernel: Kernel, sink: Callable[[bytes], None], *, post: bool = True) -> None:
        self.ino = TTY_INO
        self.rdev = makedev(136, 0)
        self.name = "/dev/pts/0"
        self.session = 0
        """The session that it controls, 0 for none."""
        self.pgrp = 0
        """The foreground process group."""
        self.window = (24, 80, 0, 0)
        """Rows, columns, and both in pixels."""
        self.hung = False
        self.readable = WaitQueue("terminal input")
        self.startable = WaitQueue("a stopped terminal")
        self.on_termios: Callable[[], None] = lambda: None
        """Called after the program has changed the rules."""
        self.discipline = LineDiscipline(self._screen, self._signal)
        self._kernel = kernel
        self._sink = sink
        self._post = post

    def stat(self) -> Stat:
        return Stat(
            dev=PTS_DEVICE,
            ino=self.ino,
            mode=S_IFCHR | 0o620,
            uid=GUEST_UID,
            gid=GUEST_GID,
            rdev=self.rdev,
            blksize=1024,
        )

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect."""

    # -- the host's side -----------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes were typed."""
        was = self.discipline.stopped
        self.discipline.receive(data)
        wake_up(self._kernel, self.readable)
        if was and not self.discipline.stopped:
            wake_up(self._kernel, self.startable)

    def hang_up(self) -> None:
        """The other side is gone: readers meet the end, the session learns it by SIGHUP."""
        if not self.hung:
            self.hung = True
            kill_session_leader(self._kernel, self.session, SIGHUP)
            kill_pgrp(self._kernel, self.pgrp, SIGHUP)
            kill_pgrp(self._kernel, self.pgrp, SIGCONT)
            wake_up(self._kernel, self.readable)
            wake_up(self._kernel, self.startable)

    def resize(self, size: tuple[int, int, int, int]) -> None:
        """The window's size changed."""
        if size != self.window:
            self.window = size
            kill_pgrp(self._kernel, self.pgrp, SIGWINCH)

    def _signal(self, number: int) -> None:
        kill_pgrp(self._kernel, self.pgrp, number)

    def _screen(self, data: bytes) -> None:
        cooked = self.discipline.cooked(data)
        try:
            self._sink(cooked if self._post else data)
        except OSError as error:
            raise KernelError(EIO) from error

    # -- the program's side --------------------------------------------------------------------------------------

    def read_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        check_change(kernel, task, self, SIGTTIN)
        if not count:
            return 0
        self._await_input(kernel, task, bool(file.flags & O_NONBLOCK), count)
        data = self.discipline.take(min(count, 4096))
        done = put_device_bytes(kernel, task, address, data)
        self.discipline.give_back(data[done:])
        return done

    def _await_input(self, kernel: Kernel, task: Task, nonblock: bool, count: int) -> None:
        """Sleep until a read may return: a line, VMIN bytes, or VTIME without one."""
        discipline = self.discipline
        until: int | None = None
        seen = -1
        while not self.hung:
            if discipline.canonical:
                if discipline.lines:
                    return
                until = None
            else:
                there, least, pause = len(discipline.raw), discipline.cc(VMIN), discipline.cc(VTIME)
                if there >= min(count, max(1, least)):
                    return
                if not least and not pause:
                    return
                if pause and (there if least else True) and there != seen:
                    until = kernel.sched.now + pause * DECISECOND
                seen = there
                if until is not None and kernel.sched.now >= until:
                    return
            if nonblock:
                raise KernelError(EAGAIN)
            if signal_pending(task):
                raise KernelError(ERESTARTSYS)
            wait_on(kernel, task, (self.readable,), self.readable.what, until)
            check_change(kernel, task, self, SIGTTIN)

    def write_user(self, kernel: Kernel, task: Task, file: File, address: int, count: int) -> int:
        if self.discipline.termios.lflag & TOSTOP:
            check_change(kernel, task, self, SIGTTOU)
        while self.discipline.stopped and not self.hung:
            if file.flags & O_NONBLOCK:
                raise KernelError(EAGAIN)
            if signal_pending(task):
                raise KernelError(ERESTARTSYS)
            wait_on(kernel, task, (self.startable,), self.startable.what)
        if self.hung:
            raise KernelError(EIO)
        data, left = copy_from_user(kernel, task, address, count)
        if left and not data:
            from sandbox.kernel.abi.errno import EFAULT

            raise KernelError(EFAULT)
        self._screen(data)
        return len(data)

    def poll_file(self, kernel: Kernel, task: Task, file: File) -> Ready:
        mask = POLLIN | POLLRDNORM if self.discipline.ready or self.hung else 0
        if self.hung:
            mask |= POLLHUP | POLLERR
        if not self.discipline.stopped:
            mask |= POLLOUT | POLLWRNORM
        return Ready(mask, (self.readable, self.startable))
