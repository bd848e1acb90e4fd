"""What gdb reads and writes piece by piece: ``qXfer`` (gdb's manual, "General Query Packets")."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.debug.gdb import access, modules, processes, resume
from sandbox.debug.gdb.link import EMPTY, NONE, Link, hexadecimal, numbers
from sandbox.debug.gdb.packets import PACKET_SIZE, escape, unescape

FEATURES = b"".join(
    b";qXfer:%s:read+" % each for each in (b"features", b"threads", b"auxv", b"siginfo", b"libraries")
) + b";qXfer:siginfo:write+"  # fmt: skip


class Objects:
    """The objects of one connection."""

    def __init__(self, link: Link) -> None:
        self._link, self._annex = link, b""
        self._made: dict[bytes, Callable[[], bytes | None]] = {
            b"features": lambda: str(link.remote.call(access.description)).encode(),
            b"exec-file": lambda: self._program_of() or None, b"auxv": self._auxv, b"threads": self._threads,
            b"libraries": lambda: str(link.remote.call(modules.library_list)).encode(), b"siginfo": self._siginfo,
        }  # fmt: skip

    @property
    def program(self) -> bytes:
        """The program's path in the guest's tree, empty where there is none."""
        return str(self._link.remote.call(access.program_path)).encode()

    def _program_of(self) -> bytes:
        """That of the process which gdb names."""
        if not self._annex:
            return self.program
        return str(self._link.remote.call(processes.program_of, hexadecimal(self._annex))).encode() or self.program

    def transfer(self, argument: bytes) -> bytes:
        """One ``qXfer`` packet.  Raises ValueError for what is none."""
        what, verb, annex, span = argument.split(b":", 3)
        if verb == b"write" and what == b"siginfo":
            return self._set_siginfo(span)
        made = self._made.get(what)
        self._annex = annex
        if verb != b"read" or made is None or (what == b"features" and annex != b"target.xml"):
            return EMPTY
        offset, length = numbers(span)
        data = made()
        if data is None:
            return NONE
        piece = data[offset : offset + min(length, PACKET_SIZE // 2)]
        return (b"m" if offset + len(piece) < len(data) else b"l") + escape(piece)

    def _set_siginfo(self, span: bytes) -> bytes:
        offset, _, data = span.partition(b":")
        data = unescape(data)
        answer = self._link.change(resume.set_siginfo, data, hexadecimal(offset))
        return NONE if answer.error else b"%x" % len(data)

    def _siginfo(self) -> bytes | None:
        found: bytes | None = self._link.remote.call(resume.siginfo)
        return found

    def _auxv(self) -> bytes:
        self._link.look()
        return bytes(self._link.remote.call(access.auxv))

    def _threads(self) -> bytes:
        link = self._link
        rows = "".join(
            f'<thread id="{link.name(thread, process).decode()}">{about}</thread>'
            for process, thread, about in link.rows()
        )
        return f'<?xml version="1.0"?><threads>{rows}</threads>'.encode()
