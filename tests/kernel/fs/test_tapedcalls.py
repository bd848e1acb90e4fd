"""The host is asked once; what it changed meanwhile is noticed.  The expectations are what was done to real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.kernel.base.tape import NotRepeatable, Tape
from sandbox.kernel.fs.hostcalls import CREATE, FIND
from sandbox.kernel.fs.tapedcalls import TapedCalls


def opened(calls: TapedCalls, folder: Path) -> int:
    root = calls.root(str(folder), os.O_DIRECTORY)
    return calls.reopen(calls.open(b"file", FIND, root), os.O_RDONLY)


def test_the_past_is_read_without_the_host(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    tape = Tape()
    calls = TapedCalls(tape)
    number = opened(calls, tmp_path)
    before = calls.read(number, 10, 0), calls.stat(number), calls.entries(0), calls.size(number, number)
    (tmp_path / "file").write_bytes(b"newer")
    tape.position = 0
    again = TapedCalls(tape)
    number = opened(again, tmp_path)
    assert (again.read(number, 10, 0), again.stat(number), again.entries(0), again.size(number, number)) == before
    assert again.read(number, 10, 0) == b"newer", "behind the tape's end the host is asked"


def test_another_file_of_the_name_is_no_way_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    tape = Tape()
    opened(TapedCalls(tape), tmp_path)
    (tmp_path / "other").write_bytes(b"new")
    (tmp_path / "other").rename(tmp_path / "file")
    tape.position = 0
    again = TapedCalls(tape)
    number = opened(again, tmp_path)
    with pytest.raises(NotRepeatable, match="another one than it was"):
        again.read(number, 10, 0)


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(2):
        tape.position = 0
        calls = TapedCalls(tape)
        root = calls.root(str(tmp_path), os.O_DIRECTORY)
        number = calls.open(b"made", CREATE, root)
        calls.write(number, b"abc", 0)
        calls.mkdir(b"folder", root)
        tape.strict = True
    assert (tmp_path / "made").read_bytes() == b"abc"


def test_errors_come_again(tmp_path: Path) -> None:
    tape = Tape()
    for _ in range(2):
        tape.position = 0
        calls = TapedCalls(tape)
        root = calls.root(str(tmp_path), os.O_DIRECTORY)
        with pytest.raises(FileNotFoundError):
            calls.open(b"absent", FIND, root)
        (tmp_path / "absent").write_bytes(b"")
