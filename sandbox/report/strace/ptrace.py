"""Requests, options and events of ptrace(2) as strace shows them."""

from __future__ import annotations

from sandbox.kernel.abi import ptrace as abi
from sandbox.report.strace import words

_OPTION, _EVENT = "PTRACE_O_", "PTRACE_EVENT_"


def _named(prefix: str, *others: str) -> dict[int, str]:
    found = {name: value for name, value in vars(abi).items() if name.startswith(prefix)}
    return {value: name for name, value in found.items() if not name.startswith(others or ("-",))}


REQUESTS = {
    **_named("PTRACE_", _OPTION, _EVENT, "PTRACE_PEEKUSR", "PTRACE_POKEUSR"),
    abi.PTRACE_PEEKUSR: "PTRACE_PEEKUSER",
    abi.PTRACE_POKEUSR: "PTRACE_POKEUSER",
}
OPTIONS = _named(_OPTION, "PTRACE_O_MASK")
EVENTS = _named(_EVENT)
_WITH_SIGNAL = (abi.PTRACE_CONT, abi.PTRACE_SYSCALL, abi.PTRACE_SINGLESTEP, abi.PTRACE_SYSEMU, abi.PTRACE_DETACH)
_WITH_OPTIONS = (abi.PTRACE_SETOPTIONS, abi.PTRACE_OLDSETOPTIONS, abi.PTRACE_SEIZE)
_PID_ONLY = (abi.PTRACE_ATTACH, abi.PTRACE_KILL, abi.PTRACE_INTERRUPT, abi.PTRACE_LISTEN)


def kinds(request: int) -> tuple[str, ...]:
    """Of the arguments that a request takes."""
    if request == abi.PTRACE_TRACEME:
        return ("ptrace",)
    if request in _PID_ONLY:
        return "ptrace", "int"
    last = "ptracesignal" if request in _WITH_SIGNAL else "ptraceoptions" if request in _WITH_OPTIONS else "ptr"
    return "ptrace", "int", "ptr", last


def signal(number: int) -> str:
    """What a tracer gives, 0 for none."""
    return words.signal_name(number) if number else "0"


def stopped(status: int) -> str:
    """A wait status of a stop, which may be one before or after a system call, or for an event."""
    number, event = status >> 8 & 0xFF, status >> 16
    entered = " | 0x80" if number & 0x80 else ""
    behind = f"|{words.choice(event, EVENTS)}<<16" if event else ""
    return f"[{{WIFSTOPPED(s) && WSTOPSIG(s) == {words.signal_name(number & 0x7F)}{entered}}}{behind}]"
