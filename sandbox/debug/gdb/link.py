"""What the parts of the stub share: one gdb, the worker, and where the guest stands."""

from __future__ import annotations

from typing import Any

from sandbox.debug.gdb import threads
from sandbox.debug.gdb.packets import PacketStream
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

    def look(self) -> None:
        """The worker looks at the chosen thread; at the one that has stopped, when that is gone."""
        if not self.remote.call(threads.select, self.thread):
            self.thread = self.halt.thread
            self.remote.call(threads.select, self.thread)

    def at(self, halt: Halt) -> None:
        """The guest stands here."""
        self.halt, self.thread = halt, halt.thread


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
    """A thread's id; -1 is all of them, 0 any."""
    return -1 if text == b"-1" else hexadecimal(text)
