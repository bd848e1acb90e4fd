"""A terminal between a person and the guest, with the same program on this host's own terminal as the oracle."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.patience import PATIENCE, resting, running

READY = b"ready"
TALK = """
_start: say     "ready\\n"
1:      sys     read, 0, "offset room", 256
        test    eax, eax
        jle     2f
        mov     edi, eax
        say     "<"
        sys     write, 1, "offset room", edi
        say     ">"
        jmp     1b
2:      say     "end\\n"
        pass
        .bss
room:   .skip   256
"""
LOOK = """
_start: mov     eax, 54                     # ioctl
        mov     ebx, 0
        mov     ecx, 0x5413                 # TIOCGWINSZ
        mov     edx, offset size
        int     0x80
        movzx   ebx, word ptr [size]
        movzx   eax, word ptr [size+2]
        add     ebx, eax
        sys     exit, ebx
        .bss
size:   .skip   8
"""
ENDLESS = '_start: say "ready\\n"\n1: jmp 1b'


class Terminal:
    """A process on a pseudo terminal."""

    def __init__(self, argv: list[str], rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for number in range(3):
                os.dup2(slave, number)
            os.closerange(3, 64)
            os.execv(argv[0], argv)
        self.seen = b""
        self.status: int | None = None

    def read(self, until: bytes = b"", seconds: float = PATIENCE, quiet: float = 0.4) -> bytes:
        """What came up to some text, or until nothing has come for a while (``quiet`` seconds)."""
        end = time.monotonic() + seconds
        start = len(self.seen)
        while time.monotonic() < end:
            if until and until in self.seen[start:]:
                break
            if not select.select([self.master], [], [], quiet if not until else 0.1)[0]:
                if not until or self.ended():
                    break
                continue
            with contextlib.suppress(OSError):
                self.seen += os.read(self.master, 4096)
        return self.seen[start:]

    def settle(self, quiet: float) -> None:
        """Let it take what was typed: it sleeps, and what it had to show is here."""
        resting(self.pid, quiet)
        self.read(quiet=0.05)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self) -> int:
        end = time.monotonic() + PATIENCE
        while not self.ended() and time.monotonic() < end:
            self.read(seconds=0.05)
        assert self.status is not None
        return self.status

    def close(self) -> None:
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def terminal(argv: list[str], rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    made = Terminal(argv, rows, columns)
    try:
        yield made
    finally:
        made.close()


def sandboxed(path: Path, *options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "sandbox", "run", "--status", "--time-limit", "30", *options, str(path)]


@pytest.fixture
def executable(program: Program, tmp_path: Path) -> Iterator[object]:
    def make(text: str) -> Path:
        path = tmp_path / "guest"
        path.write_bytes(program(text))
        path.chmod(0o755)
        return path

    yield make


def conversation(argv: list[str], typed: list[bytes], quiet: float = 0.15) -> tuple[bytes, int]:
    """All that the screen showed behind the first word, and the status.  Who types waits until it was taken."""
    with terminal(argv) as screen:
        screen.read(READY)
        for text in typed:
            screen.type(text)
            screen.settle(quiet)
        status = screen.wait()
        screen.read(quiet=0.1)
        return screen.seen.partition(READY)[2], status


TYPED = {
    "a line": [b"hello\r", b"\x04"],
    "erase": [b"abc\x7f\x7fxy\r", b"\x04"],
    "erase nothing": [b"\x7f\x7fa\r", b"\x04"],
    "kill the line": [b"gone\x15kept\r", b"\x04"],
    "erase a word": [b"one two \x17three\r", b"\x04"],
    "literal": [b"a\x16\x04b\x16\x7f\r", b"\x04"],
    "a control letter": [b"a\x01b\x7fc\r", b"\x04"],
    "end in a line": [b"half\x04", b"\r", b"\x04"],
    "two lines at once": [b"one\rtwo\r", b"\x04"],
    "reprint": [b"ab\x12c\r", b"\x04"],
    "a tab": [b"a\tb\x7f\x7fc\r", b"\x04"],
    "newline": [b"a\n", b"\x04"],
    "interrupt": [b"abc", b"\x03"],
    "quit": [b"abc", b"\x1c"],
}


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED.keys())
def test_cooked_as_on_the_host(executable: object, typed: list[bytes]) -> None:
    path = executable(TALK)  # type: ignore[operator]
    try:
        theirs, status = conversation([str(path)], typed)
    except OSError as error:
        pytest.skip(f"i386 programs do not run here: {error}")
    for quiet in (0.15, 1.5, 5.0):  # a busy host may not have passed on what was typed
        mine, own = conversation(sandboxed(path), typed, quiet)
        narrated = mine.partition(b"\x1b[")[0] if own > 128 else mine
        if narrated == theirs:
            break
    assert narrated == theirs
    assert own == (status if status >= 0 else 128 - status)


def test_window_size(executable: object) -> None:
    with terminal(sandboxed(executable(LOOK)), 33, 100) as screen:  # type: ignore[operator]
        assert screen.wait() == 133


@pytest.mark.parametrize("ending", ["by itself", "killed by Ctrl-C", "SIGTERM", "three times Ctrl-]"])
def test_the_terminal_is_put_back(executable: object, ending: str) -> None:
    text = TALK if ending == "by itself" else ENDLESS
    with terminal(sandboxed(executable(text))) as screen:  # type: ignore[operator]
        screen.read(READY)
        during = termios.tcgetattr(screen.slave)
        assert not during[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        if ending == "SIGTERM":
            os.kill(screen.pid, signal.SIGTERM)
        else:
            screen.type({"by itself": b"\x04", "killed by Ctrl-C": b"\x03"}.get(ending, b"\x1d\x1d\x1d"))
        status = screen.wait()
        assert termios.tcgetattr(screen.slave) == screen.before
        assert status == {"by itself": 0, "SIGTERM": 128 + signal.SIGTERM}.get(ending, 128 + signal.SIGINT), screen.seen


def test_time_limit_holds_while_the_terminal_is_idle(program: Program, tmp_path: Path) -> None:
    """Without one it would wait for ever, which is all that a test can tell."""
    path = tmp_path / "t"
    path.write_bytes(program(TALK))
    with terminal([sys.executable, "-P", "-m", "sandbox", "run", "--time-limit", "2", str(path)]) as made:
        made.read(READY)
        assert made.wait() == 1
        assert b"limit reached: 2 s of host time" in made.seen


def test_the_debuggers_prompt_stops_the_time_limit(tmp_path: Path, program: Program) -> None:
    """For a person, however long it takes; a script that takes its time is cut off."""
    path = tmp_path / "exits"
    path.write_bytes(program("_start: sys getpid\n sys getpid\n pass"))
    command = [sys.executable, "-m", "sandbox", "debug", "--time-limit", "2", str(path)]
    with (
        running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        terminal(command) as tty,
    ):
        assert process.stdout.readline().startswith("task 3, moment")
        tty.read(b"(sandbox) ")
        time.sleep(2.5)
        tty.type(b"continue\n")
        assert b"exit status 0" in tty.read(b"exit status")
        tty.type(b"quit\n")
        assert tty.wait() == 0
        said, _ = process.communicate("continue\n", timeout=PATIENCE)
    assert "limit reached: 2 s of host time" in said
