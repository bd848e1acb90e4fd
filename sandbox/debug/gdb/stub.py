"""The stub: one gdb at a time, packet by packet; what they mean is asked of the worker.

Source: "GDB Remote Serial Protocol", gdb's manual, appendix E.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from sandbox.debug.gdb import access
from sandbox.debug.gdb.access import Halt
from sandbox.debug.gdb.packets import INTERRUPT, PACKET_SIZE, PacketStream, escape, unescape
from sandbox.debug.stops import StopKind
from sandbox.debug.worker import Remote

FEATURES = (
    b"PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;qXfer:auxv:read+;"
    b"swbreak+;hwbreak+;vContSupported+;ReverseStep+;ReverseContinue+;QCatchSyscalls+;QPassSignals+" % PACKET_SIZE
)
GDB_SIGNALS = {
    7: 10, 10: 30, 12: 31, 17: 20, 18: 19, 19: 17, 20: 18, 23: 16, 26: 26, 27: 27, 29: 23, 30: 32, 31: 12,
}  # fmt: skip
"""Linux's numbers as gdb's, where they differ (include/gdb/signals.def)."""
SIGTRAP, SIGINT = 5, 2
OK, EMPTY, NONE = b"OK", b"", b"E01"


class Detached(Exception):
    """gdb has left; ``ended`` when the guest is to end too."""

    def __init__(self, ended: bool) -> None:
        super().__init__()
        self.ended = ended


class Stub:
    """Answers one connection."""

    def __init__(self, remote: Remote, connection: socket.socket) -> None:
        self._remote, self._stream = remote, PacketStream(connection)
        self._halt: Halt = remote.call(access.halted)
        self._thread = self._halt.thread
        self._passed: set[int] = set()
        self._files: dict[int, bytes] = {}
        self._handlers: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"?": lambda _: self._told(self._halt), b"g": self._read_registers, b"G": self._write_registers,
            b"p": self._read_register, b"P": self._write_register, b"m": self._read_memory, b"M": self._write_memory,
            b"X": self._write_binary, b"Z": lambda rest: self._point(rest, True),
            b"z": lambda rest: self._point(rest, False), b"H": self._choose, b"T": self._alive, b"c": self._continue,
            b"C": self._continue, b"s": self._step, b"S": self._step, b"b": self._back, b"k": self._kill,
            b"D": self._detach, b"R": self._restart, b"!": lambda _: OK, b"q": self._query,
            b"Q": self._set, b"v": self._verb,
        }  # fmt: skip

    def serve(self) -> bool:
        """Until gdb leaves: True when the guest shall end with it."""
        try:
            while True:
                packet = self._stream.receive()
                if packet == INTERRUPT:
                    continue
                reply = self.answer(packet)
                if reply is not None:
                    self._stream.send(reply)
        except Detached as left:
            return left.ended
        except (EOFError, ConnectionError):
            return False

    def answer(self, packet: bytes) -> bytes | None:
        """The reply to one packet; an empty one to what is not known, an error to what cannot be."""
        handler = self._handlers.get(packet[:1])
        if handler is None:
            return EMPTY
        try:
            return handler(packet[1:])
        except (ValueError, IndexError, OverflowError, UnicodeDecodeError):
            return NONE

    # -- registers and memory ------------------------------------------------------------------------------------

    def _look(self) -> None:
        if not self._remote.call(access.select, self._thread):
            self._thread = self._halt.thread
            self._remote.call(access.select, self._thread)

    def _read_registers(self, _: bytes) -> bytes:
        self._look()
        return bytes(self._remote.call(access.registers).hex(), "ascii")

    def _write_registers(self, rest: bytes) -> bytes:
        self._look()
        return self._done(self._remote.call(access.set_registers, _unhex(rest)))

    def _read_register(self, rest: bytes) -> bytes:
        self._look()
        found = self._remote.call(access.register, int(rest, 16))
        return NONE if found is None else bytes(found.hex(), "ascii")

    def _write_register(self, rest: bytes) -> bytes:
        number, _, value = rest.partition(b"=")
        self._look()
        return self._done(self._remote.call(access.set_register, int(number, 16), _unhex(value)))

    def _read_memory(self, rest: bytes) -> bytes:
        address, size = _numbers(rest)
        self._look()
        found = self._remote.call(access.memory, address & 0xFFFFFFFF, min(size, PACKET_SIZE // 2))
        return bytes(found.hex(), "ascii") if found or not size else NONE

    def _write_memory(self, rest: bytes) -> bytes:
        place, _, data = rest.partition(b":")
        return self._store(place, _unhex(data))

    def _write_binary(self, rest: bytes) -> bytes:
        place, _, data = rest.partition(b":")
        return self._store(place, unescape(data))

    def _store(self, place: bytes, data: bytes) -> bytes:
        address, size = _numbers(place)
        if size != len(data):
            return NONE
        self._look()
        return OK if not data else self._done(self._remote.call(access.set_memory, address & 0xFFFFFFFF, data))

    @staticmethod
    def _done(answer: Any) -> bytes:
        return NONE if answer.error else OK

    # -- points --------------------------------------------------------------------------------------------------

    def _point(self, rest: bytes, on: bool) -> bytes:
        kind, address, *_ = rest.split(b";")[0].split(b",")
        if kind not in (b"0", b"1"):
            return EMPTY
        self._remote.call(access.set_breakpoint, int(address, 16) & 0xFFFFFFFF, on)
        return OK

    # -- running -------------------------------------------------------------------------------------------------

    def _continue(self, rest: bytes) -> bytes:
        return self._run(access.go_on, None)

    def _step(self, rest: bytes) -> bytes:
        return self._run(access.go_on, self._thread)

    def _back(self, rest: bytes) -> bytes:
        if rest not in (b"s", b"c"):
            return EMPTY
        return self._run(access.go_back, rest == b"s")

    def _restart(self, rest: bytes) -> None:
        self._halt = self._remote.call(access.restart)

    def _run(self, function: Callable[..., Halt], *arguments: Any) -> bytes:
        """Let the guest run, until it stops or gdb interrupts it; signals that gdb passes are no stop."""
        if access.is_at_end(self._halt) and function is access.go_on:
            return self._told(self._halt)
        while True:
            self._remote.begin(function, *arguments)
            while not self._remote.answered(self._stream):
                if self._stream.receive() == INTERRUPT:
                    os.kill(self._remote.pid, signal.SIGINT)
            self._halt = self._remote.answer()
            self._thread = self._halt.thread
            if self._halt.stop.details.get("event") != "signal" or self._signal() not in self._passed:
                return self._told(self._halt)

    def _signal(self) -> int:
        number = int(self._halt.stop.details.get("signal", SIGTRAP))
        return GDB_SIGNALS.get(number, number)

    def _told(self, halt: Halt) -> bytes:
        """A stop reply."""
        stop = halt.stop
        if stop.kind is StopKind.END:
            return (
                b"X%02x" % GDB_SIGNALS.get(halt.signal, halt.signal) if halt.signal else b"W%02x" % (halt.status & 0xFF)
            )
        event, number, more = stop.details.get("event", ""), SIGTRAP, b""
        if event == "signal":
            number = self._signal()
        elif event in ("syscall", "sysret"):
            more = b"syscall_%s:%x;" % (b"entry" if event == "syscall" else b"return", stop.details["number"])
        elif stop.kind is StopKind.INTERRUPT:
            number = SIGINT
        elif stop.kind is StopKind.BREAKPOINT:
            more = b"swbreak:;"
        if halt.replay_end or stop.headline == "the beginning":
            more = b"replaylog:begin;"
        return b"T%02x%sthread:%x;" % (number, more, halt.thread)

    def _kill(self, rest: bytes) -> bytes:
        raise Detached(True)

    def _detach(self, rest: bytes) -> bytes:
        self._stream.send(OK)
        raise Detached(False)

    # -- threads -------------------------------------------------------------------------------------------------

    def _choose(self, rest: bytes) -> bytes:
        thread = _signed(rest[1:])
        if thread > 0:
            if not self._remote.call(access.select, thread):
                return NONE
            self._thread = thread
        return OK

    def _alive(self, rest: bytes) -> bytes:
        wanted = int(rest, 16)
        return OK if any(each == wanted for each, _ in self._remote.call(access.threads)) else NONE

    # -- queries -------------------------------------------------------------------------------------------------

    def _query(self, rest: bytes) -> bytes:
        name, _, argument = rest.partition(b":")
        if name == b"Supported":
            return FEATURES + (b";qXfer:exec-file:read+" if self._object(b"exec-file", b"") else b"")
        if rest == b"C":
            return b"QC%x" % self._thread
        if rest == b"fThreadInfo":
            return b"m" + b",".join(b"%x" % each for each, _ in self._remote.call(access.threads))
        if rest == b"sThreadInfo":
            return b"l"
        if rest.startswith(b"ThreadExtraInfo,"):
            wanted = int(rest.split(b",")[1], 16)
            told = dict(self._remote.call(access.threads)).get(wanted, "")
            return bytes(told.encode().hex(), "ascii")
        if rest.startswith(b"Rcmd,"):
            return self._monitor(_unhex(rest[5:]).decode())
        if name == b"Attached":
            return b"1" if self._object(b"exec-file", b"") else b"0"  # attached, gdb insists on a program's file
        if name == b"Symbol":
            return OK
        if rest.startswith(b"Xfer:"):
            return self._transfer(argument)
        return EMPTY

    def _monitor(self, line: str) -> bytes:
        """``monitor COMMAND``: any command of the debugger that lets nothing run."""
        word = line.split()[0] if line.split() else "help"
        if word in RUNNING:
            text = f"{word}: use gdb's own command\n"
        else:
            self._look()
            answer = self._remote.execute(line)
            text = "".join(f"{each}\n" for each in answer.lines) + (f"error: {answer.error}\n" if answer.error else "")
        data = (text or "\n").encode()
        for at in range(0, len(data), PACKET_SIZE // 4):
            self._stream.send(b"O" + bytes(data[at : at + PACKET_SIZE // 4].hex(), "ascii"))
        return OK

    def _transfer(self, argument: bytes) -> bytes:
        what, verb, annex, span = argument.split(b":", 3)
        if verb != b"read":
            return EMPTY
        offset, length = _numbers(span)
        data = self._object(what, annex)
        if data is None:
            return EMPTY
        piece = data[offset : offset + min(length, PACKET_SIZE // 2)]
        return (b"m" if offset + len(piece) < len(data) else b"l") + escape(piece)

    def _object(self, what: bytes, annex: bytes) -> bytes | None:
        if what == b"features" and annex == b"target.xml":
            return str(self._remote.call(access.description)).encode()
        if what == b"exec-file":
            return str(self._remote.call(access.program_path)).encode() or None
        if what == b"auxv":
            return bytes(self._remote.call(access.auxv))
        if what == b"threads":
            rows = "".join(
                f'<thread id="{each:x}">{about}</thread>' for each, about in self._remote.call(access.threads)
            )
            return f'<?xml version="1.0"?><threads>{rows}</threads>'.encode()
        return None

    def _set(self, rest: bytes) -> bytes:
        name, _, argument = rest.partition(b":")
        if name == b"StartNoAckMode":
            self._stream.acknowledged = False
            return OK
        if name == b"CatchSyscalls":
            numbers = [int(each, 16) for each in argument.split(b";")[1:]] if argument[:1] == b"1" else None
            self._remote.call(access.catch_calls, numbers)
            return OK
        if name == b"PassSignals":
            self._passed = {int(each, 16) for each in argument.split(b";") if each}
            return OK
        return EMPTY

    # -- v packets -----------------------------------------------------------------------------------------------

    def _verb(self, rest: bytes) -> bytes | None:
        if rest == b"Cont?":
            return b"vCont;c;C;s;S"
        if rest.startswith(b"Cont;"):
            return self._actions(rest[5:])
        if rest.startswith(b"File:"):
            return self._file(rest[5:])
        if rest.startswith(b"Kill"):
            self._stream.send(OK)
            raise Detached(True)
        return EMPTY

    def _actions(self, rest: bytes) -> bytes:
        """The first step decides; all else goes on with it."""
        for action in rest.split(b";"):
            what, _, thread = action.partition(b":")
            if what[:1] in (b"s", b"S"):
                chosen = _signed(thread) if thread else self._thread
                return self._run(access.go_on, chosen if chosen > 0 else self._thread)
        return self._run(access.go_on, None)

    def _file(self, rest: bytes) -> bytes:
        """The host I/O of gdb, for reading the guest's files; answers are ``F``, a number, and data."""
        name, _, argument = rest.partition(b":")
        if name == b"setfs":
            return b"F0"
        words = argument.split(b",")
        if name == b"open":
            data = self._remote.call(access.file_bytes, _unhex(words[0]).decode())
            if data is None or int(words[1], 16) & 3:
                return b"F-1,2"
            number = max(self._files, default=2) + 1
            self._files[number] = bytes(data)
            return b"F%x" % number
        data = self._files.get(int(words[0], 16)) if words[0] else None
        if data is None:
            return b"F-1,9"
        if name == b"pread":
            size, offset = int(words[1], 16), int(words[2], 16)
            piece = data[offset : offset + min(size, PACKET_SIZE // 3)]
            return b"F%x;" % len(piece) + escape(piece)
        if name == b"close":
            del self._files[int(words[0], 16)]
            return b"F0"
        if name == b"fstat":
            return b"F40;" + escape(_stat(len(data)))
        return EMPTY


RUNNING = (
    "step", "into", "next", "finish", "until", "continue", "run", "goto", "reverse-step", "reverse-next",
    "reverse-continue", "reverse-finish", "quit", "s", "n", "c", "q",
)  # fmt: skip


def _unhex(text: bytes) -> bytes:
    return bytes.fromhex(text.decode("ascii"))


def _numbers(text: bytes) -> tuple[int, int]:
    first, second = text.split(b",")
    return int(first, 16), int(second, 16)


def _signed(text: bytes) -> int:
    return -1 if text == b"-1" else int(text, 16)


def _stat(size: int) -> bytes:
    """``struct stat`` of gdb's File-I/O: big-endian, 64 bytes."""
    fields = ((0, 4), (0, 4), (0o100555, 4), (1, 4), (0, 4), (0, 4), (0, 4), (size, 8), (4096, 8), (size // 512, 8))
    return b"".join(value.to_bytes(width, "big") for value, width in fields) + bytes(12)
