"""The base of all errors."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.x86.errors import ConfigurationError, OurBug, SandboxError, error_of


def test_summary_is_the_message_and_detail_is_apart() -> None:
    error = SandboxError("image hello.elf: no entry", "line one\nline two")
    assert str(error) == error.summary == "image hello.elf: no entry"
    assert error.detail == "line one\nline two"
    assert SandboxError("x").detail == ""


def test_exit_statuses() -> None:
    assert SandboxError.exit_status == 3
    assert ConfigurationError("ram of 0 bytes").exit_status == 2
    assert issubclass(ConfigurationError, SandboxError)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "this host has no more memory for the command"),
        (OSError(errno.EMFILE, "Too many open files"), "this host refuses: Too many open files"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/x"),
            "this host refuses: /tmp/x: No space left on device",
        ),
        (OSError(errno.EFBIG, "File too large"), "this host refuses: File too large"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            "this host refuses: No usable temporary directory found in ['/tmp']",
        ),
    ],
    ids=("memory", "descriptors", "space", "size", "temporary"),
)
def test_what_the_host_has_not_is_no_bug(error: Exception, told: str) -> None:
    found = error_of(error)
    assert (found.summary, found.exit_status) == (told, 2)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file or directory"), OSError("x"), KeyError(1)]
)
def test_anything_else_is_ours(error: Exception) -> None:
    assert isinstance(error_of(error), OurBug)
    assert error_of(error).exit_status == 3


@pytest.mark.parametrize(
    ("limit", "value", "words", "told"),
    [
        ("RLIMIT_NOFILE", 7, ["debug", "images/cow-fork", "-e", "step"], "this host refuses: Too many open files"),
        ("RLIMIT_FSIZE", 0, ["record", "images/cow-fork", "-o", "{}/x.rec"], "this host refuses: File too large"),
    ],
    ids=("descriptors", "size"),
)
def test_a_limit_of_the_host_is_one_line(limit: str, value: int, words: list[str], told: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *(word.format(tmp_path) for word in words)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(getattr(resource, limit), (value, value)),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, f"sandbox: {told}\n")
