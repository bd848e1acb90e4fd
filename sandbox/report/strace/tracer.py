"""The lines: a call and its result, what came between, signals, ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.kernel.abi import signals
from sandbox.kernel.abi.errno import NAMES
from sandbox.kernel.abi.socket import SOCKETCALLS
from sandbox.kernel.base import events
from sandbox.machine.events import Event
from sandbox.records import dataclass
from sandbox.report.strace import layouts, words
from sandbox.report.strace.call import Call
from sandbox.report.strace.decode import IN, OUT, WIDE, poll_events
from sandbox.report.strace.signatures import ADDRESSES, ENDLESS, NAMED, OCTAL, PLACES, signature
from sandbox.report.strace.structures import fields

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

COLUMN = 40
"""Where ``=`` stands after a short call."""
EVENTS = (events.CallEntered, events.SystemCall, events.SignalDelivered, events.TaskChange)
_RESTARTS = {
    512: "ERESTARTSYS (To be restarted if SA_RESTART is set)",
    513: "ERESTARTNOINTR (To be restarted)",
    514: "ERESTARTNOHAND (To be restarted if no handler)",
    516: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}
_FAULTS = (signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE, signals.SIGTRAP)
_CODES = {
    signals.SIGSEGV: "SEGV_", signals.SIGBUS: "BUS_", signals.SIGILL: "ILL_", signals.SIGFPE: "FPE_",
    signals.SIGTRAP: "TRAP_", signals.SIGCHLD: "CLD_",
}  # fmt: skip


@dataclass(slots=True)
class _Begun:
    """A call on its way: the arguments that could be shown before it returned, and whether others follow."""

    name: str
    arguments: tuple[int, ...]
    known: list[str]
    more: bool
    before: int | None = None
    """What a length that the kernel changes was."""
    shown: bool = False
    """Its beginning is on a line of its own already."""


class Strace:
    """A reader of one kernel's events.  ``write`` takes whole lines, without their ends."""

    def __init__(self, kernel: Kernel, write: Callable[[str], None]) -> None:
        self._kernel = kernel
        self._write = write
        self._open: dict[int, _Begun] = {}
        """Calls that have not returned, by pid."""
        self._several = False
        self.end = kernel.bus.subscribe(self._event, *EVENTS)

    def interrupt(self) -> None:
        """Something else is about to be written: calls that are on their way become ``<unfinished ...>``."""
        for pid, begun in self._open.items():
            if not begun.shown:
                begun.shown = True
                self._line(pid, f"{begun.name}({', '.join(begun.known)}{', ' if begun.more else ''} <unfinished ...>")

    def _line(self, pid: int, text: str) -> None:
        self._write(self._prefix(pid) + text)

    def _prefix(self, pid: int) -> str:
        return f"[pid {pid:>5}] " if self._several else ""

    def _event(self, event: Event) -> None:
        if isinstance(event, events.CallEntered):
            self._enter(event)
        elif isinstance(event, events.SystemCall):
            self._leave(event)
        elif isinstance(event, events.SignalDelivered):
            self.interrupt()
            self._line(event.pid, f"--- {words.signal_name(event.signal)} {{{_siginfo(event)}}} ---")
        elif isinstance(event, events.TaskChange):
            self._changed(event)

    def _changed(self, event: events.TaskChange) -> None:
        if event.what == "fork":
            self._several = True
        elif event.what == "exit":
            status = int(event.detail.removeprefix("status "), 16)
            begun = self._open.pop(event.pid, None)
            if begun is not None:
                self._close(event.pid, begun, begun.known, "?")
            self.interrupt()
            if status & 0x7F:
                core = " (core dumped)" if status & 0x80 else ""
                self._line(event.pid, f"+++ killed by {words.signal_name(status & 0x7F)}{core} +++")
            else:
                self._line(event.pid, f"+++ exited with {status >> 8} +++")

    def _enter(self, event: events.CallEntered) -> None:
        self.interrupt()
        call = Call(self._kernel, self._kernel.tasks[event.pid], event.arguments)
        name, call.arguments = _unfolded(call, event.name)
        kinds = signature(name, call.arguments)
        known = _decoded(call, name, entering=True)
        if "out_length" in kinds:
            length = call.bytes_at(call.arguments[kinds.index("out_length")], 4)
            call.before = layouts.INT.parse(length) if length else None
        more = bool(known) and len(known) < len(kinds)
        self._open[event.pid] = _Begun(name, call.arguments, known, more, call.before)

    def _leave(self, event: events.SystemCall) -> None:
        begun = self._open.pop(event.pid, None)
        task = self._kernel.tasks.get(event.pid)
        if begun is None or task is None:
            return
        call = Call(self._kernel, task, begun.arguments, event.result, begun.before)
        all_of_it = begun.known
        if begun.more or not begun.known:
            all_of_it = begun.known + _decoded(call, begun.name, entering=False)[len(begun.known) :]
        self._close(event.pid, begun, all_of_it, _result(event, call))

    def _close(self, pid: int, begun: _Begun, arguments: list[str], result: str) -> None:
        if begun.shown:
            text = f"<... {begun.name} resumed>{', '.join(arguments[len(begun.known) :])})"
        else:
            self.interrupt()
            text = f"{begun.name}({', '.join(arguments)})"
        self._line(pid, f"{text:{COLUMN - 1 - len(self._prefix(pid))}} = {result}")


