"""Packets of gdb's remote protocol on a byte stream: ``$data#checksum``, acknowledged until that is switched off.

Source: "GDB Remote Serial Protocol" in gdb's manual, appendix E.
"""

from __future__ import annotations

import socket

PACKET_SIZE = 0x4000
"""Bytes of a packet's data, both ways."""
INTERRUPT = b"\x03"
_ESCAPED = b"$#}*"


def checksum(data: bytes) -> bytes:
    """Two hexadecimal digits: the sum of the bytes modulo 256."""
    return b"%02x" % (sum(data) & 0xFF)


def escape(data: bytes) -> bytes:
    """Binary data as it goes into a packet."""
    return b"".join(b"}" + bytes((each ^ 0x20,)) if each in _ESCAPED else bytes((each,)) for each in data)


def unescape(data: bytes) -> bytes:
    """Binary data as it was."""
    found, at = bytearray(), 0
    while at < len(data):
        if data[at] == 0x7D and at + 1 < len(data):
            found.append(data[at + 1] ^ 0x20)
            at += 2
        else:
            found.append(data[at])
            at += 1
    return bytes(found)


class PacketStream:
    """The other side is gdb.  ``receive`` gives the data of one packet, or INTERRUPT; EOFError when gdb is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._data = bytearray()
        self.acknowledged = True
        """Each packet is answered by a plus sign."""

    def fileno(self) -> int:
        """For select."""
        return self._connection.fileno()

    def receive(self) -> bytes:
        """The next packet with a right checksum; what is none is skipped."""
        while True:
            packet = self._cut()
            if packet is not None:
                return packet
            self._receive_more()

    def _receive_more(self) -> None:
        piece = self._connection.recv(1 << 16)
        if not piece:
            raise EOFError
        self._data += piece

    def interrupts(self, more: bool) -> bool:
        """While the guest runs gdb sends one thing only: whether it has come; with ``more`` something can be read."""
        if more:
            self._receive_more()
        found = self._data.find(INTERRUPT)
        if found >= 0:
            del self._data[: found + 1]
        return found >= 0

    def _cut(self) -> bytes | None:
        """One packet off what has come, None when it is not there as a whole."""
        while self._data:
            first = self._data[0]
            if first == INTERRUPT[0]:
                del self._data[0]
                return INTERRUPT
            if first != ord("$"):
                del self._data[0]
                continue
            end = self._data.find(b"#")
            if end < 0:
                if len(self._data) > 4 * PACKET_SIZE:
                    del self._data[0]
                    continue
                return None
            if len(self._data) < end + 3:
                return None
            data, wanted = bytes(self._data[1:end]), bytes(self._data[end + 1 : end + 3]).lower()
            del self._data[: end + 3]
            if checksum(data) == wanted:
                self._acknowledge(b"+")
                return data
            self._acknowledge(b"-")
        return None

    def _acknowledge(self, sign: bytes) -> None:
        if self.acknowledged:
            self._connection.sendall(sign)

    def send(self, data: bytes) -> None:
        """One packet."""
        self._connection.sendall(b"$" + data + b"#" + checksum(data))
