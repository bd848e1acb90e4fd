"""ioctl: terminals, and what every descriptor understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EBADF, EINVAL, ENOTTY, EPERM, ESRCH, KernelError
from sandbox.kernel.abi.flags import O_ASYNC, O_NONBLOCK, O_PATH, S_IFREG
from sandbox.kernel.abi.signals import SIGCONT, SIGHUP, SIGTTOU
from sandbox.kernel.abi.termios import (
    FIOASYNC,
    FIOCLEX,
    FIONBIO,
    FIONCLEX,
    FIONREAD,
    TCFLSH,
    TCGETA,
    TCGETS,
    TCGETS2,
    TCIFLUSH,
    TCIOFLUSH,
    TCOFLUSH,
    TCOOFF,
    TCOON,
    TCSBRK,
    TCSBRKP,
    TCSETA,
    TCSETAF,
    TCSETAW,
    TCSETS,
    TCSETS2,
    TCSETSF,
    TCSETSF2,
    TCSETSW,
    TCSETSW2,
    TCXONC,
    TERMIO_BYTES,
    TERMIOS_BYTES,
    TIOCEXCL,
    TIOCGETD,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCNOTTY,
    TIOCNXCL,
    TIOCOUTQ,
    TIOCSCTTY,
    TIOCSPGRP,
    TIOCSTI,
    TIOCSWINSZ,
    WINSIZE_BYTES,
    Termios,
    pack_speeds,
    pack_winsize,
    unpack_winsize,
)
from sandbox.kernel.drivers.console import Console
from sandbox.kernel.drivers.jobctl import check_change, kill_pgrp
from sandbox.kernel.drivers.tty import Tty
from sandbox.kernel.fs.pipe import PipeInode
from sandbox.kernel.ipc.socketpair import SocketEnd
from sandbox.kernel.mm.uaccess import get_user, get_word, put_user
from sandbox.kernel.module.chrdev import ModuleDevice
from sandbox.kernel.task.task import Task
from sandbox.kernel.task.wait import wake_up
from sandbox.kernel.vfs.file import File

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

_SETS = {
    TCSETS: TERMIOS_BYTES, TCSETSW: TERMIOS_BYTES, TCSETSF: TERMIOS_BYTES,
    TCSETS2: TERMIOS_BYTES + 8, TCSETSW2: TERMIOS_BYTES + 8, TCSETSF2: TERMIOS_BYTES + 8,
    TCSETA: TERMIO_BYTES, TCSETAW: TERMIO_BYTES, TCSETAF: TERMIO_BYTES,
}  # fmt: skip
_FLUSHING = (TCSETSF, TCSETSF2, TCSETAF)


def sys_ioctl(kernel: Kernel, task: Task, fd: int, request: int, argument: int, *_: int) -> int:
    file = task.files.get(fd)
    if file.flags & O_PATH:
        raise KernelError(EBADF)
    inode = file.inode
    if request in (FIOCLEX, FIONCLEX):
        task.files.set_close_on_exec(fd, request == FIOCLEX)
        return 0
    if request in (FIONBIO, FIOASYNC):
        flag = O_NONBLOCK if request == FIONBIO else O_ASYNC
        wanted = get_word(kernel, task, argument)
        file.flags = file.flags | flag if wanted else file.flags & ~flag
        return 0
    if isinstance(inode, ModuleDevice):
        return inode.ioctl(file, request, argument)
    if isinstance(inode, Tty):
        return _tty_ioctl(kernel, task, inode, request, argument)
    if request == FIONREAD:
        put_user(kernel, task, argument, _available(file).to_bytes(4, "little", signed=True))
        return 0
    if isinstance(inode, Console) and inode.is_terminal:
        return _host_ioctl(kernel, task, inode, request, argument)
    raise KernelError(ENOTTY)


def _available(file: File) -> int:
    """FIONREAD.  Raises KernelError(ENOTTY)."""
    inode = file.inode
    if isinstance(inode, PipeInode):
        return inode.pipe.available
    if isinstance(inode, SocketEnd):
        return inode.incoming.available
    if isinstance(inode, Console):
        return inode.available
    if inode.kind == S_IFREG:
        return max(-(1 << 31), min(inode.size - file.position, (1 << 31) - 1))
    raise KernelError(ENOTTY)


def _host_ioctl(kernel: Kernel, task: Task, console: Console, request: int, argument: int) -> int:
    """A terminal of the host that the machine does not have to itself: what it is may be asked, not changed."""
    if request == TIOCGWINSZ:
        put_user(kernel, task, argument, pack_winsize(*console.window_size()))
    elif request == TIOCGPGRP:
        put_user(kernel, task, argument, task.pgid.to_bytes(4, "little"))
    elif request == TIOCGSID:
        put_user(kernel, task, argument, task.sid.to_bytes(4, "little"))
    elif request == TCGETS:
        put_user(kernel, task, argument, Termios().pack())
    elif request == TCGETS2:
        put_user(kernel, task, argument, Termios().pack() + pack_speeds())
    elif request == TCGETA:
        put_user(kernel, task, argument, Termios().pack_old())
    elif request in _SETS or request in (TIOCSPGRP, TIOCSCTTY, TCFLSH, TCSBRK, TCSBRKP):
        return 0
    else:
        raise KernelError(ENOTTY)
    return 0


def _tty_ioctl(kernel: Kernel, task: Task, tty: Tty, request: int, argument: int) -> int:
    discipline = tty.discipline
    terms = discipline.termios
    if request == TCGETS:
        put_user(kernel, task, argument, terms.pack())
    elif request == TCGETS2:
        put_user(kernel, task, argument, terms.pack() + pack_speeds())
    elif request == TCGETA:
        put_user(kernel, task, argument, terms.pack_old())
    elif request in _SETS:
        check_change(kernel, task, tty, SIGTTOU)
        data = get_user(kernel, task, argument, _SETS[request])
        if request in _FLUSHING:
            discipline.flush_input()
        discipline.set_termios(terms.with_old(data) if _SETS[request] == TERMIO_BYTES else Termios.unpack(data))
        tty.on_termios()
        wake_up(kernel, tty.readable)
        wake_up(kernel, tty.startable)
    elif request == TIOCGWINSZ:
        put_user(kernel, task, argument, pack_winsize(*tty.window))
    elif request == TIOCSWINSZ:
        tty.resize(unpack_winsize(get_user(kernel, task, argument, WINSIZE_BYTES)))
    elif request == FIONREAD:
        put_user(kernel, task, argument, discipline.available.to_bytes(4, "little"))
    elif request in (TIOCOUTQ, TIOCGETD):
        put_user(kernel, task, argument, bytes(4))
    elif request == TIOCSTI:
        tty.receive(get_user(kernel, task, argument, 1))
    elif request in (TCSBRK, TCSBRKP):
        check_change(kernel, task, tty, SIGTTOU)
    elif request in (TIOCEXCL, TIOCNXCL):
        pass
    elif request in (TCFLSH, TCXONC):
        check_change(kernel, task, tty, SIGTTOU)
        _flow(kernel, tty, request, argument)
    else:
        return _session_ioctl(kernel, task, tty, request, argument)
    return 0


def _flow(kernel: Kernel, tty: Tty, request: int, argument: int) -> None:
    if request == TCFLSH:
        if argument not in (TCIFLUSH, TCOFLUSH, TCIOFLUSH):
            raise KernelError(EINVAL)
        if argument != TCOFLUSH:
            tty.discipline.flush_input()
        return
    if argument > 3:
        raise KernelError(EINVAL)
    if argument in (TCOOFF, TCOON):
        tty.discipline.stopped = argument == TCOOFF
        wake_up(kernel, tty.startable)


def _session_ioctl(kernel: Kernel, task: Task, tty: Tty, request: int, argument: int) -> int:
    controls = tty.session == task.sid
    if request == TIOCSCTTY:
        if controls and task.sid == task.pid:
            return 0
        if task.sid != task.pid or tty.session:
            raise KernelError(EPERM)
        tty.session, tty.pgrp = task.sid, task.pgid
        return 0
    if request not in (TIOCGPGRP, TIOCSPGRP, TIOCGSID, TIOCNOTTY):
        raise KernelError(ENOTTY)
    if request == TIOCSPGRP:
        check_change(kernel, task, tty, SIGTTOU)
    if not controls:
        raise KernelError(ENOTTY)
    if request == TIOCGPGRP:
        put_user(kernel, task, argument, tty.pgrp.to_bytes(4, "little"))
    elif request == TIOCGSID:
        put_user(kernel, task, argument, tty.session.to_bytes(4, "little"))
    elif request == TIOCSPGRP:
        group = get_word(kernel, task, argument)
        if group >> 31:
            raise KernelError(EINVAL)
        members = [each for each in kernel.tasks.values() if each.pgid == group]
        if not members:
            raise KernelError(ESRCH)
        if all(each.sid != task.sid for each in members):
            raise KernelError(EPERM)
        tty.pgrp = group
    elif task.sid == task.pid:
        group, tty.session, tty.pgrp = tty.pgrp, 0, 0
        kill_pgrp(kernel, group, SIGHUP)
        kill_pgrp(kernel, group, SIGCONT)
    return 0
