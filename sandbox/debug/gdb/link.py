"""What the parts of the stub share: one gdb, the worker, and where the guest stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.debug.debugger import Answer
from sandbox.debug.fold import wrapped
from sandbox.debug.gdb import access, processes, resume, threads
from sandbox.debug.gdb.packets import PacketStream
from sandbox.debug.gdb.picture import Picture
from sandbox.debug.gdb.threads import Halt
from sandbox.debug.worker import Remote
from sandbox.records import dataclass, field

OK, EMPTY, NONE = b"OK", b"", b"E01"


class Detached(Exception):
    """gdb has left; ``ended`` when the guest is to end too."""

    def __init__(self, ended: bool) -> None:
        super().__init__()
        self.ended = ended


@dataclass(slots=True)
class Link:
    """One connection."""

    remote: Remote
    stream: PacketStream
    halt: Halt
    thread: int
    """Whose registers and memory are meant."""
    passed: set[int] = field(default_factory=set)
    """gdb's numbers of signals that are delivered without a stop."""
    programs: set[int] | None = None
    """Those that may reach the program then; None for all."""
    extended: bool = False
    """gdb stays when the guest is killed, and may start it again."""
    over: bool = False
    """gdb has been told of the guest's end.  One that is no exit stops it first."""
    killed: bool = False
    """The guest stands at its beginning, and for gdb there is none before it starts one."""
    by_process: bool = False
    """Threads are told with their process, and gdb has some of the processes (``multiprocess+``)."""
    attached: set[int] = field(default_factory=set)
    """The processes that gdb has, where it knows of them."""
    vforks: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By the child that has its parent's memory: the parent's process and thread, which wait for it."""
    later: list[bytes] = field(default_factory=list)
    """Stop replies that come before the guest goes on."""
    calls: list[int] | None = None
    """The system calls at which gdb wants to stop."""
    new_threads: bool = False
    """gdb wants to hear of threads that begin and end (``QThreadEvents``)."""
    looked: int | None = None
    """The thread that the worker looks at, None where that is not known."""
    untouched: bool = False
    """Nothing was set since the guest stopped: what was told with the stop holds."""
    all_go: bool = False
    """No thread is held back."""

    @property
    def processes(self) -> list[int] | None:
        """Those whose threads are meant by "all"; None for whatever runs."""
        return sorted(self.attached) if self.by_process else None

    @property
    def process(self) -> int:
        """That of the chosen thread; 0 where gdb knows of none."""
        return int(self.remote.call(processes.process_of, self.thread)) if self.by_process else 0

    def name(self, thread: int, process: int | None = None) -> bytes:
        """A thread's id as gdb has it."""
        if not self.by_process:
            return b"%x" % thread
        process = self.remote.call(processes.process_of, thread) if process is None else process
        return b"p%x.%x" % (process, thread)

    def rows(self) -> list[tuple[int, int, str]]:
        """(process, thread, description) of all threads that gdb has; none at the guest's end."""
        if (self.halt.ended and not self.stands) or self.killed:
            return []
        found = self.remote.call(threads.threads)
        if not self.by_process:
            return [(0, thread, about) for thread, about in found]
        of = self.remote.call(processes.processes)
        return [(of[thread], thread, about) for thread, about in found if of.get(thread) in self.attached]

    @property
    def stands(self) -> bool:
        """At the end, of which gdb is yet to be told: it can be looked at, and left by going back."""
        return self.halt.ended and bool(self.halt.note) and not self.over

    def focus(self) -> None:
        """What happens to the processes that gdb has is caught, and nothing of others."""
        self.remote.call(processes.focus, self.processes, sorted(self.vforks) if self.by_process else [])
        self.remote.call(access.catch_calls, self.calls, self.processes)

    def take_all(self) -> None:
        """gdb has whatever there is."""
        self.attached = {*self.remote.call(processes.processes).values()} if self.by_process else set()
        self.vforks, self.later = {}, []
        self.hold_back([(-1, -1)])
        self.focus()
        self.at(self.halt)

    def look(self) -> None:
        """The worker looks at the chosen thread; at the one that has stopped, when that is gone."""
        if self.looked == self.thread:
            return
        if not self.remote.call(threads.select, self.thread):
            self.thread = self.halt.thread
            self.remote.call(threads.select, self.thread)
        self.looked = self.thread

    def change(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Ask the worker, which looks at the chosen thread, for what may set something."""
        self.look()
        self.looked, self.untouched = None, False
        return self.remote.call(function, *arguments)

    def hold_back(self, wanted: list[tuple[int, int]], processes: list[int] | None = None) -> None:
        """Only these threads go on (``resume.hold_back``)."""
        everybody = (-1, -1) in wanted
        if not (everybody and self.all_go):
            self.remote.call(resume.hold_back, wanted, processes)
        self.all_go = everybody

    @property
    def picture(self) -> Picture | None:
        """What was told of the chosen thread with the stop, as long as it holds."""
        found = self.halt.picture if self.untouched else None
        return found if found is not None and found.thread == self.thread else None

    def arrived(self, answer: Halt | Answer) -> None:
        """The guest has come to a stop; or, for a way that cannot be gone, to where it began."""
        if isinstance(answer, Halt):
            self.at(answer)
            return
        self.say(answer.error)
        self.at(self.remote.call(threads.halted))

    def say(self, text: str) -> None:
        """On gdb's console, in lines of 80 columns."""
        lines = "".join(f"{line}\n" for line in wrapped(text.splitlines()))
        self.stream.send(b"O" + bytes(lines.encode().hex(), "ascii"))

    def at(self, halt: Halt) -> None:
        """The guest stands here."""
        self.halt, self.thread, self.untouched, self.over = halt, halt.thread, True, False
        self.looked = None if halt.picture is None else halt.thread
        if self.by_process and halt.process not in self.attached:
            self.thread = next((thread for _, thread, _ in self.rows()), halt.thread)


def done(answer: Any) -> bytes:
    """The reply to something that was to be set."""
    return NONE if answer.error else OK


def unhex(text: bytes) -> bytes:
    return bytes.fromhex(text.decode("ascii"))


def hexadecimal(text: bytes) -> int:
    """A number as the protocol writes it: digits only, where int() would take a sign, too.  Raises ValueError."""
    if not text or text.strip(b"0123456789abcdefABCDEF"):
        raise ValueError(f"{text!r}: no number")
    return int(text, 16)


def numbers(text: bytes) -> tuple[int, int]:
    """Two hexadecimal numbers with a comma between them."""
    first, second = text.split(b",")
    return hexadecimal(first), hexadecimal(second)


def signed(text: bytes) -> int:
    """A number of a thread's id; -1 is all of them, 0 any."""
    return -1 if text == b"-1" else hexadecimal(text)


def thread_id(text: bytes) -> tuple[int, int]:
    """Process and thread of ``3``, ``p3.4``, ``p3`` or ``-1``; -1 is all, and what the text does not say."""
    if text[:1] != b"p":
        return -1, signed(text)
    process, dot, thread = text[1:].partition(b".")
    return signed(process), signed(thread) if dot else -1