def _unfolded(call: Call, name: str) -> tuple[str, tuple[int, ...]]:
    """The call that socketcall(2) stands for, and its arguments; others as they are."""
    number, block = call.arguments[:2]
    if name != "socketcall" or not 0 < number < len(SOCKETCALLS):
        return name, call.arguments
    real, count = SOCKETCALLS[number]
    data = call.bytes_at(block, 4 * count)
    return (name, call.arguments) if data is None else (real, tuple(layouts.UINT[count].parse(data)))


def _decoded(call: Call, name: str, *, entering: bool) -> list[str]:
    """The arguments as text; on the way in, those before the first that needs the result."""
    found: list[str] = []
    index = 0
    for kind in signature(name, call.arguments):
        if kind in OUT:
            if entering:
                break
            decoder = OUT[kind]
        else:
            decoder = IN[kind]
        found.append(NAMED.get(kind, "") + decoder(call, PLACES.get(kind, index)))
        index += 2 if kind in WIDE else 1
    return found


def _result(event: events.SystemCall, call: Call) -> str:
    name, result = event.name, event.result
    signed = words.signed(result & 0xFFFFFFFF)
    if name in ENDLESS:
        return "?"
    if -4096 < signed < 0:
        if -signed in _RESTARTS:
            return f"? {_RESTARTS[-signed]}"
        return f"-1 {NAMES.get(-signed, f'E{-signed}')} ({os.strerror(-signed)})"
    if name in ADDRESSES:
        return f"{result & 0xFFFFFFFF:#x}"
    if name in OCTAL:
        return words.mode(result)
    if name in ("fcntl", "fcntl64") and event.arguments[1] == 1:
        return "0x1 (flags FD_CLOEXEC)" if result else "0"
    if name in ("fcntl", "fcntl64") and event.arguments[1] == 3:
        return f"{result:#x} (flags {words.open_flags(result)})"
    if name in ("poll", "ppoll", "ppoll_time64", "_newselect", "pselect6", "pselect6_time64"):
        return _ready(event, call)
    if name == "set_thread_area":
        data = call.bytes_at(event.arguments[0], 4)
        return f"{signed} (entry_number={layouts.INT.parse(data)})" if data else str(signed)
    return str(signed)


def _ready(event: events.SystemCall, call: Call) -> str:
    if not event.result:
        return "0 (Timeout)"
    if "poll" in event.name:
        address, count = event.arguments[:2]
        data = call.bytes_at(address, layouts.POLLFD.sizeof() * count)
        seen = layouts.POLLFD[count].parse(data) if data else []
        found = [f"{{fd={each.fd}, revents={poll_events(each.revents)}}}" for each in seen if each.revents]
        return f"{event.result} ([{', '.join(found)}])"
    sets = []
    for index, label in ((1, "in"), (2, "out"), (3, "except")):
        text = IN["fdset"](call, index) if event.arguments[index] else "[]"
        if text != "[]":
            sets.append(f"{label} {text}")
    return f"{event.result} ({', '.join(sets)})"


def _siginfo(event: events.SignalDelivered) -> str:
    number, code, union = event.signal, event.code, event.union.ljust(20, b"\0")
    text = f"si_signo={words.signal_name(number)}, si_code={_code(number, code)}"
    if number in _FAULTS and 0 < code < signals.SI_KERNEL:
        return text + f", si_addr={words.pointer(layouts.SIGINFO_FAULT.parse(union).si_addr)}"
    if number == signals.SIGCHLD and code > 0:
        child = layouts.SIGINFO_CHILD.parse(union)
        if code != signals.CLD_EXITED:
            child.si_status = words.signal_name(child.si_status)
        return text + ", " + fields(child)[1:-1]
    if code == signals.SI_KERNEL:
        return text + (", si_addr=NULL" if number in _FAULTS else "")
    sender = layouts.SIGINFO_SENT.parse(union)
    text += f", si_pid={sender.si_pid}, si_uid={sender.si_uid}"
    if code == signals.SI_QUEUE:
        text += f", si_int={sender.si_int}, si_ptr={words.pointer(sender.si_int & 0xFFFFFFFF)}"
    return text


def _code(number: int, code: int) -> str:
    if code > 0 and code != signals.SI_KERNEL and number in _CODES:
        names = {value: name for name, value in vars(signals).items() if name.startswith(_CODES[number])}
        return names.get(code, str(code))
    general = {value: name for name, value in vars(signals).items() if name.startswith("SI_")}
    return general.get(code, str(code))
