"""A gdb that sends anything: packets to a stub whose worker is this very process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from sandbox.debug.debugger import Answer, Debugger
from sandbox.debug.gdb.link import Detached
from sandbox.debug.gdb.packets import checksum
from sandbox.debug.gdb.stub import Stub
from sandbox.debug.open import open_target
from sandbox.runner.target import resolve

BLOCKS, SECONDS = 20_000, 1.0
ELSEWHERE = (b"R", b"b", b"vRun", b"vKill")
"""What needs checkpoints, which are other processes."""
WORDS = (
    b"qSupported:multiprocess+;fork-events+", b"QStartNoAckMode", b"?", b"qXfer:features:read:target.xml:0,ffff",
    b"qXfer:siginfo:read::0,80", b"qXfer:auxv:read::0,100", b"qXfer:exec-file:read::0,100", b"qfThreadInfo",
    b"qsThreadInfo", b"qThreadExtraInfo,3", b"g", b"p8", b"P0=78563412", b"m804a000,4", b"M804a000,2:1122",
    b"X804a000,2:}]!", b"Z0,8048137,1", b"Z2,804a000,4", b"z2,804a000,4", b"Hg3", b"Hcp3.3", b"T3", b"vCont?",
    b"vCont;s:3;c", b"vCont;r8048100,8048110:3", b"s", b"C0b", b"qRcmd,726567730a", b"qOffsets", b"qC", b"qSymbol::",
    b"vFile:setfs:0", b"vFile:open:6362,0,0", b"vFile:pread:3,10,0", b"vFile:close:3", b"QPassSignals:e;10",
    b"QProgramSignals:0;1", b"QCatchSyscalls:1;4", b"QThreadEvents:1", b"vAttach;4", b"D", b"c",
)  # fmt: skip


def framed(packets: tuple[bytes, ...]) -> bytes:
    """As they come over the connection, an interrupt and a few acknowledgements between."""
    return b"+".join(b"$" + each + b"#" + checksum(each) for each in packets) + b"\x03-"


GOOD = b"\n".join(WORDS)


class Here:
    """What the stub asks of a worker, done at once (``sandbox.debug.worker.Remote``)."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger, self._answer = debugger, None
        self.pid = 0

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self._debugger, *arguments)

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._answer = self.call(function, *arguments)

    def answer(self) -> Any:
        return self._answer

    def answered(self, other: object) -> bool:
        return True

    def interrupt(self) -> None:
        pass

    def execute(self, line: str) -> Answer:
        return self._debugger.execute(line)


@contextmanager
def _stub() -> Iterator[tuple[Stub, socket.socket]]:
    target = resolve("images/cow-fork")
    config = target.config(ram=8 << 20, block_limit=BLOCKS, time_limit=SECONDS)
    ours, theirs = socket.socketpair()
    with closing(open_target(target, config)) as opened, ours, theirs:
        debugger = Debugger(opened)
        debugger.begin()
        yield Stub(Here(debugger), ours, True), theirs  # type: ignore[arg-type]


def answered(data: bytes) -> None:
    """Each line is a packet; each has an answer, none or some bytes.  All of them then come once more, as a stream."""
    packets = tuple(each for each in data.split(b"\n") if not each.startswith(ELSEWHERE))
    with _stub() as (stub, theirs), suppress(Detached):
        theirs.setblocking(False)
        for packet in packets:
            reply = stub.answer(packet)
            assert reply is None or isinstance(reply, bytes)
            with suppress(BlockingIOError):
                while theirs.recv(1 << 16):
                    pass
    with _stub() as (stub, theirs):
        theirs.sendall(framed(packets)[: 1 << 16] + data[:4096])
        theirs.shutdown(socket.SHUT_WR)
        _drained(stub, theirs)


def _drained(stub: Stub, theirs: socket.socket) -> None:
    """Served to the end, with somebody who reads the answers."""
    import threading

    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: theirs.recv(1 << 16), b"")], daemon=True)
    reader.start()
    stub.serve()
    stub._stream._connection.close()
    reader.join(10)
