"""Who may connect to the stub, and what becomes of the guest when gdb goes: by its own word, killed, or with us."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.debug.gdb.packets import checksum
from tests.debug.test_gdb import ROOT, gdb, needs_gdb
from tests.patience import PATIENCE, alive, busy, family, running, until


@contextmanager
def lasting(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``sandbox gdb`` without ``--once``, and its address."""
    command = [sys.executable, "-m", "sandbox", "gdb", *words, "--port", "0"]
    with running(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, next(line for line in process.stdout if line.startswith("gdb: ")).split()[-1]
        finally:
            process.terminate()


def connected(where: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def ask(connection: socket.socket, packet: bytes) -> bytes:
    """The reply's data."""
    connection.sendall(b"$" + packet + b"#" + checksum(packet))
    return heard(connection)


def heard(connection: socket.socket) -> bytes:
    data = b""
    while not re.search(rb"\$[^#]*#..$", data):
        piece = connection.recv(4096)
        assert piece, "the connection was closed"
        data += piece
    return data[data.rindex(b"$") + 1 : -3]


@pytest.fixture
def loop(tmp_path: Path) -> str:
    (tmp_path / "loop.S").write_text(".globl _start\n_start: inc %esi\njmp _start\n")
    return str(tmp_path / "loop.S")


def test_only_this_host_unless_asked() -> None:
    with lasting("images/cow-fork") as (process, where):
        host, _, port = where.rpartition(":")
        assert host == "127.0.0.1"
        listening = Path(f"/proc/{process.pid}/net/tcp").read_text()
        rows = [line.split()[1] for line in listening.splitlines()[1:] if line.split()[3] == "0A"]
        assert [row.split(":")[0] for row in rows if int(row.split(":")[1], 16) == int(port)] == ["0100007F"]
    with lasting("images/cow-fork", "--listen", "0.0.0.0") as (_, where):
        assert where.startswith("0.0.0.0:")


def test_one_at_a_time() -> None:
    with lasting("images/cow-fork") as (_, where), connected(where) as first:
        assert ask(first, b"?").startswith(b"T05")
        with connected(where) as second:
            assert second.recv(100) == b""
        assert ask(first, b"?").startswith(b"T05")


def test_who_is_gone_in_the_middle_of_a_run(loop: str) -> None:
    """The guest is stopped, and the next one finds it where it came to."""
    with lasting(loop) as (process, where):
        with connected(where) as first:
            first.sendall(b"$vCont;c#a8")
            busy(process.pid, 0.2)
        with connected(where) as second:
            assert ask(second, b"?").startswith(b"T02")
            turns = int.from_bytes(bytes.fromhex(ask(second, b"p6").decode()), "little")
            assert turns > 100
            assert ask(second, b"vCont;s").startswith(b"T05")
        assert process.poll() is None


@needs_gdb
def test_gdb_is_killed_in_the_middle(loop: str) -> None:
    with lasting(loop) as (process, where):
        words = ["gdb", "-nx", "-batch", "-ex", f"target remote {where}", "-ex", "echo runs\\n", "-ex", "continue"]
        with running(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as killed:
            assert killed.stdout is not None
            assert any(line == "runs\n" for line in killed.stdout)
            busy(process.pid, 0.2)
            killed.kill()
        told = gdb(where, "info registers eip", "kill")
        assert re.search(r"eip +0x80480\w\w", told)


def test_an_interrupt_that_comes_with_its_command(loop: str) -> None:
    """Both in one piece: the run is stopped all the same."""
    with lasting(loop) as (_, where), connected(where) as gdbs:
        gdbs.sendall(b"$vCont;c#a8\x03")
        assert heard(gdbs).startswith(b"T02")


def test_an_interrupt_on_the_way_back(loop: str) -> None:
    """Whoever runs the machine then: another process at each checkpoint.  It leads to where the way back began."""
    with lasting(loop) as (process, where), connected(where) as gdbs:
        gdbs.sendall(b"$vCont;c#a8")
        busy(process.pid, 1.0)
        gdbs.sendall(b"\x03")
        assert heard(gdbs).startswith(b"T02")
        here = ask(gdbs, b"p8"), ask(gdbs, b"p6")
        for wait in (0.0, 0.02, 0.3):
            gdbs.sendall(b"$bc#c5")
            time.sleep(wait)
            gdbs.sendall(b"\x03")
            assert heard(gdbs).startswith(b"T02"), wait
            assert (ask(gdbs, b"p8"), ask(gdbs, b"p6")) == here
        assert ask(gdbs, b"vCont;s").startswith(b"T05"), "it was for the way back only"
        assert ask(gdbs, b"bs").startswith(b"T05")
        assert (ask(gdbs, b"p8"), ask(gdbs, b"p6")) == here
        assert process.poll() is None


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", "gdb", "images/cow-fork", "--port", str(port)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"sandbox: 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("running", [False, True], ids=["waits", "runs"])
def test_ctrl_c_at_the_server_ends_it(loop: str, running: bool) -> None:
    """Also while a guest runs: no process is left, gdb sees the connection closed."""
    with lasting(loop) as (process, where), connected(where) as gdbs:
        assert ask(gdbs, b"?").startswith(b"T05")
        if running:
            gdbs.sendall(b"$vCont;c#a8")
            busy(process.pid, 0.2)
        children = family(process.pid)[1:]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "sandbox: interrupted\n"
        with pytest.raises(AssertionError, match="closed"):
            heard(gdbs)
            heard(gdbs)
        until(lambda: not any(map(alive, children)))


@needs_gdb
def test_restart_and_kill() -> None:
    """``run`` and ``kill`` under extended-remote: the guest is at its beginning again, as often as gdb likes."""
    with lasting("images/cow-fork") as (process, where):
        words = [
            "set remote exec-file /bin/cow-fork", "break child", "continue", "kill", "run", "info registers eip",
            "continue", "continue", "run", "info symbol $eip", "kill",
        ]  # fmt: skip
        told = gdb(where, *words, mode="extended-remote")
        assert told.count("Breakpoint 1, 0x08048137 in child ()") >= 2
        assert "exited normally" in told
        assert process.poll() is None
        told = gdb(where, "info registers eip", "kill")
        assert re.search(r"eip +0x80480b4", told)
        assert "No more reverse" not in told


@needs_gdb
@pytest.mark.parametrize("mode", ["tasks", "processes", "cpus"])
def test_the_guest_begins_again(mode: str) -> None:
    """``starti``, ``run`` while it runs, ``kill``, ``detach`` and who comes then, in each kind of threads."""
    with lasting("images/cow-fork", "--threads", mode) as (process, where):
        words = [
            "set remote exec-file /bin/cow-fork", "break child", "starti", "info registers eip", "continue", "starti",
            "info registers eip", "delete", "run", "kill", "starti", "stepi", "detach",
        ]  # fmt: skip
        told = gdb(where, *words, mode="extended-remote")
        assert re.findall(r"^eip +0x(\w+)", told, re.M) == ["80480b4", "80480b4"], told
        assert "exited normally" in told
        assert process.poll() is None
        assert re.search(r"eip +0x80480be", gdb(where, "info registers eip", "stepi", "detach"))
        told = gdb(where, "info registers eip", "kill")
        assert re.search(r"eip +0x80480c8", told)
        assert process.wait(30) == 0, "a kill by who cannot start it again ends the server"
