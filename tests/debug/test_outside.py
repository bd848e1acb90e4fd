"""What comes in from the host is kept and given again; what goes out is shown once.

The expectations are what was sent, and how often: Linux's pipes and files are read once only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox.debug.open import open_target
from sandbox.debug.worker import Remote
from sandbox.runner.outside import Input, open_input, outside
from sandbox.runner.target import resolve
from sandbox.x86.errors import ConfigurationError
from tests.conftest import Program
from tests.debug.test_travel import state

ECHO = """
_start: sys     read, 0, "offset room", 5
        test    eax, eax
        jle     2f
        sys     write, 1, "offset room", eax
        jmp     _start
2:      sys     exit, 0
        .bss
room:   .skip   8
"""


@contextmanager
def debugged(program: bytes, given: Input, **changes: Any) -> Iterator[tuple[Remote, Path]]:
    """A remote on a program, and the file that its standard output is."""
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / "guest", Path(folder) / "said"
        path.write_bytes(program)
        image = resolve(path)
        config = image.config(**changes)
        config.time_limit = 0
        kept, new = os.dup(1), os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(new, 1)
        try:
            remote = Remote(lambda: open_target(image, config, outside(given)))
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            os.close(new)
        with remote:
            yield remote, said


def pipe_with(data: bytes) -> int:
    """The end of a pipe that is read, with all that will ever come."""
    ours, theirs = os.pipe()
    os.write(theirs, data)
    os.close(theirs)
    return ours


def test_a_pipe_is_read_once_and_given_again(program: Program) -> None:
    with debugged(program(ECHO), Input(descriptor=pipe_with(b"abcdefghijkl"))) as (remote, said):
        remote.execute("catch syscall read")
        seen = []
        for _ in range(3):
            remote.execute("continue")
            seen.append(remote.call(state))
        remote.execute("goto start")
        for each in seen:
            remote.execute("continue")
            assert remote.call(state) == each
        remote.execute("delete")
        assert remote.execute("continue").stop.headline == "exit status 0"  # type: ignore[union-attr]
        assert said.read_bytes() == b"abcdefghijkl"


def test_a_file_is_read_once_and_given_again(program: Program, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"0123456")
    given = open_input(str(tmp_path / "in"), False)
    with debugged(program(ECHO), given) as (remote, said):
        remote.execute("continue")
        for _ in range(2):
            remote.execute("goto start")
            assert remote.execute("continue").stop.headline == "exit status 0"  # type: ignore[union-attr]
        assert said.read_bytes() == b"0123456"


def test_another_future_reads_what_is_left(program: Program) -> None:
    """The first read asks for two bytes now: the rest comes with the next ones, and is shown."""
    with debugged(program(ECHO), Input(descriptor=pipe_with(b"abcdefgh"))) as (remote, said):
        remote.execute("continue")
        remote.execute("goto start")
        remote.execute("step 3")  # eax, ebx, ecx
        remote.execute("step")
        remote.execute("set $edx = 2")
        remote.execute("continue")
        assert said.read_bytes().startswith(b"abcdefgh")


def test_time_of_the_host_is_shown_again(program: Program) -> None:
    text = """
    _start: mov ebx, offset room
            mov eax, 13                    # time
            int 0x80
            mov ebx, offset room
            mov eax, 78                    # gettimeofday
            int 0x80
            nop
    stop:   sys exit, 0
            .bss
    room:   .skip 8
    """
    with debugged(program(text), Input(), clock="host") as (remote, _):
        remote.execute("break stop")
        remote.execute("continue")
        before = remote.call(state)
        remote.execute("goto start")
        remote.execute("continue")
        assert remote.call(state) == before


def test_no_such_input() -> None:
    with pytest.raises(ConfigurationError, match="--stdin /nowhere: No such file"):
        open_input("/nowhere", False)
    with pytest.raises(ConfigurationError, match="commands come from there"):
        open_input("-", False)


def test_our_own_input_for_the_program(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "guest"
    path.write_bytes(program(ECHO))
    words = [sys.executable, "-P", "-m", "sandbox", "debug", "--stdin", "-", str(path), "-e", "continue"]
    done = subprocess.run(words, input=b"over here\n", capture_output=True, timeout=120)
    assert b"over here\n" in done.stdout
    assert b"exit status 0" in done.stdout
