"""Files that a command is to write: refused with the reason before anything runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox.cli import places
from sandbox.cli.places import check_folder, check_place
from sandbox.x86.errors import ConfigurationError
from tests.cli.test_cli import Files, call, elf  # noqa: F401


def test_a_file_that_can_be_made_or_overwritten(tmp_path: Path) -> None:
    check_place("-o", tmp_path / "new")
    (tmp_path / "old").write_text("x")
    check_place("-o", tmp_path / "old")


@pytest.mark.parametrize(
    ("name", "why"),
    [("", "not a regular file"), ("no/such", "cannot be written: there is no such folder")],
)
def test_what_cannot_be(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^-o .*: {why}$"):
        check_place("-o", tmp_path / name)


@pytest.mark.parametrize(("flags", "why"), [(os.ST_RDONLY, "a read-only file system"), (0, "permission denied")])
def test_why_it_cannot_be_written(tmp_path: Path, flags: int, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, and mounting is not for a test: the two answers of the host are given here."""
    monkeypatch.setattr(places.os, "access", lambda path, mode: False)
    found = type("Flags", (), {"f_flag": flags})
    monkeypatch.setattr(places.os, "statvfs", lambda path: found)
    with pytest.raises(ConfigurationError, match=f"cannot be written: {why}$"):
        check_place("-o", tmp_path / "new")


def test_a_folder_that_is_there_or_can_be_made(tmp_path: Path) -> None:
    check_folder("--image", tmp_path)
    check_folder("--image", tmp_path / "new" / "newer")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match=f"^--image .*: {tmp_path}/file is not a folder$"):
        check_folder("--image", tmp_path / "file" / "new")


@pytest.mark.parametrize(
    "words",
    [
        ("record", "-o"), ("run", "--core"), ("compare", "kmap", "--svg"),
        *(("semantics", each) for each in ("--junit", "--page", "--record", "--resume")),
    ],
    ids=lambda words: words[-1],
)  # fmt: skip
def test_commands_refuse_first(words: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = ("images/cow-fork",) if words[0] in ("record", "run") else ()
    place = tmp_path / "none" / "file"
    status, out, err = call([*words, str(place), *image], capfd)
    assert (status, out) == (2, "")
    assert err == f"sandbox: {words[-1]} {place}: cannot be written: there is no such folder\n"
