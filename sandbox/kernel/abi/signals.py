"""Signals of Linux i386: numbers, default actions, sigaction flags, and the si_code values of faults."""

from __future__ import annotations

from enum import Enum

SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE = range(1, 9)
SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT = range(9, 17)
SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU = range(17, 25)
SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS = range(25, 32)
SIGRTMIN = 32
"""The kernel's; libcs keep the first two or three for themselves."""
NSIG = 64

NAMES: dict[int, str] = {
    value: name for name, value in list(globals().items()) if name[:3] == "SIG" and name != "SIGRTMIN"
}

SIG_DFL, SIG_IGN = 0, 1
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2

SA_NOCLDSTOP = 1
SA_NOCLDWAIT = 2
SA_SIGINFO = 4
SA_RESTORER = 0x04000000
SA_ONSTACK = 0x08000000
SA_RESTART = 0x10000000
SA_NODEFER = 0x40000000
SA_RESETHAND = 0x80000000
SS_ONSTACK, SS_DISABLE = 1, 2
MINSIGSTKSZ = 2048

SI_USER, SI_KERNEL, SI_QUEUE, SI_TIMER, SI_TKILL = 0, 0x80, -1, -2, -6
ILL_ILLOPC, ILL_ILLOPN, ILL_ILLADR, ILL_ILLTRP, ILL_PRVOPC, ILL_PRVREG, ILL_COPROC, ILL_BADSTK = range(1, 9)
FPE_INTDIV, FPE_INTOVF, FPE_FLTDIV, FPE_FLTOVF, FPE_FLTUND, FPE_FLTRES, FPE_FLTINV, FPE_FLTSUB = range(1, 9)
SEGV_MAPERR, SEGV_ACCERR = 1, 2
BUS_ADRALN, BUS_ADRERR, BUS_OBJERR = 1, 2, 3
TRAP_BRKPT, TRAP_TRACE, TRAP_BRANCH, TRAP_HWBKPT = 1, 2, 3, 4
CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_TRAPPED, CLD_STOPPED, CLD_CONTINUED = range(1, 7)


class Action(Enum):
    """What a signal with SIG_DFL does to its process."""

    TERMINATE = "terminate"
    CORE = "core"
    STOP = "stop"
    CONTINUE = "continue"
    IGNORE = "ignore"


_DEFAULTS = {
    **dict.fromkeys(
        (SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS), Action.CORE
    ),
    **dict.fromkeys((SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU), Action.STOP),
    **dict.fromkeys((SIGCHLD, SIGURG, SIGWINCH), Action.IGNORE),
    SIGCONT: Action.CONTINUE,
}

UNBLOCKABLE = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)
"""The mask bits of the signals that can be neither blocked, caught nor ignored."""
SYNCHRONOUS = sum(1 << (number - 1) for number in (SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS))
"""The mask bits of the signals that instructions cause: delivered first."""


def default_action(number: int) -> Action:
    """The default action of signal 1 to 64; real-time signals terminate.  See signal(7)."""
    return _DEFAULTS.get(number, Action.TERMINATE)


def name_of(number: int) -> str:
    """``SIGSEGV`` for 11, ``SIGRTMIN+2`` for 34, ``signal N`` for what is none."""
    if SIGRTMIN <= number <= NSIG:
        return f"SIGRTMIN+{number - SIGRTMIN}" if number > SIGRTMIN else "SIGRTMIN"
    return NAMES.get(number, f"signal {number}")
