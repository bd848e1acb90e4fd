"""Files that a user names: what has no end, or no bytes, is refused before it is read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandbox.image.files import UnusableFile, read_file, read_text


def test_regular_files_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "file", 5) == read_file(tmp_path / "link", 5) == b"12345"
    with pytest.raises(UnusableFile, match="larger than") as caught:
        read_file(tmp_path / "file", 4)
    assert caught.value.exit_status == 2


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnusableFile, match="larger than 512 MB"):
        read_file(tmp_path / "huge")
    with pytest.raises(UnusableFile, match="larger than 16 MB"):
        read_text(tmp_path / "huge")


def test_a_file_that_grows_without_telling() -> None:
    """/proc/self/maps says that it has 0 bytes."""
    assert len(read_file("/proc/self/maps")) > 100
    with pytest.raises(UnusableFile, match="larger than"):
        read_file("/proc/self/maps", 100)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        for path, said in (
            (tmp_path / "fifo", "a FIFO, not a regular file"),
            ("/dev/zero", "a device, not a regular file"),
            (tmp_path, "Is a directory"),
            (tmp_path / "s", "No such device or address"),
            (tmp_path / "none", "No such file"),
            ("a\0b", "null byte"),
        ):
            with pytest.raises(UnusableFile, match=said):
                read_file(path)


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"help\n\xff")
    with pytest.raises(UnusableFile, match="not a text: invalid start byte at byte 5"):
        read_text(tmp_path / "file")
