"""Plain data over a socket, a piece at a time: what faces, workers and checkpoints say to each other."""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("<I")
FAILED = "failed"
"""The first word of an answer that is an error: summary, detail and exit status follow."""


def send(channel: socket.socket, value: Any) -> None:
    """One piece of plain data."""
    data = pickle.dumps(value)
    channel.sendall(_LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket) -> Any:
    """The next piece.  Raises EOFError when the other side is gone."""
    size = _LENGTH.unpack(_bytes(channel, _LENGTH.size))[0]
    return pickle.loads(_bytes(channel, size))


def _bytes(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = channel.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return data
