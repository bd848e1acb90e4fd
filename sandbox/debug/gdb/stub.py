"""The stub: one gdb at a time, packet by packet; what they mean is asked of the worker.

Source: "GDB Remote Serial Protocol", gdb's manual, appendix E.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from sandbox.debug.gdb import access, modules, threads, tls, watchpoints
from sandbox.debug.gdb.files import HostFiles
from sandbox.debug.gdb.link import EMPTY, NONE, OK, Detached, Link, done, hexadecimal, numbers, thread_id, unhex
from sandbox.debug.gdb.objects import FEATURES, Objects
from sandbox.debug.gdb.packets import INTERRUPT, PACKET_SIZE, PacketStream, unescape
from sandbox.debug.gdb.replies import SIGKILL, over
from sandbox.debug.gdb.running import Running
from sandbox.debug.worker import Remote
from sandbox.records import replace

SUPPORTED = (
    b"PacketSize=%x;QStartNoAckMode+;swbreak+;hwbreak+;vContSupported+;ReverseStep+;ReverseContinue+;QCatchSyscalls+"
    b";QPassSignals+;QProgramSignals+;no-resumed+" % PACKET_SIZE + FEATURES
)

PROCESSES = b";multiprocess+;fork-events+;vfork-events+;exec-events+;QThreadEvents+"
NOBODY = -2


class Stub:
    """Answers one connection."""

    def __init__(self, remote: Remote, connection: socket.socket, processes: bool = False) -> None:
        """With ``processes`` the guest's processes are gdb's inferiors, if gdb knows of several."""
        self._remote, self._stream = remote, PacketStream(connection)
        halt = remote.call(threads.halted)
        if halt.ended:  # whoever comes now wants to look at it, and to go back
            halt = replace(halt, note=halt.stop.headline)
        self._link = link = Link(remote, self._stream, halt, halt.thread)
        self._has_processes = processes
        remote.call(access.forget_all)
        link.take_all()
        self._files, self._objects, self._running = HostFiles(remote), Objects(link), Running(link)
        runs = self._running
        self._handlers: dict[bytes, Callable[[bytes], bytes | None]] = {
            b"?": runs.why, b"g": self._read_registers, b"G": self._write_registers,
            b"p": self._read_register, b"P": self._write_register, b"m": self._read_memory, b"M": self._write_memory,
            b"X": self._write_binary, b"Z": lambda rest: self._point(rest, True),
            b"z": lambda rest: self._point(rest, False), b"H": self._choose, b"T": self._alive, b"b": runs.back,
            **{each: runs.single(each) for each in (b"c", b"C", b"s", b"S")}, b"k": lambda _: runs.kill(None),
            b"D": self._detach, b"R": runs.restart, b"!": self._extend, b"q": self._query, b"Q": self._set,
            b"v": self._verb,
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
        except (ValueError, IndexError, OverflowError, UnicodeError):
            return NONE

    # -- registers and memory ------------------------------------------------------------------------------------

    def _read_registers(self, _: bytes) -> bytes:
        self._link.look()
        return bytes(self._remote.call(access.registers).hex(), "ascii")

    def _write_registers(self, rest: bytes) -> bytes:
        return done(self._link.change(access.set_registers, unhex(rest)))

    def _read_register(self, rest: bytes) -> bytes:
        self._link.look()
        found = self._remote.call(access.register, hexadecimal(rest))
        return NONE if found is None else bytes(found.hex(), "ascii")

    def _write_register(self, rest: bytes) -> bytes:
        number, _, value = rest.partition(b"=")
        return done(self._link.change(access.set_register, hexadecimal(number), unhex(value)))

    def _read_memory(self, rest: bytes) -> bytes:
        address, size = numbers(rest)
        address, size = address & 0xFFFFFFFF, min(size, PACKET_SIZE // 2)
        self._link.look()
        picture = self._link.picture
        found = None if picture is None else picture.memory(address, size)
        if found is None:
            found = self._remote.call(access.memory, address, size)
        return bytes(found.hex(), "ascii") if found or not size else NONE

    def _write_memory(self, rest: bytes) -> bytes:
        place, _, data = rest.partition(b":")
        return self._store(place, unhex(data))

    def _write_binary(self, rest: bytes) -> bytes:
        place, _, data = rest.partition(b":")
        return self._store(place, unescape(data))

    def _store(self, place: bytes, data: bytes) -> bytes:
        address, size = numbers(place)
        if size != len(data):
            return NONE
        return OK if not data else done(self._link.change(access.set_memory, address & 0xFFFFFFFF, data))

    # -- points --------------------------------------------------------------------------------------------------

    def _point(self, rest: bytes, on: bool) -> bytes:
        kind, address, *width = rest.split(b";")[0].split(b",")
        if kind in watchpoints.WORDS:
            place, size = watchpoints.range_of(address, width[0])
            self._link.look()
            about = watchpoints.WORDS[kind], place, size, on, self._link.process
            return done(self._remote.call(watchpoints.set_watchpoint, *about))
        if kind not in (b"0", b"1"):
            return EMPTY
        self._remote.call(access.set_breakpoint, hexadecimal(address) & 0xFFFFFFFF, on, self._link.process)
        return OK

    # -- threads and the connection ------------------------------------------------------------------------------

    def _choose(self, rest: bytes) -> bytes:
        process, thread = thread_id(rest[1:])
        if rest[:1] == b"g" and process > 0 and thread < 1:
            thread = next((each for whose, each, _ in self._link.rows() if whose == process), NOBODY)
        if thread > 0 or thread == NOBODY:
            if not self._remote.call(threads.select, thread):
                return NONE
            self._link.thread = self._link.looked = thread
        return OK

    def _alive(self, rest: bytes) -> bytes:
        wanted = thread_id(rest)[1]
        return OK if any(each == wanted for _, each, _ in self._link.rows()) else NONE

    def _extend(self, _: bytes) -> bytes:
        self._link.extended = True
        return OK

    def _detach(self, rest: bytes) -> bytes:
        """``D``, of one process or all."""
        link, process = self._link, hexadecimal(rest[1:]) if rest[:1] == b";" else 0
        if link.by_process and process:
            ghost = over(SIGKILL, process)
            if ghost in link.later:
                link.later.remove(ghost)
                return OK
            if process not in link.attached:
                return NONE
            self._running.leave(process)
            if link.attached or link.extended:
                return OK
        self._stream.send(OK)
        raise Detached(False)

    # -- queries -------------------------------------------------------------------------------------------------

    def _query(self, rest: bytes) -> bytes:
        name, _, argument = rest.partition(b":")
        if name == b"Supported":
            return self._supported(argument.split(b";"))
        if rest == b"C":
            return b"QC" + self._link.name(self._link.thread)
        if rest == b"fThreadInfo":
            named = b",".join(self._link.name(each, process) for process, each, _ in self._link.rows())
            return b"m" + named if named else b"l"
        if rest == b"sThreadInfo":
            return b"l"
        if rest.startswith(b"ThreadExtraInfo,"):
            wanted = thread_id(rest.split(b",")[1])[1]
            told = next((about for _, each, about in self._link.rows() if each == wanted), "")
            return bytes(told.encode().hex(), "ascii")
        if rest.startswith(b"Rcmd,"):
            return self._monitor(unhex(rest[5:]).decode())
        if name == b"GetTLSAddr":
            return self._thread_local(argument.split(b","))
        if name == b"Attached":
            return b"1" if self._objects.program else b"0"  # attached, gdb insists on a program's file
        if name == b"Symbol":
            return OK
        if rest.startswith(b"Xfer:"):
            return self._objects.transfer(argument)
        return EMPTY

    def _thread_local(self, words: list[bytes]) -> bytes:
        """Where a variable of a thread is: its id, the place in its module, and the module's ``link_map``."""
        thread, offset, link_map = thread_id(words[0])[1], hexadecimal(words[1]), hexadecimal(words[2])
        found = self._link.change(tls.thread_local, thread, offset, link_map)
        return NONE if found is None else b"%x" % found

    def _supported(self, theirs: list[bytes]) -> bytes:
        """What we can; processes are gdb's own only where it has asked for them."""
        by_process = self._has_processes and bool(self._objects.program) and b"multiprocess+" in theirs
        if by_process != self._link.by_process:
            self._link.by_process = by_process
            self._link.take_all()
        more = b";qXfer:exec-file:read+" if self._objects.program else b""
        return SUPPORTED + more + (PROCESSES if by_process else b"")

    def _monitor(self, line: str) -> bytes:
        """``monitor COMMAND``: any command of the debugger that lets nothing run."""
        line = line.strip() or "help"
        if line == "add-symbols":
            text = "".join(f"{each.command()}\n" for each in self._remote.call(modules.objects))
        else:
            answer = self._link.change(access.monitor, line)
            text = "".join(f"{each}\n" for each in answer.lines) + (f"error: {answer.error}\n" if answer.error else "")
        data = (text or "\n").encode()
        for at in range(0, len(data), PACKET_SIZE // 4):
            self._stream.send(b"O" + bytes(data[at : at + PACKET_SIZE // 4].hex(), "ascii"))
        return OK

    def _set(self, rest: bytes) -> bytes:
        name, _, argument = rest.partition(b":")
        if name == b"StartNoAckMode":
            self._stream.acknowledged = False
            return OK
        if name == b"CatchSyscalls":
            wanted = [hexadecimal(each) for each in argument.split(b";")[1:]] if argument[:1] == b"1" else None
            self._link.calls = wanted
            self._remote.call(access.catch_calls, wanted, self._link.processes)
            return OK
        if name == b"ThreadEvents" and self._link.by_process:
            self._link.new_threads = argument == b"1"
            return OK
        if name == b"PassSignals":
            return self._running.pass_signals(argument)
        if name == b"ProgramSignals":
            return self._running.program_signals(argument)
        return EMPTY

    # -- v packets -----------------------------------------------------------------------------------------------

    def _verb(self, rest: bytes) -> bytes | None:
        if rest == b"Cont?":
            return b"vCont;c;C;s;S;r"
        name, sign, argument = rest.partition(b";")
        if name == b"Cont" and sign:
            return self._running.cont(argument)
        if name == b"Run" and self._link.extended:
            return self._running.started(argument)
        if name == b"Kill":
            return self._running.kill(OK, hexadecimal(argument) if self._link.by_process else 0)
        if name == b"Attach" and self._link.by_process:
            return self._running.attach(hexadecimal(argument))
        if rest.startswith(b"File:"):
            return self._files.answer(rest[5:])
        return EMPTY
