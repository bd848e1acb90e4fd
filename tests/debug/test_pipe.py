"""What goes over a debugger's pipe comes out as what it was, and the common pieces are small."""

from __future__ import annotations

import pickle
import socket
from typing import Any

import pytest

from sandbox.debug.answer import Answer
from sandbox.debug.gdb.picture import Picture
from sandbox.debug.gdb.processes import News
from sandbox.debug.gdb.threads import Halt
from sandbox.debug.pipe import receive, send
from sandbox.debug.stops import Moment, Stop, StopKind
from sandbox.x86.walk import Access

STOP = Stop(StopKind.CATCH, Moment(21217, 1, 0x80480B4, "fault 3"), 4, "page fault 3", (1, 2), {"write": 1, "to": None})
VALUES: list[Any] = [
    ("execute", "break main if $eax == 1 — ü"),
    (4711, Answer(["a line"], {"number": [1, 2.5, b"\0"]}, STOP, "error", False, True, True)),
    (4711, Answer()),
    (4711, Answer(data={"kind": StopKind.STEP, "access": Access(write=True)})),
    (4711, ("failed", "summary", "detail", 2)),
    (4711, STOP),
    (4711, Halt(STOP, 4)),
    (
        4711,
        Halt(STOP, 4, 1, 9, "begin", ("w", 64), 3, News("fork", 5, 0, "/x"), "ü", Picture(4, (b"a", b""), {0: b"b"})),
    ),
    ("call", len, "abc"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value[1]).__name__)
def test_it_comes_out_as_it_was(value: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, value)
        found = receive(theirs)
    assert found == value
    assert pickle.dumps(found) == pickle.dumps(value), "types too"


@pytest.mark.parametrize("value", [Answer(data={"number": 1}, stop=STOP), Halt(STOP, 4)], ids=["answer", "halt"])
def test_what_comes_behind_each_step_is_not_pickled(value: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, (4711, value))
        assert theirs.recv(1 << 16)[4] != pickle.dumps(value)[0]


def test_a_large_piece_comes_whole() -> None:
    value = 1, Answer([f"line {number}" for number in range(2000)])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, value)
        assert receive(theirs) == value
