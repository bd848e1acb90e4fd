"""The debugger on a terminal: Ctrl-C, history, what a person is told; its exit status."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_terminal import terminal
from tests.conftest import Program
from tests.debug.test_outside import ECHO
from tests.patience import busy, resting

ENDLESS = "_start: inc dword ptr [room]\n jmp _start\n .bss\nroom: .skip 4\n"
LONG = """
_start: mov     edi, 60
1:      mov     ecx, 50000000
2:      inc     dword ptr [room]
        loop    2b
        dec     edi
        jnz     1b
last:   sys     exit, 7
        .bss
room:   .skip   4
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "sandbox", "debug", *words]


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def built(program: Program, folder: Path, text: str) -> str:
    path = folder / "guest"
    path.write_bytes(program(text))
    return str(path)


def test_ctrl_c_comes_back_to_the_prompt(program: Program, tmp_path: Path) -> None:
    with terminal(command(built(program, tmp_path, ENDLESS))) as tty:
        tty.read(b"(sandbox) ")
        tty.type(b"continue\n")
        busy(tty.pid, 0.3)
        tty.type(b"\x03")
        assert b"interrupted, task 3" in tty.read(b"(sandbox) ")
        tty.type(b"reverse-step\n")
        assert b"moment" in tty.read(b"(sandbox) ")
        tty.type(b"quit\n")
        assert tty.wait() == 0


def test_ctrl_c_on_the_way_back(program: Program, tmp_path: Path) -> None:
    """A condition that never holds, over a run that takes its time: back where it began."""
    with terminal(command(built(program, tmp_path, ENDLESS))) as tty:
        tty.read(b"(sandbox) ")
        tty.type(b"continue\n")
        busy(tty.pid, 1.5)
        tty.type(b"\x03")
        tty.read(b"(sandbox) ")
        tty.type(b"when\n")
        before = tty.read(b"(sandbox) ").splitlines()[1]
        tty.type(b"break _start if $eax == 5\n")
        tty.read(b"(sandbox) ")
        tty.type(b"reverse-continue\n")
        assert b"going back" in tty.read(b"going back")
        tty.type(b"\x03")
        assert b"interrupted: this is where it began" in tty.read(b"(sandbox) ", seconds=60)
        tty.type(b"when\n")
        assert before in tty.read(b"(sandbox) ")


def test_ctrl_c_while_the_guest_waits_for_input(program: Program, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holds = os.open(fifo, os.O_RDWR)
    with terminal(command("--stdin", str(fifo), built(program, tmp_path, ECHO))) as tty:
        tty.read(b"(sandbox) ")
        tty.type(b"continue\n")
        resting(tty.pid)
        tty.type(b"\x03")
        assert b"interrupted, while it waits for the host" in tty.read(b"(sandbox) ")
        os.write(holds, b"abcd\n")
        tty.type(b"tbreak _start\n")
        tty.read(b"(sandbox) ")
        tty.type(b"continue\n")
        assert b"abcd" in tty.read(b"(sandbox) ")
        tty.type(b"reverse-step\n")
        assert b"error" not in tty.read(b"(sandbox) ")
    os.close(holds)


def test_a_terminal_of_its_own_for_the_guest(program: Program, tmp_path: Path) -> None:
    """What is typed there comes again, and the answer is shown once."""
    theirs, name = pty.openpty()
    with terminal(command("--stdin", os.ttyname(name), built(program, tmp_path, ECHO))) as tty:
        tty.read(b"(sandbox) ")
        os.write(theirs, b"abc\n")
        tty.type(b"continue\n")
        resting(tty.pid)
        os.write(theirs, b"\x04")
        assert b"exit status 0" in tty.read(b"exit status", seconds=30)
        seen = os.read(theirs, 4096)
        assert seen.count(b"abc") == 2  # its echo, and what the program wrote
        tty.type(b"goto start\n")
        tty.read(b"(sandbox) ")
        tty.type(b"continue\n")
        assert b"exit status 0" in tty.read(b"exit status", seconds=30)
    os.close(theirs)
    os.close(name)


def test_history_is_there_the_next_time(program: Program, tmp_path: Path, state_home: Path) -> None:
    path = built(program, tmp_path, ENDLESS)
    with terminal(command(path)) as tty:
        tty.read(b"(sandbox) ")
        tty.type(b"print 41 + 1\n")
        tty.read(b"(sandbox) ")
        tty.type(b"quit\n")
        assert tty.wait() == 0
    assert "print 41 + 1" in (state_home / "sandbox" / "debug_history").read_text()
    with terminal(command(path)) as tty:
        tty.read(b"(sandbox) ")
        tty.type(b"\x10\x10\n")  # Ctrl-P: quit, and what was before it
        assert b"print 41 + 1" in tty.read(b"(sandbox) ")


@pytest.mark.parametrize(
    ("words", "status"),
    [(["--status"], 7), ([], 0), (["--status", "-e", "goto start"], 0)],
    ids=["asked", "not", "back"],
)
def test_exit_status(words: list[str], status: int, program: Program, tmp_path: Path) -> None:
    """The guest's own where that is asked for, as run has it; 0 for a guest that is not at its end."""
    path = built(program, tmp_path, "_start: sys exit, 7")
    asked = words[:1] if words[:1] == ["--status"] else []
    done = subprocess.run([*command(*asked, path, "-e", "continue"), *words[1:]], capture_output=True, timeout=120)
    assert done.returncode == status, done


def test_an_empty_line_repeats_only_at_a_terminal(program: Program, tmp_path: Path) -> None:
    image = built(program, tmp_path, LONG)
    lines = b"step\n\n\nwhen\n"
    done = subprocess.run(command(image), input=lines, capture_output=True, check=True, timeout=60)
    assert done.stdout.count(b"-> ") == 2, "where it begins, and one step"
    with terminal(command(image)) as tty:
        tty.read(b"(sandbox) ")
        for line in (b"step\n", b"\n", b"\n"):
            tty.type(line)
            assert b"-> " in tty.read(b"(sandbox) ")
        tty.type(b"quit\n")


def test_tab_ends_a_whole_word(program: Program, tmp_path: Path) -> None:
    with terminal(command(built(program, tmp_path, LONG))) as tty:
        tty.read(b"(sandbox) ")
        tty.type(b"bac\t#\n")
        assert b"backtrace #" in tty.read(b"(sandbox) ")
        tty.type(b"quit\n")
