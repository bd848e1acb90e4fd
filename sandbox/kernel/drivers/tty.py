"""A terminal as programs see it: a line discipline, a session, a foreground group, and who waits for input."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.kernel.abi import termios as t
from sandbox.kernel.abi.errno import EAGAIN, EFAULT, EINVAL, EIO, ENOTTY, EPERM, ERESTARTSYS, ESRCH, KernelError
from sandbox.kernel.abi.flags import O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLOUT, S_IFCHR
from sandbox.kernel.abi.poll import POLLRDNORM, POLLWRNORM
from sandbox.kernel.abi.signals import SIGHUP, SIGTTIN, SIGTTOU, SIGWINCH
from sandbox.kernel.abi.structs import Stat, makedev
from sandbox.kernel.abi.termios import TOSTOP, VMIN, VTIME, Termios, pack_speeds, pack_winsize, unpack_winsize
from sandbox.kernel.base.time import Clock
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.drivers.jobctl import JobControl
from sandbox.kernel.drivers.n_tty import LineDiscipline
from sandbox.kernel.ipc.stream import Stream
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.pgrp import members
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import Task
from sandbox.kernel.vfs.file import File
from sandbox.kernel.vfs.inode import GUEST_GID, GUEST_UID
from sandbox.kernel.vfs.operations import Pieces, Ready

PTS_DEVICE = makedev(0, 22)
TTY_INO = 3
DECISECOND = 10**8
"""Nanoseconds of a unit of VTIME."""
WRITE_CHUNK = 2048
"""Bytes of a write that are taken together or not at all (do_tty_write)."""
SETS = {
    t.TCSETS: t.TERMIOS_BYTES, t.TCSETSW: t.TERMIOS_BYTES, t.TCSETSF: t.TERMIOS_BYTES,
    t.TCSETS2: t.TERMIOS_BYTES + 8, t.TCSETSW2: t.TERMIOS_BYTES + 8, t.TCSETSF2: t.TERMIOS_BYTES + 8,
    t.TCSETA: t.TERMIO_BYTES, t.TCSETAW: t.TERMIO_BYTES, t.TCSETAF: t.TERMIO_BYTES,
}  # fmt: skip
"""Requests that set the rules, and the bytes that they take."""
_FLUSHING = (t.TCSETSF, t.TCSETSF2, t.TCSETAF)


class Tty(Stream):
    """The machine's terminal.  ``sink`` takes bytes for the screen and may raise OSError.

    With ``post`` output is processed here; a host terminal does it for itself.
    """

    kind = S_IFCHR

    def __init__(
        self,
        uaccess: UserAccess,
        sched: Scheduler,
        clock: Clock,
        jobctl: JobControl,
        sink: Callable[[bytes], None],
        *,
        post: bool = True,
    ) -> None:
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
        self._uaccess, self._sched, self._clock, self._jobctl = uaccess, sched, clock, jobctl
        self._signals = jobctl.signals
        self._sink = sink
        self._post = post

    def stat(self) -> Stat:
        return self.aged(
            Stat(
                dev=PTS_DEVICE,
                ino=self.ino,
                mode=S_IFCHR | 0o620,
                uid=GUEST_UID,
                gid=GUEST_GID,
                rdev=self.rdev,
                blksize=1024,
            )
        )

    def truncate(self, size: int) -> None:
        """O_TRUNC has no effect."""

    # -- the host's side -----------------------------------------------------------------------------------------

    def available(self, file: File) -> int:
        return self.discipline.available

    def receive(self, data: bytes) -> None:
        """Bytes were typed."""
        was = self.discipline.stopped
        self.discipline.receive(data)
        self._sched.wake_up(self.readable)
        if was and not self.discipline.stopped:
            self._sched.wake_up(self.startable)

    def hang_up(self) -> None:
        """The other side is gone: readers meet the end, the session learns it by SIGHUP."""
        if not self.hung:
            self.hung = True
            self._signals.kill_session_leader(self.session, SIGHUP)
            self._jobctl.hang_up_group(self.pgrp)
            self._sched.wake_up(self.readable)
            self._sched.wake_up(self.startable)

    def resize(self, size: tuple[int, int, int, int]) -> None:
        """The window's size changed."""
        if size != self.window:
            self.window = size
            self._signals.kill_pgrp(self.pgrp, SIGWINCH)

    def _signal(self, number: int) -> None:
        self._signals.kill_pgrp(self.pgrp, number)

    def _screen(self, data: bytes) -> None:
        cooked = self.discipline.cooked(data)
        try:
            self._sink(cooked if self._post else data)
        except OSError as error:
            raise KernelError(EIO) from error

    # -- the program's side --------------------------------------------------------------------------------------

    def read(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.readv(file, task, [(address, count)])

    def readv(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        self._jobctl.check_change(task, self, SIGTTIN)
        count = sum(length for _, length in pieces)
        if not count:
            return 0
        self._await_input(task, bool(file.flags & O_NONBLOCK), count)
        data = self.discipline.take(min(count, 4096))
        done = self._uaccess.scatter_device_bytes(task, pieces, data)
        self.discipline.give_back(data[done:])
        return done

    def _await_input(self, task: Task, nonblock: bool, count: int) -> None:
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
                    until = self._clock.now + pause * DECISECOND
                seen = there
                if until is not None and self._clock.now >= until:
                    return
            if nonblock:
                raise KernelError(EAGAIN)
            if task.pending:
                raise KernelError(ERESTARTSYS)
            self._sched.schedule((self.readable,), self.readable.what, until)
            self._jobctl.check_change(task, self, SIGTTIN)

    def write(self, file: File, task: Task, address: int, count: int, position: int | None = None) -> int:
        return self.writev(file, task, [(address, count)])

    def writev(self, file: File, task: Task, pieces: Pieces, position: int | None = None) -> int:
        if self.discipline.termios.lflag & TOSTOP:
            self._jobctl.check_change(task, self, SIGTTOU)
        while self.discipline.stopped and not self.hung:
            if file.flags & O_NONBLOCK:
                raise KernelError(EAGAIN)
            if task.pending:
                raise KernelError(ERESTARTSYS)
            self._sched.schedule((self.startable,), self.startable.what)
        if self.hung:
            raise KernelError(EIO)
        data, left = self._uaccess.gather(task, pieces)
        if left:
            data = data[: len(data) // WRITE_CHUNK * WRITE_CHUNK]
            if not data:
                raise KernelError(EFAULT)
        self._screen(data)
        return len(data)

    def poll(self, file: File, task: Task) -> Ready:
        mask = POLLIN | POLLRDNORM if self.discipline.ready or self.hung else 0
        if self.hung:
            mask |= POLLHUP | POLLERR
        if not self.discipline.stopped:
            mask |= POLLOUT | POLLWRNORM
        return Ready(mask, (self.readable, self.startable))

    # -- ioctl ---------------------------------------------------------------------------------------------------

    def ioctl(self, file: File, task: Task, request: int, argument: int) -> int:
        discipline = self.discipline
        terms = discipline.termios
        if request == t.TCGETS:
            self._uaccess.put_user(task, argument, terms.pack())
        elif request == t.TCGETS2:
            self._uaccess.put_user(task, argument, terms.pack() + pack_speeds())
        elif request == t.TCGETA:
            self._uaccess.put_user(task, argument, terms.pack_old())
        elif request in SETS:
            self._jobctl.check_change(task, self, SIGTTOU)
            data = self._uaccess.get_user(task, argument, SETS[request])
            if request in _FLUSHING:
                discipline.flush_input()
            discipline.set_termios(terms.with_old(data) if SETS[request] == t.TERMIO_BYTES else Termios.unpack(data))
            self.on_termios()
            self._sched.wake_up(self.readable)
            self._sched.wake_up(self.startable)
        elif request == t.TIOCGWINSZ:
            self._uaccess.put_user(task, argument, pack_winsize(*self.window))
        elif request == t.TIOCSWINSZ:
            self.resize(unpack_winsize(self._uaccess.get_user(task, argument, t.WINSIZE_BYTES)))
        elif request == t.FIONREAD:
            self._uaccess.put_user(task, argument, discipline.available.to_bytes(4, "little"))
        elif request in (t.TIOCOUTQ, t.TIOCGETD):
            self._uaccess.put_user(task, argument, bytes(4))
        elif request == t.TIOCSTI:
            self.receive(self._uaccess.get_user(task, argument, 1))
        elif request in (t.TCSBRK, t.TCSBRKP):
            self._jobctl.check_change(task, self, SIGTTOU)
        elif request in (t.TIOCEXCL, t.TIOCNXCL):
            pass
        elif request in (t.TCFLSH, t.TCXONC):
            self._jobctl.check_change(task, self, SIGTTOU)
            self._flow(request, argument)
        else:
            return self._session_ioctl(task, request, argument)
        return 0

    def _flow(self, request: int, argument: int) -> None:
        if request == t.TCFLSH:
            if argument not in (t.TCIFLUSH, t.TCOFLUSH, t.TCIOFLUSH):
                raise KernelError(EINVAL)
            if argument != t.TCOFLUSH:
                self.discipline.flush_input()
            return
        if argument > 3:
            raise KernelError(EINVAL)
        if argument in (t.TCOOFF, t.TCOON):
            self.discipline.stopped = argument == t.TCOOFF
            self._sched.wake_up(self.startable)

    def _session_ioctl(self, task: Task, request: int, argument: int) -> int:
        controls = self.session == task.sid
        if request == t.TIOCSCTTY:
            if controls and task.sid == task.tgid:
                return 0
            if task.sid != task.tgid or self.session:
                raise KernelError(EPERM)
            self.session, self.pgrp = task.sid, task.pgid
            return 0
        if request not in (t.TIOCGPGRP, t.TIOCSPGRP, t.TIOCGSID, t.TIOCNOTTY):
            raise KernelError(ENOTTY)
        if request == t.TIOCSPGRP:
            self._jobctl.check_change(task, self, SIGTTOU)
        if not controls:
            raise KernelError(ENOTTY)
        if request == t.TIOCGPGRP:
            self._uaccess.put_user(task, argument, self.pgrp.to_bytes(4, "little"))
        elif request == t.TIOCGSID:
            self._uaccess.put_user(task, argument, self.session.to_bytes(4, "little"))
        elif request == t.TIOCSPGRP:
            group = self._uaccess.get_word(task, argument)
            if group >> 31:
                raise KernelError(EINVAL)
            group_members = members(self._jobctl.tasks, group)
            if not group_members:
                raise KernelError(ESRCH)
            if all(each.sid != task.sid for each in group_members):
                raise KernelError(EPERM)
            self.pgrp = group
        elif task.sid == task.tgid:
            group, self.session, self.pgrp = self.pgrp, 0, 0
            self._jobctl.hang_up_group(group)
        return 0
