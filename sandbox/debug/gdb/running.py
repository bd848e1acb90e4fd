"""The packets that let the guest run, and the stop replies that come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.debug.gdb import processes, resume, threads
from sandbox.debug.gdb.link import EMPTY, NONE, OK, Detached, Link, done, hexadecimal, thread_id
from sandbox.debug.gdb.replies import Events, stop_reply
from sandbox.debug.gdb.signals import to_gdb, to_linux
from sandbox.debug.gdb.threads import Halt
from sandbox.records import dataclass, replace

_LETTERS = (b"c", b"C", b"s", b"S", b"r")


@dataclass(frozen=True, slots=True)
class Action:
    """One action of ``vCont``: ``s`` or ``c``, with a signal of Linux's, of one thread (all: -1).

    ``span`` are the addresses in which a range step goes on.
    """

    steps: bool
    signal: int = 0
    thread: int = -1
    span: tuple[int, int] | None = None
    process: int = -1

    def concerns(self, thread: int, process: int = -1) -> bool:
        return self.thread in (-1, 0, thread) and (self.process in (-1, 0, process) or process == -1)


def action_of(text: bytes) -> Action:
    """Raises ValueError for what is none."""
    what, _, thread = text.partition(b":")
    letter, rest = what[:1], what[1:]
    if letter not in _LETTERS or (letter in (b"c", b"s") and rest):
        raise ValueError(f"no action {text!r}")
    number = to_linux(hexadecimal(rest)) if letter in (b"C", b"S") else 0
    span = None
    if letter == b"r":
        first, end = rest.split(b",")
        span = hexadecimal(first), hexadecimal(end)
    process, chosen = thread_id(thread) if thread else (-1, -1)
    return Action(letter in (b"s", b"S", b"r"), number, chosen, span, process)


class Running:
    """Runs the guest for one gdb."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._events = Events(link)
        self._sent: int | None = None
        """A signal that gdb has sent by itself: its delivery is no news."""

    # -- packets -------------------------------------------------------------------------------------------------

    def why(self, _: bytes = b"") -> bytes:
        """``?``."""
        link = self._link
        if link.by_process and link.halt.process not in link.attached and not link.halt.ended:
            return b"T00thread:%s;" % link.name(link.thread) if link.attached else b"W00"
        return stop_reply(replace(link.halt, replay_end="", news=None), link)

    def single(self, letter: bytes) -> Callable[[bytes], bytes]:
        """The handler of ``c``, ``C``, ``s`` or ``S``, of the chosen thread where it steps."""
        return lambda rest: self._go([action_of(letter + rest)])

    def cont(self, rest: bytes) -> bytes:
        """``vCont;…``: for each thread the first action that concerns it."""
        return self._go([action_of(each) for each in rest.split(b";")])

    def back(self, rest: bytes) -> bytes:
        """``bs``, ``bc``."""
        if rest not in (b"s", b"c"):
            return EMPTY
        link = self._link
        link.all_go = False  # as it was then
        if not link.by_process:
            return self._run(resume.go_back, rest == b"s")
        link.remote.call(processes.focus, link.processes, [], False)
        reply = self._run(resume.go_back, rest == b"s")
        self._events.unborn()
        link.focus()
        return reply

    def restart(self, _: bytes = b"") -> None:
        """``R``: no reply."""
        self._link.arrived(self._link.remote.call(resume.restart))
        self._link.all_go = False
        self._link.take_all()

    def started(self, rest: bytes) -> bytes:
        """``vRun``: the same guest from its beginning; there is no other program here."""
        self._link.killed, before = False, {*self._link.attached}
        self.restart()
        self._events.gone(before - self._link.attached)
        return self.why()

    def kill(self, reply: bytes | None, process: int = 0) -> bytes | None:
        """``k``, ``vKill``: the guest ends; whoever may start it again finds it at its beginning.

        One process of several is killed alone.
        """
        if process and self._link.attached != {process}:
            return self._kill_one(process)
        if not self._link.extended:
            if reply is not None:
                self._link.stream.send(reply)
            raise Detached(True)
        self.restart()
        self._link.killed = True
        return reply

    def _kill_one(self, process: int) -> bytes:
        if process not in self._link.attached:
            return NONE
        answer = self._link.change(processes.end, process)
        self.leave(process)
        return done(answer)

    def leave(self, process: int) -> None:
        """gdb has a process no more: it runs freely from now on."""
        link = self._link
        link.attached.discard(process)
        link.remote.call(processes.forget, process)
        link.hold_back([(-1, -1)])
        link.focus()

    def attach(self, process: int) -> bytes:
        """``vAttach``: a process that runs freely."""
        link = self._link
        thread = next((each for each, whose in link.remote.call(processes.processes).items() if whose == process), 0)
        if not thread or process in link.attached:
            return NONE
        link.attached.add(process)
        link.focus()
        link.thread = thread
        return b"T00thread:%s;" % link.name(thread)

    # -- running -------------------------------------------------------------------------------------------------

    def _go(self, actions: list[Action]) -> bytes:
        link = self._link
        if link.later:
            return link.later.pop(0)
        if link.halt.ended:
            link.over = True
            return self._events.reply(link.halt) if link.by_process else self.why()
        self._decide(actions)
        self._hold_back(actions)
        for each in actions:
            if each.steps:
                return self._run(resume.go_on, each.thread if each.thread > 0 else link.thread, each.span)
        return self._run(resume.go_on, None)

    def _hold_back(self, actions: list[Action]) -> None:
        """Threads that no action concerns stand still.

        One instruction of one thread is gdb's step over a breakpoint: with it the others stay as they are.
        """
        link = self._link
        alone = len(actions) == 1 and actions[0].thread > 0 and actions[0].steps and actions[0].span is None
        if alone and not link.all_go:
            link.remote.call(resume.free, actions[0].thread)
        if alone or any(each.thread >= threads.CPU_THREADS for each in actions):
            return
        wanted = [(each.process or -1, each.thread or -1) for each in actions]
        link.hold_back(wanted, link.processes)

    def _decide(self, actions: list[Action]) -> None:
        """What the threads go on with."""
        link = self._link
        here = next((each for each in actions if each.concerns(link.halt.thread, link.halt.process)), None)
        if here is not None and (link.halt.event == "signal" or here.signal):
            self._give(link.halt.thread, here.signal)
        for each in actions:
            if each.signal and each.thread > 0 and each.thread != link.halt.thread:
                self._give(each.thread, each.signal)

    def _give(self, thread: int, number: int) -> None:
        self._link.change(resume.decide, thread, number)
        if self._link.halt.event != "signal" or thread != self._link.halt.thread:
            self._sent = number

    def _run(self, function: Callable[..., Halt], *arguments: Any) -> bytes:
        """Let the guest run until there is something to tell."""
        while True:
            self._await(function, *arguments)
            if not self._passes(self._link.halt):
                self._sent = None
                return self._told(self._link.halt)

    def _told(self, halt: Halt) -> bytes:
        """The reply to a stop that gdb wants to hear of; what is to be said beside it is said."""
        if halt.note:
            self._link.say(halt.note)
        return self._events.reply(halt) if self._link.by_process else stop_reply(halt, self._link)

    def _await(self, function: Callable[..., Halt], *arguments: Any) -> None:
        """Until it stops, or gdb interrupts it, or somebody is gone, gdb or we: then it is stopped too."""
        remote, stream = self._link.remote, self._link.stream
        remote.begin(function, *arguments)
        try:
            more = False
            while not more or not remote.answered(stream):
                if stream.interrupts(more):
                    remote.interrupt()
                more = True
        except BaseException as error:
            remote.interrupt()
            if isinstance(error, EOFError | OSError):
                remote.answer()
            raise
        self._link.arrived(remote.answer())

    def _passes(self, halt: Halt) -> bool:
        """A stop that gdb does not want to hear of: a signal that it passes, the death that one leads to."""
        if halt.event == "killed":
            return True
        if halt.news is not None and self._link.by_process:
            return self._events.passes(halt)
        if halt.event != "signal":
            return False
        number = int(halt.stop.details["signal"])
        if number == self._sent:
            self._sent = None
            return True
        link = self._link
        if to_gdb(number) not in link.passed:
            return False
        if link.programs is not None and to_gdb(number) not in link.programs:
            link.change(resume.decide, halt.thread, 0)
        return True

    def pass_signals(self, argument: bytes) -> bytes:
        """``QPassSignals``."""
        self._link.passed = _set_of(argument)
        return OK

    def program_signals(self, argument: bytes) -> bytes:
        """``QProgramSignals``."""
        self._link.programs = _set_of(argument)
        return OK


def _set_of(argument: bytes) -> set[int]:
    return {hexadecimal(each) for each in argument.split(b";") if each}
