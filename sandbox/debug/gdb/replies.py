"""Stop replies: what gdb is told of where the guest stands (gdb's manual, "Stop Reply Packets")."""

from __future__ import annotations

from sandbox.debug.gdb import processes, watchpoints
from sandbox.debug.gdb.link import Link
from sandbox.debug.gdb.processes import News
from sandbox.debug.gdb.signals import SIGINT, SIGTRAP, to_gdb
from sandbox.debug.gdb.threads import Halt
from sandbox.debug.stops import HELD, StopKind
from sandbox.records import replace

SIGKILL = 9


def stop_reply(halt: Halt, link: Link) -> bytes:
    """``T``, ``W`` or ``X``."""
    stop = halt.stop
    if stop.kind is StopKind.END and not link.stands:
        return b"X%02x" % to_gdb(halt.signal) if halt.signal else b"W%02x" % (halt.status & 0xFF)
    if halt.event == HELD and not stop.details["asleep"]:
        return b"N"
    number, more = SIGTRAP, b""
    if halt.event == "signal":
        number = to_gdb(stop.details["signal"])
    elif halt.event in ("syscall", "sysret"):
        more = b"syscall_%s:%x;" % (b"entry" if halt.event == "syscall" else b"return", stop.details["number"])
    elif halt.event == HELD:
        number = 0
    elif stop.kind is StopKind.INTERRUPT:
        number = SIGINT
    elif stop.kind is StopKind.BREAKPOINT:
        more = b"swbreak:;"
    elif halt.watch is not None:
        more = watchpoints.told(halt.watch)
    if halt.replay_end:
        more = b"replaylog:begin;"
    if link.picture is not None:
        more += link.picture.expedited()
    return b"T%02x%sthread:%s;" % (number, more, link.name(link.thread, halt.process or None))


def over(status: int, process: int) -> bytes:
    """``W`` or ``X`` of one process, by its wait(2) word."""
    signal = status & 0x7F
    return (b"X%02x" % to_gdb(signal) if signal else b"W%02x" % (status >> 8 & 0xFF)) + b";process:%x" % process


class Events:
    """What happens to the processes of one gdb."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def passes(self, halt: Halt) -> bool:
        """An event of which gdb is not told: of a thread, unless it asks for them, or the end of the last process."""
        link, news = self._link, halt.news
        assert news is not None
        if news.what in ("create", "over"):
            return not link.new_threads or halt.process not in link.attached
        if halt.process not in link.attached:
            return not self._lent(halt.process)
        last = news.what == "exit" and link.attached == {halt.process}
        return last and halt.process == link.remote.call(processes.first_program)

    def _lent(self, child: int) -> bool:
        """It has its parent's memory, and the parent is gdb's."""
        return child in self._link.vforks and self._link.vforks[child][0] in self._link.attached

    def reply(self, halt: Halt) -> bytes:
        """To a stop that is told."""
        if halt.ended and not self._link.stands:
            return self._end(halt)
        if halt.news is None:
            return stop_reply(halt, self._link)
        return getattr(self, f"_{halt.news.what}")(halt, halt.news)  # type: ignore[no-any-return]

    def unborn(self) -> None:
        """Who does not exist any more behind a step back, which gdb learns when it lets the guest go on."""
        link = self._link
        gone = link.attached - {*link.remote.call(processes.processes).values()}
        link.attached -= gone
        link.vforks = {child: parent for child, parent in link.vforks.items() if child not in gone}
        self.gone(gone)

    def gone(self, processes: set[int]) -> None:
        """gdb still has these, which are no more."""
        self._link.later += [over(SIGKILL, each) for each in sorted(processes)]

    def _end(self, halt: Halt) -> bytes:
        """The machine is at its end: the first program's, and whoever was left is gone with it."""
        link, first = self._link, self._link.remote.call(processes.first_program)
        rest = sorted(link.attached - {first})
        replies = [over(SIGKILL, each) for each in rest]
        if first in link.attached or not rest:
            replies.insert(0, over(halt.status << 8 | halt.signal, first))
        link.attached.clear()
        link.later += replies[1:]
        return replies[0]

    def _about(self, halt: Halt, what: bytes) -> bytes:
        return b"T%02x%sthread:%s;" % (SIGTRAP, what, self._link.name(halt.thread, halt.process))

    def _fork(self, halt: Halt, news: News) -> bytes:
        """Of a child that has the memory of its parent, too; gdb has it as well, and says whether it wants to."""
        link, child = self._link, news.task
        link.attached.add(child)
        link.remote.call(processes.inherit, halt.process, child)
        link.focus()
        return self._about(halt, b"%s:p%x.%x;" % (news.what.encode(), child, child))

    def _vfork(self, halt: Halt, news: News) -> bytes:
        self._link.vforks[news.task] = halt.process, halt.thread
        return self._fork(halt, news)

    def _create(self, halt: Halt, news: News) -> bytes:
        new = replace(halt, thread=news.task)
        return self._about(new, b"create:;")

    def _over(self, halt: Halt, news: News) -> bytes:
        return b"w%02x;%s" % (news.status >> 8 & 0xFF, self._link.name(halt.thread, halt.process))

    def _exec(self, halt: Halt, news: News) -> bytes:
        done = self._parent_goes_on(halt.process)
        if halt.process not in self._link.attached:
            return done
        self._link.later += [done] if done else []
        return self._about(halt, b"exec:%s;" % news.path.encode().hex().encode())

    def _exit(self, halt: Halt, news: News) -> bytes:
        link, done = self._link, self._parent_goes_on(halt.process)
        if halt.process not in link.attached:
            return done
        link.later += [done] if done else []
        link.attached.discard(halt.process)
        link.remote.call(processes.forget, halt.process)
        link.focus()
        return over(news.status, halt.process)

    def _parent_goes_on(self, child: int) -> bytes:
        """``vforkdone`` of the parent that has its memory for itself again, where gdb has it."""
        process, thread = self._link.vforks.pop(child, (0, 0))
        if process not in self._link.attached:
            return b""
        return b"T%02xvforkdone:;thread:%s;" % (SIGTRAP, self._link.name(thread, process))
