"""Plain data over a socket, a piece at a time: what faces, workers and checkpoints say to each other."""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("<I")
_MOST = 1 << 16
FAILED = "failed"
"""The first word of an answer that is an error: summary, detail and exit status follow."""


def send(channel: socket.socket, value: Any) -> None:
    """One piece of plain data."""
    data = pickle.dumps(value)
    channel.sendall(_LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket) -> Any:
    """The next piece.  Raises EOFError when the other side is gone.

    Most are small and come at once.  Who asks waits for the answer: nothing comes behind a piece that is part of it.
    """
    data = _some(channel)
    while len(data) < _LENGTH.size:
        data += _some(channel)
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    if len(data) == end:
        return pickle.loads(memoryview(data)[_LENGTH.size :])
    pieces, got = [data], len(data)
    while got < end:
        pieces.append(_some(channel))
        got += len(pieces[-1])
    return pickle.loads(memoryview(b"".join(pieces))[_LENGTH.size :])


def _some(channel: socket.socket) -> bytes:
    data = channel.recv(_MOST)
    if not data:
        raise EOFError
    return data
