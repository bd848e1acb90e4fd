"""Plain data over a socket, a piece at a time: what faces, workers and checkpoints say to each other.

Lines and most answers go by ``marshal``, which takes a tenth of ``pickle``'s time and knows plain types only; the rest
by ``pickle``, whose first byte marshal never writes (PEP 307).
"""

from __future__ import annotations

import marshal
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

from sandbox.debug.answer import Answer

_LENGTH = struct.Struct("<I")
_MOST = 1 << 16
_PICKLED = 0x80
_ANSWER = "\0answer"
"""The first word of an answer that went by marshal."""


class Plain(Protocol):
    """What can be told by plain types only."""

    def plain(self) -> tuple[Any, ...]: ...


_WORDS: dict[type[Plain], str] = {Answer: _ANSWER}
_MAKERS: dict[str, Callable[..., Any]] = {_ANSWER: Answer.of}


def goes_plainly(kind: type[Plain], made_by: Callable[..., Any]) -> None:
    """Answers of this class go by marshal, too: ``made_by(*answer.plain())`` is the answer again.

    For what comes often, and before there is a worker, which is this process's copy.
    """
    word = f"\0{kind.__name__}"
    _WORDS[kind], _MAKERS[word] = word, made_by


FAILED = "failed"
"""The first word of an answer that is an error: summary, detail and exit status follow."""


def send(channel: socket.socket, value: Any) -> None:
    """One piece of plain data."""
    data = _plain(value) or pickle.dumps(value)
    channel.sendall(_LENGTH.pack(len(data)) + data)


def _plain(value: Any) -> bytes | None:
    """A line, or (process, answer), where all of it is of plain types."""
    if type(value) is not tuple or len(value) != 2:
        return None
    first, second = value
    word = _WORDS.get(type(second))
    if word is not None:
        value = word, first, *second.plain()
    elif type(first) is not str or type(second) is not str:
        return None
    try:
        return marshal.dumps(value)
    except ValueError:  # something else is in the data
        return None


def _loaded(data: memoryview) -> Any:
    if data[0] == _PICKLED:
        return pickle.loads(data)
    value = marshal.loads(data)
    made_by = _MAKERS.get(value[0])
    return value if made_by is None else (value[1], made_by(*value[2:]))


def receive(channel: socket.socket) -> Any:
    """The next piece.  Raises EOFError when the other side is gone.

    Most are small and come at once.  Who asks waits for the answer: nothing comes behind a piece that is part of it.
    """
    data = _some(channel)
    while len(data) < _LENGTH.size:
        data += _some(channel)
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    if len(data) == end:
        return _loaded(memoryview(data)[_LENGTH.size :])
    pieces, got = [data], len(data)
    while got < end:
        pieces.append(_some(channel))
        got += len(pieces[-1])
    return _loaded(memoryview(b"".join(pieces))[_LENGTH.size :])


def _some(channel: socket.socket) -> bytes:
    data = channel.recv(_MOST)
    if not data:
        raise EOFError
    return data
