"""gdb's remote protocol: real gdb on programs, modules and ROMs, and packets that nobody would send."""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sandbox.debug.gdb.packets import PacketStream, checksum, escape, unescape
from sandbox.debug.gdb.stub import Stub
from tests.debug.test_travel import remote
from tests.patience import PATIENCE, running

ROOT = Path(__file__).resolve().parents[2]
needs_gdb = pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")


@contextmanager
def serving(*words: str, once: bool = True) -> Iterator[str]:
    """``sandbox gdb`` on a port of its own; its address."""
    command = [sys.executable, "-m", "sandbox", "gdb", *words, "--port", "0", *(["--once"] if once else [])]
    with running(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("gdb: target remote "):
                yield line.split()[-1]
                break
        process.stdout.read()
        process.wait(PATIENCE)


def gdb(where: str, *commands: str, mode: str = "remote") -> str:
    """What gdb prints for these commands."""
    words = ["set architecture i386", "set pagination off", "set confirm off", f"target {mode} {where}", *commands]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *(word for each in words for word in ("-ex", each))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@needs_gdb
def test_a_program() -> None:
    with serving("images/cow-fork") as where:
        told = gdb(
            where, "stepi", "info registers eip", "break child", "continue", "info threads", "x/1xw 0x804a000",
            "reverse-stepi", "info registers eip", "reverse-continue", "monitor when", "continue", "continue",
        )  # fmt: skip
    assert re.findall(r"eip +0x(\w+)", told)[0] == "80480be"
    assert "Breakpoint 1, 0x08048137 in child ()" in told
    assert "0x804a000:\t0x00000007" in told
    assert "No more reverse-execution history" in told
    assert re.search(r"21217:080480b4", told), "monitor says the moment of the beginning"
    assert "exited normally" in told


@needs_gdb
def test_registers_and_memory_are_set() -> None:
    with serving("images/cow-fork") as where:
        told = gdb(
            where, "set $ebx = 0x1234", "print/x $ebx", "stepi", "set {int}0x804a000 = 0x55aa", "x/1xw 0x804a000",
            "print $st0", "print $mxcsr", "print $xmm0.v4_int32", "info registers cr0 cr3", "kill",
        )  # fmt: skip
    assert "= 0x1234" in told
    assert "0x804a000:\t0x000055aa" in told
    assert "[ IM DM ZM OM UM PM ]" in told
    assert re.search(r"cr0 +0x80050033", told)


@needs_gdb
def test_system_calls_and_exit_status() -> None:
    with serving("images/cow-fork") as where:
        told = gdb(where, "catch syscall write", "continue", "continue", "continue")
    assert "call to syscall write" in told
    assert "returned from syscall write" in told
    assert "exited normally" in told


@needs_gdb
def test_a_rom() -> None:
    with serving("images/rom-double-fault") as where:
        told = gdb(
            where, "break *0x1001fa", "continue", "x/1i $eip", "reverse-stepi", "x/1i $eip", "info threads",
            "info registers cr0", "kill",
        )  # fmt: skip
    assert "div    %ecx" in told
    assert "0x1001f8" in told
    assert "CPU 0" in told


@needs_gdb
def test_a_module() -> None:
    with serving("images/uaccess") as where:
        told = gdb(where, "x/1i $eip", "stepi", "monitor maps", "monitor step", "continue")
    assert "module uaccess" in told
    assert "use gdb's own command" in told
    assert "exited normally" in told


@needs_gdb
def test_detach_and_back_again() -> None:
    command = [sys.executable, "-m", "sandbox", "gdb", "images/cow-fork", "--port", "0"]
    with running(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        where = next(line for line in process.stdout if line.startswith("gdb: ")).split()[-1]
        assert "080480be" in gdb(where, "stepi", "detach")
        assert re.search(r"eip +0x80480be", gdb(where, "info registers eip", "kill"))
        assert process.wait(PATIENCE) == 0


@needs_gdb
def test_gdbs_interrupt_stops_a_running_guest(tmp_path: Path) -> None:
    (tmp_path / "loop.S").write_text(".globl _start\n_start: jmp _start\n")
    with serving(str(tmp_path / "loop.S")) as where:
        told = gdb(
            where, "python import threading, os, signal",
            "python threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()",
            "continue", "info registers eip", "kill",
        )  # fmt: skip
    assert "SIGINT" in told
    assert "0x8048" in told


def test_packets_are_framed(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    stream = PacketStream(ours)
    for data in (b"", b"g", bytes(range(256)).replace(b"#", b"").replace(b"$", b"")):
        body = data if data != bytes(range(256)) else escape(data)
        theirs.sendall(b"noise$" + body + b"#" + checksum(body))
    assert stream.receive() == b""
    assert stream.receive() == b"g"
    assert theirs.recv(100) == b"++"
    theirs.sendall(b"$bad#00$k#6b")
    stream.receive()
    assert stream.receive() == b"k"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("seed", range(4))
def test_binary_data_survives(seed: int) -> None:
    data = random.Random(seed).randbytes(1000) + b"$#}*" * 3
    assert unescape(escape(data)) == data
    assert b"$" not in escape(data)
    assert b"#" not in escape(data)


@pytest.mark.parametrize("packet", ["p-fff", "P-fff=0", "m-4,4", "m4,-4", "Z0,-4,1", "T-1_0", "vFile:close:-3", "p 1"])
def test_a_sign_is_no_number(packet: str) -> None:
    """The protocol's numbers are hexadecimal digits and nothing else."""
    ours, theirs = socket.socketpair()
    with remote("cow-fork") as made, ours, theirs:
        assert Stub(made, ours).answer(packet.encode()) == b"E01"


@pytest.mark.parametrize("line", ["step", "cont", "si", "reverse-st", "line", "until 0", "goto start", "fini", "q"])
def test_monitor_lets_nothing_run(line: str) -> None:
    """However it is abbreviated: gdb would not know."""
    ours, theirs = socket.socketpair()
    with remote("cow-fork") as made, ours, theirs:
        where = made.execute("when").lines
        stub = Stub(made, ours)
        assert stub.answer(b"qRcmd," + line.encode().hex().encode()) == b"OK"
        told = theirs.recv(1000)
        assert f"{line.split()[0]}: use gdb's own command".encode().hex().encode() in told
        assert made.execute("when").lines == where


def test_random_packets_end_nothing() -> None:
    """2,500 of them here, and 10,000 in the campaign of the slow tests: an answer to each, and the guest still runs."""
    _throw(2500, 1)


@pytest.mark.campaign
def test_many_random_packets_end_nothing() -> None:
    _throw(10_000, 2)


def _throw(count: int, seed: int) -> None:
    chosen = random.Random(seed)
    heads = [
        b"g",
        b"G",
        b"p",
        b"P",
        b"m",
        b"M",
        b"X",
        b"Z",
        b"z",
        b"H",
        b"T",
        b"q",
        b"Q",
        b"v",
        b"b",
        b"!",
        b"?",
        b"i",
        b"",
    ]
    words = [
        b"0", b"1", b"-1", b"ffffffff", b",", b":", b";", b"4", b"804a000", b"=",
        b"Xfer:features:read:target.xml:0,ffff",
        b"Xfer:auxv:read::", b"Xfer:", b"Rcmd,", b"File:open:", b"File:pread:3,", b"File:fstat:3", b"Cont?",
        b"ThreadExtraInfo,",
        b"Xfer:siginfo:write::0:", b"Xfer:siginfo:read::0,80", b"Xfer:libraries:read::0,100", b"ProgramSignals:",
        b"Run;", b"File:readlink:2f", b"CatchSyscalls:1;", b"PassSignals:",
        b"Supported:multiprocess+;fork-events+", b"p3.3", b"p3.-1", b"gp3.0", b"p-1.-1", b"p4", b"Attach;3", b"Attach;",
        b"ThreadEvents:1", b"ThreadEvents:", b"ThreadExtraInfo,p3.3", b"Xfer:exec-file:read:3:0,100", b"Attached:3",
        b"Xfer:libraries-svr4:read::0,100", b"0,804a000,4", b"1,c0100000,1", b"C", b"sThreadInfo",
        b"c000000", b"zz", b"\x00\xff", b"fThreadInfo", b"Supported:x",
        b"0" * 300,
    ]  # fmt: skip
    ours, theirs = socket.socketpair()
    with remote("cow-fork") as made, ours, theirs:
        stub = Stub(made, ours, True)
        for _ in range(count):
            packet = chosen.choice(heads) + b"".join(chosen.choices(words, k=chosen.randrange(5)))
            if chosen.random() < 0.2:
                packet = chosen.randbytes(chosen.randrange(40))
            if packet[:1] in b"kDcCsSbR" and packet[:1]:
                continue
            if packet.startswith((b"vCont;", b"vKill", b"vRun")):
                continue
            reply = stub.answer(packet)
            assert reply is None or isinstance(reply, bytes)
            theirs.setblocking(False)
            with suppress(BlockingIOError):
                theirs.recv(1 << 20)
        made.execute("delete")
        made.execute("goto start")  # before all that the packets have set
        stop = made.execute("continue").stop
        assert stop is not None and stop.ended and stop.headline == "exit status 0"


@needs_gdb
def test_watchpoints_of_gdb() -> None:
    """What the image's two processes store and load at 0x804a000 (its source), and back to each."""
    with serving("images/cow-fork") as where:
        told = gdb(
            where, "watch *(int*)0x804a000", "continue", "continue", "reverse-continue", "x/1xw 0x804a000",
            "continue", "delete", "rwatch *(int*)0x804a000", "continue", "kill",
        )  # fmt: skip
    assert "Hardware watchpoint 1: *(int*)0x804a000" in told
    news = re.findall(r"New value = (\d+)", told)
    assert news == ["7", "8", "7", "8"], "to the child's store, back to the parent's, and forward again"
    assert "Hardware read watchpoint 2: *(int*)0x804a000" in told
    assert "Value = " in told
